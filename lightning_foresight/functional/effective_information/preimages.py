"""What pre-activations lead into each output bin: one interval, or two where the activation has a minimum."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_foresight.functional.effective_information.activations import Monotone, preimage_edges

# Activations that fall to one minimum and rise from there; to the left they come back to 0 from below.
VALLEYS = (nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish)
# Beyond this, all of them are 0 on the left, and the identity on the right, to more digits than there are.
FAR = 800.0
HALVINGS = 70


class Preimages(NamedTuple):
    """Intervals of the pre-activation and the output bins that they lead into.

    Attributes:
        edges: Ends of neighbouring intervals in ascending order, ``(intervals + 1,)``, float64; infinite at the ends.
        bins: The output bin of each interval, one-hot ``(intervals, out_bins)``, all 0 where outputs are dropped;
            ``None`` where intervals and bins are the same. Left and right of the interval in the middle, whose outputs
            lie below the range, those of equal distance from it lead into the same bin.
    """

    edges: Tensor
    bins: Tensor | None = None


def has_valley(activation: nn.Module | None) -> bool:
    """Say whether an activation falls to one minimum and rises from there."""
    return type(activation) in VALLEYS


def preimages(
    rule: Monotone | None,
    activation: nn.Module | None,
    out_range: tuple[float, float],
    out_bins: int,
    dtype: torch.dtype = torch.float64,
) -> Preimages:
    """Return the intervals that lead into equal bins of the output range.

    Args:
        rule: The inverse of a monotone activation; ``None`` for one with a valley.
        activation: The activation.
        out_range: Range of the outputs.
        out_bins: Number of bins.
        dtype: Floating type of the outputs: far to the left, those of a valley are rounded to 0 and count as 0.
    """
    if rule is not None:
        return Preimages(preimage_edges(rule, out_range, out_bins))
    assert activation is not None
    return _of_valley(type(activation).__name__, getattr(activation, "approximate", None), out_range, out_bins, dtype)


def resolution(outputs: Preimages) -> float:
    """Return how many output bins there are to a unit of the pre-activation, where they end at all."""
    rising = outputs.edges if outputs.bins is None else outputs.edges[len(outputs.edges) // 2 :]
    ends = rising[rising.isfinite()]
    return (len(ends) - 1) / float(ends[-1] - ends[0]) if len(ends) > 1 and ends[-1] > ends[0] else 1.0


@lru_cache(maxsize=64)
def _of_valley(
    kind: str, approximate: str | None, out_range: tuple[float, float], out_bins: int, dtype: torch.dtype
) -> Preimages:
    # A fresh one works on copies even where the model's works in place.
    activation = getattr(nn, kind)(**{} if approximate is None else {"approximate": approximate})
    values = torch.linspace(*out_range, out_bins + 1, dtype=torch.float64)
    with torch.inference_mode(False):
        bottom = _bottom(activation)
        # The tail that comes back to 0 rests on it, or comes so near that it is rounded to it, and counts as 0.
        rest = -3.0 if kind == "Hardswish" else _rounded_to_zero(activation, bottom, out_range[0], dtype)
        left = _place(activation, values, torch.full_like(values, -FAR), bottom.expand_as(values), falling=True)
        right = _place(activation, values, bottom.expand_as(values), values.clamp_min(0) + FAR, falling=False)
        unreached = values <= activation(bottom)
    # Where a value lies below the minimum, both of its places are the minimum.
    left, right = (torch.where(unreached, bottom, place) for place in (left, right))
    left[values == 0] = rest
    left[values > 0] = -math.inf
    if values[-1] == 0:  # the last bin is closed, so that what rests on 0 belongs to it
        left[-1] = -math.inf
    bins = torch.eye(out_bins, dtype=torch.float64)
    below = torch.zeros(1, out_bins, dtype=torch.float64)
    return Preimages(torch.cat([left.flip(0), right]), torch.cat([bins.flip(0), below, bins]))


def _bottom(activation: nn.Module) -> Tensor:
    """Return the place of the minimum: where the slope changes its sign."""
    low, high = torch.tensor(-3.0, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    with torch.enable_grad():
        for _ in range(HALVINGS):
            middle = ((low + high) / 2).requires_grad_()
            (slope,) = torch.autograd.grad(activation(middle), middle)
            low, high = (middle.detach(), high) if slope < 0 else (low, middle.detach())
    return (low + high) / 2


def _rounded_to_zero(activation: nn.Module, bottom: Tensor, start: float, dtype: torch.dtype) -> float:
    """Return the place left of which outputs are as far from the start of the range as 0 in a floating type."""
    wide = torch.promote_types(dtype, torch.float32)  # types of 16 bits are worked with in float32
    low, high = torch.full_like(bottom, -FAR), bottom
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        # Many at once: vector instructions round otherwise than single ones.
        outputs = activation(torch.full((64,), float(middle), dtype=wide)).to(dtype).to(wide)
        zero = bool(((outputs - start) == -start)[0])
        low, high = (middle, high) if zero else (low, middle)
    return float(low)


def _place(activation: nn.Module, values: Tensor, low: Tensor, high: Tensor, *, falling: bool) -> Tensor:
    """Return where the activation passes the values between two places, by halving."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        beyond = (activation(middle) < values) == falling
        low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
    return (low + high) / 2
