"""Mutual information after binning the activations: entropies of the occupied cells."""

from __future__ import annotations

import builtins
import functools
import math
from collections.abc import Sequence
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

_OWNER = "binned"


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
        i_xt = h_t
        if correction != "none":
            t_cells, y_cells = possible
            ty_cells = None if t_cells is None or y_cells is None else t_cells * y_cells
            label_counts = label_counts[label_counts > 0].double()
            i_xt, h_y, h_ty = (
                entropy_of_counts(each, correction, math.e, num_cells).value.unsqueeze(0)
                for each, num_cells in ((counts, t_cells), (label_counts, y_cells), (joint_counts, ty_cells))
            )
            i_ty = i_xt + h_y - h_ty
        numbers = torch.stack((i_xt, i_ty, h_t, h_t_variance.sqrt_(), i_ty_variance.sqrt_()))
        numbers /= _scales(n, base, device)
        numbers[2].clamp_(0, 1)
    values = numbers.clone().flatten().unbind()
    num_samples = torch.full((), n, device=device)
    planes = []
    for layer, method in enumerate(methods):
        i_xt, i_ty, saturation, i_xt_error, i_ty_error = values[layer::layers]
        planes.append(
            (
                Estimate(i_xt, i_xt_error, num_samples, saturation, method=method),
                Estimate(i_ty, i_ty_error, num_samples, saturation, method=method),
            )
        )
    return planes


@functools.lru_cache(maxsize=4)
def _scales(n: int, base: float, device: torch.device) -> Tensor:
    """What turns nats into informations of the base, a share of the largest one, and spreads into standard errors."""
    nats, root = math.log(base), math.sqrt(n)
    with torch.inference_mode(False):
        scales = torch.tensor([nats, nats, math.log(n), root * nats, root * nats], dtype=torch.float64, device=device)
        return scales.unsqueeze(1)
