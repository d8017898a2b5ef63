"""Turn the out-weights of nodes into distributions."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_foresight.functional._checks import array, describe, takes


@takes(W=array)
def lin_norm(W: Tensor) -> Tensor:
    r"""Drop negative weights and divide each row by its sum.

    .. math:: P_{ij} = \frac{\max(W_{ij}, 0)}{\sum_k \max(W_{ik}, 0)}

    Args:
        W: Connectivity matrix, ``(inputs, outputs)``.

    Returns:
        Matrix of the same shape whose rows sum to 1; a row without a positive weight stays zero.

    Raises:
        ValueError: If ``W`` is not a real floating-point matrix.

    Source:
        the ``lin_norm`` of torch-foresight.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import lin_norm
        >>> lin_norm(torch.tensor([[1.0, 3.0, -4.0], [-1.0, -1.0, 0.0]]))
        tensor([[0.2500, 0.7500, 0.0000],
                [0.0000, 0.0000, 0.0000]])
    """
    _check_matrix("lin_norm", W)
    positive = W.relu()
    sums = positive.sum(1, keepdim=True)
    return torch.where(sums > 0, positive / sums, 0.0)


@takes(W=array)
def soft_norm(W: Tensor) -> Tensor:
    r"""Apply a softmax to each row.

    .. math:: P_{ij} = \frac{e^{W_{ij}}}{\sum_k e^{W_{ik}}}

    Args:
        W: Connectivity matrix, ``(inputs, outputs)``; an absent connection is a weight of 0, hence a share of
            :math:`e^0`.

    Returns:
        Matrix of the same shape whose rows sum to 1.

    Raises:
        ValueError: If ``W`` is not a real floating-point matrix.

    Source:
        the ``soft_norm`` of torch-foresight.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import soft_norm
        >>> soft_norm(torch.tensor([[0.0, 0.0]]))
        tensor([[0.5000, 0.5000]])
    """
    _check_matrix("soft_norm", W)
    return W.softmax(1)


@takes(W=array)
def sig_norm(W: Tensor) -> Tensor:
    r"""Apply the logistic function and divide each row by its sum.

    .. math:: P_{ij} = \frac{\sigma(W_{ij})}{\sum_k \sigma(W_{ik})}

    Args:
        W: Connectivity matrix, ``(inputs, outputs)``; an absent connection is a weight of 0, hence a share of
            :math:`\sigma(0) = 1/2`.

    Returns:
        Matrix of the same shape whose rows sum to 1.

    Raises:
        ValueError: If ``W`` is not a real floating-point matrix.

    Source:
        the ``sig_norm`` of torch-foresight.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import sig_norm
        >>> sig_norm(torch.tensor([[0.0, 0.0]]))
        tensor([[0.5000, 0.5000]])
    """
    _check_matrix("sig_norm", W)
    # A softmax of log-sigmoids: the same ratio, without underflow where all weights of a row are very negative.
    return torch.nn.functional.logsigmoid(W).softmax(1)


NORMS = {"lin": lin_norm, "soft": soft_norm, "sig": sig_norm}


def _check_matrix(owner: str, W: Tensor) -> None:
    if W.ndim != 2 or not W.is_floating_point():
        raise ValueError(
            f"{owner}(W): got {describe(W)}; expected a real floating-point matrix of shape (inputs, outputs). "
            "connectivity_matrix gives that of a layer."
        )
