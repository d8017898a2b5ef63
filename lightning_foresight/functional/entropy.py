"""Shannon entropy of distributions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, data, describe, takes


@takes(p=data)
def entropy(p: Tensor, dim: int = -1, base: float = 2) -> Tensor:
    r"""Shannon entropy of distributions along an axis, with :math:`0 \log 0 = 0`.

    .. math:: H(p) = -\sum_i p_i \log p_i

    Args:
        p: Probabilities that sum to 1 along ``dim`` (not checked), any shape.
        dim: The axis that holds the distribution.
        base: Base of the logarithm; 2 gives bits.

    Returns:
        Entropies, of the shape of ``p`` without ``dim``.

    Raises:
        TypeError: If ``p`` is a tensor of integers, which are no probabilities.
        ValueError: If ``base`` is not above 1.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import entropy
        >>> entropy(torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]]))
        tensor([1.0000, 1.5000])
    """
    check_base("entropy", base)
    if not p.is_floating_point():
        raise TypeError(
            f"entropy(p): got {describe(p)}; expected probabilities, of a floating dtype. For samples use "
            "discrete_entropy(torch.bincount(labels))."
        )
    return -torch.special.xlogy(p, p).sum(dim) / math.log(base)
