"""Equal bins, closed on the left and the last one on both sides, as in ``numpy.histogram``."""

from __future__ import annotations

import torch
from torch import Tensor


def code_type(bins: int) -> torch.dtype:
    """Return the narrowest type that holds the bins and a mark for what is outside."""
    return torch.int16 if bins < torch.iinfo(torch.int16).max else torch.int32


def clamped_bins(values: Tensor, ends: tuple[float, float], bins: int) -> Tensor:
    """Return the bins of values, of :func:`code_type`; the outermost ones for values outside the range."""
    low, high = ends
    # Half precision has too few digits to scale by the number of bins.
    exact = values.to(torch.promote_types(values.dtype, torch.float32))
    return (exact - low).mul_(bins / (high - low)).clamp_(0, bins - 1).to(code_type(bins))


def bins_or_outside(values: Tensor, ends: tuple[float, float], bins: int) -> Tensor:
    """Return the bins of values, of :func:`code_type`; ``bins`` for values outside the range."""
    low, high = ends
    return clamped_bins(values, ends, bins).masked_fill_((values < low) | (values > high), bins)
