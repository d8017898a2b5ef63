"""Equal bins, closed on the left and the last one on both sides, as in ``numpy.histogram``."""

from __future__ import annotations

import torch
from torch import Tensor


def clamped_bins(values: Tensor, ends: tuple[float, float], bins: int) -> Tensor:
    """Return the bins of values, int64; the outermost ones for values outside the range."""
    low, high = ends
    # Half precision has too few digits to scale by the number of bins.
    exact = values.to(torch.promote_types(values.dtype, torch.float32))
    return ((exact - low) * (bins / (high - low))).clamp_(0, bins - 1).floor_().long()


def bins_or_outside(values: Tensor, ends: tuple[float, float], bins: int) -> Tensor:
    """Return the bins of values, int64; ``bins`` for values outside the range."""
    low, high = ends
    return clamped_bins(values, ends, bins).masked_fill_((values < low) | (values > high), bins)
