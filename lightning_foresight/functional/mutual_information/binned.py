"""Mutual information after binning the activations: entropies of the occupied cells."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_foresight.functional._checks import (
    check_base,
    check_choice,
    check_int,
    check_range,
    check_same_length,
    fail,
)
from lightning_foresight.functional.discrete_entropy import CORRECTIONS, entropy_of_counts
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.mutual_information._arguments import as_labels, as_rows
from lightning_foresight.functional.mutual_information._cells import Cells, cell_numbers, count_cells, row_keys

_OWNER = "binned"
DEFAULT_BINS = 30


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


def binning(
    rows: Tensor,
    bin_width: float | None = None,
    bins: int | None = None,
    range: tuple[float, float] | None = None,
    edges: Any = None,
    equal_mass: bool = False,
) -> Callable[[Tensor], Tensor]:
    """Return the function that turns activations of this layer, in any shape, into integer bin numbers."""
    if not rows.is_floating_point():
        return lambda part: part
    if bin_width is not None:
        return lambda part: (part / bin_width).floor_().to(torch.int64)
    bins = DEFAULT_BINS if bins is None else bins
    if equal_mass:
        ranks = torch.linspace(0, rows.numel() - 1, bins + 1, device=rows.device).round().long()[1:-1]
        edges = torch.unique(rows.flatten().sort().values[ranks])
    if edges is not None:
        borders = torch.as_tensor(edges, dtype=rows.dtype, device=rows.device)
        return lambda part: torch.bucketize(part.contiguous(), borders, right=True)
    low, high = torch.aminmax(rows) if range is None else rows.new_tensor(range).unbind()
    width = torch.where(high > low, (high - low) / bins, torch.ones_like(low))  # a constant layer fills one bin
    return lambda part: ((part - low) / width).floor_().clamp_(0, bins - 1).to(torch.int64)


def binned_information(
    activations: Tensor,
    labels: Tensor | None = None,
    *,
    base: float = 2,
    bin_width: float | None = None,
    bins: int | None = None,
    range: tuple[float, float] | None = None,
    edges: Any = None,
    equal_mass: bool = False,
    correction: str = "none",
) -> tuple[Estimate, Estimate]:
    r"""Both coordinates of the information plane after binning every unit, from one sort.

    .. math:: I(X;T) = H(\hat T), \qquad I(T;Y) = H(\hat T) + H(Y) - H(\hat T, Y), \qquad \hat T = \mathrm{bin}(T)

    A deterministic layer has :math:`H(\hat T | X) = 0`, so the first says how many of the given inputs the layer keeps
    apart at this resolution: a property of the geometry of the activations, and :math:`\log n` when every sample has a
    cell of its own (``saturation`` 1). Then the second is :math:`H(Y)` whatever the labels are, shuffled ones too.

    Args:
        activations: Shape ``(n, ...)``, one row for each of n distinct inputs; integers are taken as bin numbers.
        labels: Integer classes, shape ``(n,)``; without them the second estimate is 0.
        base: Base of the logarithm; 2 gives bits.
        bin_width: Width of a bin, ``floor(t / bin_width)``.
        bins: Number of bins of equal width over ``range``; 30 when no binning is given.
        range: Interval that ``bins`` divide, values outside count into the end bins; the layer's minimum and maximum
            when not given.
        edges: Increasing borders between bins; a value on a border belongs to the bin above.
        equal_mass: Place the borders of ``bins`` at quantiles of all activations of the layer (Chelombiej et al. 2019).
        correction: Correction of the three entropies for small samples, as in
            :func:`~lightning_foresight.functional.discrete_entropy`.

    Returns:
        Estimates of I(X;T) and I(T;Y), scalars in float64. ``std_error`` is the delta method's, the standard deviation
        of the samples' own terms of the plug-in value over :math:`\sqrt n`. ``saturation`` of both is the plug-in
        :math:`H(\hat T) / \log n`.

    Raises:
        ValueError: If activations are not finite, samples are fewer than 2, labels are not integers or do not match, or
            an option is out of range.

    Sources: Shwartz-Ziv & Tishby 2017 (arXiv 1703.00810); Saxe et al. 2018; Chelombiej et al. 2019 (arXiv 1902.09037).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional.mutual_information import binned_information
        >>> activations = torch.tensor([[0.01], [0.02], [0.51], [0.52]])
        >>> i_xt, i_ty = binned_information(activations, torch.tensor([0, 0, 1, 1]), bin_width=0.1)
        >>> i_xt.value.item(), i_ty.value.item(), i_xt.saturation.item()
        (1.0, 1.0, 0.5)
    """
    check_base(_OWNER, base)
    check_binning(bin_width, bins, range, edges, equal_mass, correction)
    rows = as_rows(_OWNER, "activations", activations)
    n = rows.shape[0]
    if labels is None:
        labels, num_labels = torch.zeros(n, dtype=torch.int64, device=rows.device), 1
    else:
        labels, num_labels = as_labels(_OWNER, "labels", labels, n)
    codes = binning(rows, bin_width, bins, range, edges, equal_mass)
    method = f"binned ({correction}, {_name(rows, bin_width, bins, edges, equal_mass, range)})"
    num_cells = _possible_cells(rows, codes) if correction == "nsb" else None
    with torch.inference_mode():
        cells = count_cells(row_keys(rows, codes), labels.to(rows.device), num_labels)
    return _informations(cells, (num_cells, num_labels), correction, base, method)


def binned_pair(x: Tensor, y: Tensor, *, base: float = 2, correction: str = "none", **options: Any) -> Estimate:
    """Mutual information of two sets of samples, both binned with the same options (see binned_information)."""
    check_base(_OWNER, base)
    check_binning(correction=correction, **options)
    x_rows, y_rows = as_rows(_OWNER, "x", x), as_rows(_OWNER, "y", y)
    check_same_length(_OWNER, "x", x_rows, "y", y_rows)
    x_codes, y_codes = binning(x_rows, **options), binning(y_rows, **options)
    y_numbers = cell_numbers(row_keys(y_rows, y_codes))
    cells = count_cells(row_keys(x_rows, x_codes), y_numbers, int(y_numbers.max()) + 1)
    possible: tuple[float | None, float | None] = (None, None)
    if correction == "nsb":
        possible = _possible_cells(x_rows, x_codes), _possible_cells(y_rows, y_codes)
    method = f"binned ({correction}, {_name(x_rows, **options)})"
    return _informations(cells, possible, correction, base, method)[1]


def _possible_cells(rows: Tensor, codes: Callable[[Tensor], Tensor]) -> float:
    """How many cells there are in the range of the units, for the correction that has to know."""
    low, high = codes(torch.stack(torch.aminmax(rows))).tolist()
    return math.exp(min(rows.shape[1] * math.log(high - low + 1), 300.0))


@functools.lru_cache(maxsize=4)
def _surprisals(n: int, device: torch.device) -> Tensor:
    """Surprisals of what was seen 0 to n times in n samples: looking one up is faster than a logarithm."""
    with torch.inference_mode(False):
        return math.log(n) - torch.arange(n + 1, dtype=torch.float64, device=device).log()


def _informations(
    cells: Cells, possible: tuple[float | None, float | None], correction: str, base: float, method: str
) -> tuple[Estimate, Estimate]:
    """H(T) and I(T;Y) from the counts; ``possible`` are the numbers of cells that T and Y could fill, for NSB."""
    n, device = cells.num_samples, cells.counts.device
    surprisals = _surprisals(n, device)
    counts, joint_counts = cells.counts.double(), cells.joint_counts.double()
    with torch.inference_mode():  # dozens of small operations, each of which costs less without a record for gradients
        label_counts = torch.zeros(cells.num_labels, dtype=torch.int64, device=device)
        label_counts.scatter_add_(0, cells.label, cells.joint_counts)
        surprisal = surprisals.index_select(0, cells.counts)
        pointwise = surprisal.index_select(0, cells.cell).sub_(surprisals.index_select(0, cells.joint_counts))
        pointwise += surprisals.index_select(0, label_counts).index_select(0, cells.label)
        h_t, i_ty = counts @ surprisal / n, joint_counts @ pointwise / n
        h_t_variance = counts @ surprisal.sub_(h_t).square_()
        i_ty_variance = joint_counts @ pointwise.sub_(i_ty).square_()
        i_xt = h_t
        if correction != "none":
            t_cells, y_cells = possible
            ty_cells = None if t_cells is None or y_cells is None else t_cells * y_cells
            label_counts = label_counts[label_counts > 0].double()
            i_xt, h_y, h_ty = (
                entropy_of_counts(each, correction, math.e, num_cells).value
                for each, num_cells in ((counts, t_cells), (label_counts, y_cells), (joint_counts, ty_cells))
            )
            i_ty = i_xt + h_y - h_ty
        numbers = torch.stack((i_xt, i_ty, h_t, h_t_variance.sqrt_(), i_ty_variance.sqrt_()))
        numbers /= _scales(n, base, device)
    i_xt, i_ty, saturation, i_xt_error, i_ty_error = numbers.clone().unbind()
    num_samples, saturation = torch.full((), n, device=device), saturation.clamp(0, 1)
    return (
        Estimate(i_xt, i_xt_error, num_samples, saturation, method=method),
        Estimate(i_ty, i_ty_error, num_samples, saturation, method=method),
    )


@functools.lru_cache(maxsize=4)
def _scales(n: int, base: float, device: torch.device) -> Tensor:
    """What turns nats into informations of the base, a share of the largest one, and sums into standard errors."""
    nats = math.log(base)
    with torch.inference_mode(False):
        return torch.tensor([nats, nats, math.log(n), n * nats, n * nats], dtype=torch.float64, device=device)


def _name(
    rows: Tensor,
    bin_width: float | None = None,
    bins: int | None = None,
    edges: Any = None,
    equal_mass: bool = False,
    range: tuple[float, float] | None = None,
) -> str:
    if not rows.is_floating_point():
        return "integer values"
    if bin_width is not None:
        return f"bin_width={bin_width}"
    if edges is not None:
        return f"{len(edges) + 1} bins between given edges"
    where = " of equal mass" if equal_mass else "" if range is None else f" over {tuple(range)}"
    return f"{DEFAULT_BINS if bins is None else bins} bins{where}"
