"""Mutual information after binning the activations: entropies of the occupied cells."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_same_length, check_samples
from lightning_foresight.functional._memory import chunk_length
from lightning_foresight.functional.discrete_entropy import entropy_of_counts
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.mutual_information._arguments import as_labels, as_rows_with_ends
from lightning_foresight.functional.mutual_information._bins import (
    binning_of,
    check_binning,
    name_of_bins,
    possible_cells,
)
from lightning_foresight.functional.mutual_information._cells import Cells, cell_numbers, count_cells, row_keys
from lightning_foresight.functional.mutual_information._counted import claims_of
from lightning_foresight.functional.mutual_information._plug_in import count_labels, plug_in_of_cells, plug_in_of_keys

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
        Estimates of I(X;T) and I(T;Y), scalars in float64. ``std_error`` is the delta method's to second order;
        ``lower`` and ``upper`` are the ends of a 95% interval for the population, whatever the correction, which knows
        the bias of plug-in values, their chi-square spread where cells are even or T and Y independent, and the
        skewness of few samples to a label or cell (DiCiccio & Efron 1992). It ends within :math:`H(Y)`'s own and
        reaches to the value, which a bias may have put further off than its error. With fewer than 16 samples to an
        occupied cell, or one of (T, Y) that chance left empty, the bias is larger than that: then ``kind`` of the
        plug-in values is ``"lower_bound"`` for :math:`H(\hat T)` and ``"upper_bound"`` for I(T;Y), of corrected ones
        ``"not_valid"``.
        Where labels of fewer than 30 samples make a tenth of H(Y), or fewer than 30 samples most of
        :math:`H(\hat T)`, I(T;Y) is ``"not_valid"``, too.
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
    n, device, num_labels = layers[0].shape[0], layers[0].device, 1
    if labels is None:
        labels = torch.zeros(n, dtype=torch.int64, device=device)
    else:
        labels, num_labels = as_labels(_OWNER, "labels", labels, n)
        labels = labels.to(device)
    # Ten numbers of 8 bytes for each sample; corrections take one layer at a time.
    at_once = chunk_length(len(layers), 80 * n) if correction == "none" else 1
    planes = []
    for start in builtins.range(0, len(layers), at_once):
        binned = []
        for layer in layers[start : start + at_once]:
            binned.append(_bin("activations", layer, correction, num_labels, options))
            check_same_length(_OWNER, "activations", binned[-1].keys, "labels", labels)
        planes += _informations(binned, labels, (num_labels, num_labels), correction, base)
    return planes


def binned_pair(x: Tensor, y: Tensor, *, base: float = 2, correction: str = "none", **options: Any) -> Estimate:
    """Mutual information of two sets of samples, both binned with the same options (see binned_information)."""
    check_base(_OWNER, base)
    check_binning(correction=correction, **options)
    binned_y = _bin("y", y, correction, 1, options)
    numbers = cell_numbers(binned_y.keys)
    num_numbers = int(numbers.max()) + 1
    binned_x = _bin("x", x, correction, num_numbers, options)
    check_same_length(_OWNER, "x", binned_x.keys, "y", numbers)
    return _informations([binned_x], numbers, (num_numbers, binned_y.cells), correction, base)[0][1]


class _Binned(NamedTuple):
    keys: Tensor  # (n,)
    cells: float | None  # that could be occupied, for NSB
    method: str


def _bin(argument: str, samples: Tensor, correction: str, num_labels: int, options: dict[str, Any]) -> _Binned:
    rows, low, high = as_rows_with_ends(_OWNER, argument, samples)
    binning = binning_of(rows, (low, high), **options)
    cells = possible_cells(rows, (low, high), binning) if correction == "nsb" else None
    keys = row_keys(rows, binning, (num_labels - 1).bit_length())
    return _Binned(keys, cells, f"binned ({correction}, {name_of_bins(rows, **options)})")


def _informations(
    layers: list[_Binned], labels: Tensor, num_labels: tuple[int, float | None], correction: str, base: float
) -> list[tuple[Estimate, Estimate]]:
    """H(T) and I(T;Y) of each layer; ``num_labels`` are more than the largest label, and those possible, for NSB."""
    n, device, corrected = labels.shape[0], labels.device, None
    keys = torch.stack([layer.keys for layer in layers])
    if correction != "none":
        cells = count_cells(keys, labels, num_labels[0])
        counted, corrected = plug_in_of_cells(cells), _corrected(cells, layers[0].cells, num_labels[1], correction)
    elif device.type == "cpu":
        counted = plug_in_of_keys(keys, count_labels(labels, num_labels[0]))
    else:
        counted = plug_in_of_cells(count_cells(keys, labels, num_labels[0]))
    claims = [claim for each in counted for claim in claims_of(each, n, corrected)]
    nats = math.log(base)
    numbers = [number / nats for claim in claims for number in claim[:4]]
    numbers += [min(max(each.h_t / math.log(n), 0.0), 1.0) for each in counted]
    fields = torch.from_numpy(np.array(numbers)).to(device).unbind()
    num_samples = torch.from_numpy(np.array(n)).to(device)
    estimates = []
    for i, claim in enumerate(claims):
        # Copies: views of one tensor change together, and are saved with all of it.
        value, error, low, high = (field.clone() for field in fields[4 * i : 4 * i + 4])
        saturation, method = fields[4 * len(claims) + i // 2].clone(), layers[i // 2].method
        estimates.append(Estimate(value, error, num_samples.clone(), saturation, low, high, claim.kind, method))
    return list(zip(estimates[::2], estimates[1::2], strict=True))


def _corrected(cells: Cells, t_cells: float | None, y_cells: float | None, correction: str) -> tuple[float, float]:
    """H(T) and I(T;Y) of a single layer in nats from entropies corrected for small samples."""
    ty_cells = None if t_cells is None or y_cells is None else t_cells * y_cells
    label_counts = torch.zeros(cells.num_labels, dtype=torch.int64, device=cells.label.device)
    label_counts.scatter_add_(0, cells.label, cells.joint_counts)
    h_t, h_y, h_ty = torch.stack(
        [
            entropy_of_counts(each, correction, math.e, num_cells).value
            for each, num_cells in (
                (cells.counts, t_cells),
                (label_counts[label_counts > 0], y_cells),
                (cells.joint_counts, ty_cells),
            )
        ]
    ).tolist()
    return h_t, h_t + h_y - h_ty
