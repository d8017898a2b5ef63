"""Mutual information after binning the activations: entropies of the occupied cells."""

from __future__ import annotations

import builtins
import functools
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_same_length, check_samples
from lightning_foresight.functional._memory import chunk_length
from lightning_foresight.functional.discrete_entropy import entropy_of_counts
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.mutual_information._arguments import as_labels, as_rows
from lightning_foresight.functional.mutual_information._bins import binning, check_binning, name_of_bins, possible_cells
from lightning_foresight.functional.mutual_information._cells import Cells, cell_numbers, count_cells, row_keys
from lightning_foresight.functional.mutual_information._label_entropy import label_entropy_end, largest_of_seen

_OWNER = "binned"
_Z = NormalDist().inv_cdf(0.975)
# Samples to an occupied cell, on average, from which on 95% intervals covered 89 to 100% on eleven tables.
_ENOUGH = 16


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
        of the samples' own terms of the plug-in value over :math:`\sqrt n`; ``lower`` and ``upper`` are the ends of a
        95% interval that knows the first-order bias, within 0, :math:`\log n` and the upper end of :math:`H(Y)`'s own.
        With fewer than 16 samples to an occupied cell the bias is larger than that: then ``kind`` of the plug-in values
        is ``"lower_bound"`` for :math:`H(\hat T)` and ``"upper_bound"`` for I(T;Y), of corrected ones ``"not_valid"``.
        ``saturation`` of both is the plug-in :math:`H(\hat T) / \log n`.

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
    return binned_planes(
        [activations],
        labels,
        base=base,
        bin_width=bin_width,
        bins=bins,
        range=range,
        edges=edges,
        equal_mass=equal_mass,
        correction=correction,
    )[0]


def binned_planes(
    layers: Sequence[Tensor], labels: Tensor | None = None, *, base: float = 2, correction: str = "none", **options: Any
) -> list[tuple[Estimate, Estimate]]:
    """Return binned_information of several layers that see the same inputs; as many as fit into memory share a sort."""
    check_base(_OWNER, base)
    check_binning(correction=correction, **options)
    check_samples(_OWNER, "activations", layers[0])
    n = layers[0].shape[0]
    # Eight numbers of 8 bytes for each sample; corrections take one layer at a time.
    at_once = chunk_length(len(layers), 64 * n) if correction == "none" else 1
    device, num_labels = layers[0].device, 1
    if labels is None:
        labels = torch.zeros(n, dtype=torch.int64, device=device)
    else:
        labels, num_labels = as_labels(_OWNER, "labels", labels, n)
        labels = labels.to(device)
    planes = []
    for start in builtins.range(0, len(layers), at_once):
        keys, methods, num_cells = [], [], None
        for layer in layers[start : start + at_once]:
            rows = as_rows(_OWNER, "activations", layer)
            check_same_length(_OWNER, "activations", rows, "labels", labels)
            codes = binning(rows, **options)
            with torch.inference_mode():
                keys.append(row_keys(rows, codes))
            methods.append(f"binned ({correction}, {name_of_bins(rows, **options)})")
            num_cells = possible_cells(rows, codes) if correction == "nsb" else None
        with torch.inference_mode():
            cells = count_cells(torch.stack(keys) if len(keys) > 1 else keys[0], labels, num_labels)
        planes += _informations(cells, (num_cells, num_labels), correction, base, methods)
    return planes


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
        possible = possible_cells(x_rows, x_codes), possible_cells(y_rows, y_codes)
    method = f"binned ({correction}, {name_of_bins(x_rows, **options)})"
    return _informations(cells, possible, correction, base, [method])[0][1]


@functools.lru_cache(maxsize=4)
def _surprisals(n: int, device: torch.device) -> Tensor:
    """Surprisals of what was seen 0 to n times in n samples: looking one up is faster than a logarithm."""
    with torch.inference_mode(False):
        return math.log(n) - torch.arange(n + 1, dtype=torch.float64, device=device).log()


def _informations(
    cells: Cells, possible: tuple[float | None, float | None], correction: str, base: float, methods: list[str]
) -> list[tuple[Estimate, Estimate]]:
    """H(T) and I(T;Y) of each layer; ``possible`` are the numbers of cells that T and Y could fill, for NSB."""
    n, layers, device = cells.num_samples, cells.num_layers, cells.counts.device
    surprisals = _surprisals(n, device)
    counts, joint_counts = cells.counts.double(), cells.joint_counts.double()

    def mean(values: Tensor, weights: Tensor, of_layer: Tensor) -> Tensor:
        if layers == 1:
            return (weights @ values / n).unsqueeze(0)
        return torch.zeros(layers, dtype=torch.float64, device=device).scatter_add_(0, of_layer, weights * values) / n

    with torch.inference_mode():  # dozens of small operations, each of which costs less without a record for gradients
        label_counts = torch.zeros(cells.num_labels, dtype=torch.int64, device=device)
        label_counts.scatter_add_(0, cells.label, cells.joint_counts).floor_divide_(layers)
        surprisal = surprisals.index_select(0, cells.counts)
        pointwise = surprisal.index_select(0, cells.cell).sub_(surprisals.index_select(0, cells.joint_counts))
        pointwise += surprisals.index_select(0, label_counts).index_select(0, cells.label)
        of_cell, of_joint = cells.layer, cells.layer if layers == 1 else cells.layer.index_select(0, cells.cell)
        h_t, i_ty = mean(surprisal, counts, of_cell), mean(pointwise, joint_counts, of_joint)
        surprisal -= h_t if layers == 1 else h_t.index_select(0, of_cell)
        pointwise -= i_ty if layers == 1 else i_ty.index_select(0, of_joint)
        h_t_variance = mean(surprisal.square_(), counts, of_cell)
        i_ty_variance = mean(pointwise.square_(), joint_counts, of_joint)
        i_xt, largest = h_t, math.inf
        if correction != "none":
            t_cells, y_cells = possible
            ty_cells = None if t_cells is None or y_cells is None else t_cells * y_cells
            label_counts = label_counts[label_counts > 0].double()
            i_xt, h_y, h_ty = (
                entropy_of_counts(each, correction, math.e, num_cells).value.unsqueeze(0)
                for each, num_cells in ((counts, t_cells), (label_counts, y_cells), (joint_counts, ty_cells))
            )
            largest = largest_of_seen((counts.shape[0], label_counts.shape[0]), n, _ENOUGH)
            i_ty = (i_xt + h_y - h_ty).clamp_(max=largest)
        sizes, joint_sizes = [cells.counts.shape[0]], [cells.joint_counts.shape[0]]
        if layers > 1:
            found = torch.zeros(2, layers, dtype=torch.int64, device=device)
            found[0].scatter_add_(0, of_cell, torch.ones_like(of_cell))
            found[1].scatter_add_(0, of_joint, torch.ones_like(of_joint))
            sizes, joint_sizes = found.tolist()
        numbers = torch.stack((h_t_variance, i_ty_variance)).sqrt_() / math.sqrt(n)
        freedom = _degrees_of_freedom(sizes, joint_sizes, int(label_counts.count_nonzero()), device)
        ends = _intervals(torch.stack((i_xt, i_ty)), numbers, freedom, label_counts, n, correction, largest)
        # The delta method's is 0 where all terms are equal, as of a layer that decides even labels.
        torch.maximum(numbers[1], (freedom[1].abs() / 2).sqrt() / n, out=numbers[1])
        numbers = torch.cat((torch.stack((i_xt, i_ty, h_t)), numbers, *ends))
        numbers /= _scales(n, base, device)
        numbers[2].clamp_(0, 1)
    values = numbers.clone().flatten().unbind()
    num_samples = torch.full((), n, device=device)
    planes = []
    for layer, method in enumerate(methods):
        i_xt, i_ty, saturation, x_error, y_error, x_low, y_low, x_high, y_high = values[layer::layers]
        kinds = _kinds(sizes[layer], joint_sizes[layer], n, correction)
        planes.append(
            (
                Estimate(i_xt, x_error, num_samples, saturation, x_low, x_high, kinds[0], method),
                Estimate(i_ty, y_error, num_samples, saturation, y_low, y_high, kinds[1], method),
            )
        )
    return planes


def _kinds(cells: int, joint_cells: int, n: int, correction: str) -> tuple[str, str]:
    """Say what H(T) and I(T;Y) claim: cells of few samples bias the plug-in values by more than their errors know."""
    under, over = ("lower_bound", "upper_bound") if correction == "none" else ("not_valid", "not_valid")
    return "estimate" if cells * _ENOUGH <= n else under, "estimate" if joint_cells * _ENOUGH <= n else over


def _degrees_of_freedom(sizes: list[int], joint_sizes: list[int], labels: int, device: torch.device) -> Tensor:
    """Those of H(T) and of I(T;Y), ``(2, layers)``; of the latter below 0 where T decides Y."""
    of_both = [joint - size - labels + 1 for joint, size in zip(joint_sizes, sizes, strict=True)]
    return torch.tensor([[size - 1 for size in sizes], of_both], dtype=torch.float64).to(device)


def _intervals(
    values: Tensor, errors: Tensor, freedom: Tensor, label_counts: Tensor, n: int, correction: str, largest: float
) -> tuple[Tensor, Tensor]:
    """Lower and upper ends (2, layers) of 95% intervals in nats, within what is known.

    Degrees of freedom k add a bias of k / 2n to plug-in values, and a spread of sqrt(k / 2) / n, all there is where T
    and Y are independent.
    """
    bias = freedom / (2 * n)
    half_width = errors.square().add_(bias.abs(), alpha=1 / n).sqrt_().mul_(_Z)
    lower, upper = values - half_width, values + half_width
    if correction == "none":
        # Plug-in entropies read low, the information of the labels high, or low where it is that of an entropy.
        upper[0] += bias[0]
        lower[1] -= bias[1].clamp(min=0)
        upper[1] -= bias[1].clamp(max=0)
        upper[0].clamp_(max=math.log(n))
        torch.minimum(upper[1], label_entropy_end(label_counts), out=upper[1])
        lower.clamp_(min=0)
    else:
        upper[1].clamp_(max=largest)
    return lower, upper


@functools.lru_cache(maxsize=4)
def _scales(n: int, base: float, device: torch.device) -> Tensor:
    """What turns nats into informations of the base, and the third into a share of the largest one."""
    nats = math.log(base)
    with torch.inference_mode(False):
        scales = torch.tensor([nats, nats, math.log(n), *[nats] * 6], dtype=torch.float64, device=device)
        return scales.unsqueeze(1)
