"""From activations to bin numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_choice, check_int, check_range, fail
from lightning_foresight.functional.discrete_entropy import CORRECTIONS

_OWNER = "binned"
DEFAULT_BINS = 30
_LARGEST_NUMBER = 2.0**62


def check_binning(
    bin_width: float | None = None,
    bins: int | None = None,
    range: tuple[float, float] | None = None,
    edges: Any = None,
    equal_mass: bool = False,
    correction: str = "none",
) -> None:
    """Check the options of ``"binned"`` without data, as a callback does when it is made."""
    check_choice(_OWNER, "correction", correction, CORRECTIONS)
    given = [name for name, value in (("bin_width", bin_width), ("bins", bins), ("edges", edges)) if value is not None]
    if len(given) > 1:
        raise ValueError(f"{_OWNER}({', '.join(given)}): expected one of bin_width, bins and edges. Keep one of them.")
    if bin_width is not None and not 0 < bin_width < math.inf:
        fail(
            _OWNER, "bin_width", bin_width, "expected a positive number, the width of a bin in units of the activation."
        )
    if bins is not None:
        check_int(_OWNER, "bins", bins, 2)
    if range is not None:
        check_range(_OWNER, "range", range)
        if bin_width is not None or edges is not None or equal_mass:
            fail(_OWNER, "range", range, "goes with bins= of equal width only. Leave it out.")
    if equal_mass and (bin_width is not None or edges is not None):
        fail(_OWNER, "equal_mass", equal_mass, "goes with bins= only.")
    if edges is not None:
        values = torch.as_tensor(edges)
        if values.ndim != 1 or values.numel() < 1 or not bool((values[1:] > values[:-1]).all()):
            fail(_OWNER, "edges", edges, "expected increasing numbers, the borders between bins.")


class Binning(NamedTuple):
    """How the activations of a layer become bin numbers."""

    codes: Callable[[Tensor], Tensor]  # of any shape, to whole numbers of any type; never falls as its argument rises
    low: float = -math.inf  # no number is below
    high: float = math.inf  # or above


def binning_of(
    rows: Tensor,
    ends: tuple[float, float],
    bin_width: float | None = None,
    bins: int | None = None,
    range: tuple[float, float] | None = None,
    edges: Any = None,
    equal_mass: bool = False,
) -> Binning:
    """Return the bins of a layer whose least and largest entry are ``ends``."""
    if not rows.is_floating_point():
        return Binning(lambda part: part, *ends)
    if bin_width is not None:
        if not max(-ends[0], ends[1]) / bin_width < _LARGEST_NUMBER:
            fail(
                _OWNER,
                "bin_width",
                bin_width,
                f"values reach {max(ends, key=abs):.3g}, where bins of this width have numbers beyond 64 bits. Pass "
                "a larger bin_width, or bins=; a layer of such values has usually diverged.",
            )
        first, last = (math.floor(end / bin_width) for end in ends)
        rounding = 1 + 1e-6 * max(-first, last)  # single precision may move an entry to the next bin, or further
        return Binning(lambda part: (part / bin_width).floor_(), first - rounding, last + rounding)
    bins = DEFAULT_BINS if bins is None else bins
    if equal_mass:
        ranks = torch.linspace(0, rows.numel() - 1, bins + 1, device=rows.device).round().long()[1:-1]
        edges = torch.unique(rows.flatten().sort().values[ranks])
    if edges is not None:
        borders = torch.as_tensor(edges, dtype=rows.dtype, device=rows.device)
        return Binning(lambda part: torch.bucketize(part.contiguous(), borders, right=True), 0, borders.numel())
    low, high = rows.new_tensor(ends if range is None else range).unbind()
    width = torch.where(high > low, (high - low) / bins, torch.ones_like(low))  # a constant layer fills one bin
    return Binning(lambda part: ((part - low) / width).floor_().clamp_(0, bins - 1), 0, bins - 1)


def possible_cells(rows: Tensor, ends: tuple[float, float], binning: Binning) -> float:
    """How many cells there are in the range of the units, for the correction that has to know."""
    low, high = binning.codes(rows.new_tensor(ends)).tolist()
    return math.exp(min(rows.shape[1] * math.log(high - low + 1), 300.0))


def name_of_bins(
    rows: Tensor,
    bin_width: float | None = None,
    bins: int | None = None,
    edges: Any = None,
    equal_mass: bool = False,
    range: tuple[float, float] | None = None,
) -> str:
    """Say in words which bins were taken."""
    if not rows.is_floating_point():
        return "integer values"
    if bin_width is not None:
        return f"bin_width={bin_width}"
    if edges is not None:
        return f"{len(edges) + 1} bins between given edges"
    where = " of equal mass" if equal_mass else "" if range is None else f" over {tuple(range)}"
    return f"{DEFAULT_BINS if bins is None else bins} bins{where}"
