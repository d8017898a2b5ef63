"""The data-processing inequality as a check of an estimator."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_foresight.functional._checks import data, takes


@takes(input_information=data)
def data_processing_gap(input_information: Tensor) -> Tensor:
    r"""How much I(X;T) rises from one layer of a chain to the next, at most; 0 if it never does.

    .. math:: \max_l \max(0, I(X;T_{l+1}) - I(X;T_l))

    In a chain :math:`X \to T_1 \to T_2 \to \dots` no processing adds information, so that a positive gap is the
    estimator's error, such as a bin width that suits one layer and not the next.

    Args:
        input_information: I(X;T) of the layers in the order of the chain, shape (layers,).

    Returns:
        The gap in the units of the input, a scalar.

    Source: Cover & Thomas, Elements of Information Theory (2006), theorem 2.8.1.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import data_processing_gap
        >>> data_processing_gap(torch.tensor([8.0, 6.5, 7.0, 3.0]))
        tensor(0.5000)
    """
    if input_information.numel() < 2:
        return torch.zeros_like(input_information.sum())
    return input_information.diff().max().clamp_min(0)
