"""Plug-in entropies of the cells that samples share, with the variances of their terms, as Python's numbers."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_foresight.functional._rare_labels import ENOUGH_FOR_COUNTS, RARE_PART
from lightning_foresight.functional.mutual_information._cells import Cells
from lightning_foresight.functional.mutual_information._table_shape import Shape, Tables, of_layers, shapes_of

# Samples to an occupied cell, on average, from which on intervals are claimed: the benchmark counts how they cover.
ENOUGH_IN_CELLS = 16


class PlugIn(NamedTuple):
    """H(T), I(T;Y) and H(Y) of n samples in nats; the variances are those of the samples' own terms."""

    h_t: float
    i_ty: float
    h_t_variance: float
    i_ty_variance: float
    h_y: float
    h_y_variance: float
    h_y_third: float
    cells: int  # that T occupies
    joint_cells: int  # that (T, Y) occupies
    labels: int  # that occur
    rare_labels: bool  # whether they are too much of H(Y) for an interval
    shape: Shape | None  # where T has so few cells that an interval may be claimed


@functools.lru_cache(maxsize=4)
def _surprisals(n: int) -> NDArray[np.float64]:
    """Surprisals of what was seen 0 to n times in n samples: looking one up is faster than a logarithm."""
    table = math.log(n) - np.log(np.arange(n + 1).clip(1))
    table[0] = 0.0  # what does not occur weighs nothing
    return table


class Labels(NamedTuple):
    """Labels of n samples on the CPU, and what they say without a layer."""

    numbers: NDArray[np.int64]  # (n,), from 0
    counts: NDArray[np.int64]  # of each number
    surprisals: NDArray[np.float64]  # of each number
    moments: tuple[float, float, float]  # H(Y), and the second and third central ones of the surprisals
    seen: int
    rare: bool


def count_labels(labels: Tensor, num_labels: int) -> Labels:
    """Count labels once for all layers; ``num_labels`` is more than the largest."""
    numbers = labels.numpy()
    counts = np.bincount(numbers, minlength=num_labels)
    surprisals, shares = _surprisals(len(numbers))[counts], counts / len(numbers)
    h_y = float(shares @ surprisals)
    moments = h_y, float(shares @ (surprisals - h_y) ** 2), float(shares @ (surprisals - h_y) ** 3)
    rare = bool(shares @ (surprisals * (counts < ENOUGH_FOR_COUNTS)) > RARE_PART * h_y)
    return Labels(numbers, counts, surprisals, moments, int(np.count_nonzero(counts)), rare)


def plug_in_of_keys(keys: Tensor, labels: Labels) -> list[PlugIn]:
    """Count the cells of layers on the CPU, in NumPy: on few samples it takes a third of the time of torch.

    Args:
        keys: From :func:`row_keys`, shape ``(layers, n)``, with room for the label in the low bits; overwritten.
        labels: Of the same samples.
    """
    (layers, n), mask = keys.shape, (1 << (len(labels.surprisals) - 1).bit_length()) - 1
    packed = keys.numpy()
    packed &= ~mask
    packed |= labels.numbers
    packed.sort()
    packed = packed.ravel()
    starts = _starts(packed, np.arange(0, layers * n, n))
    joint_counts = starts[1:] - starts[:-1]
    joint = packed[starts[:-1]]
    label = joint & mask
    of_y = labels.surprisals[label]
    joint |= mask
    ends = starts.searchsorted(np.arange(0, layers * n + 1, n))
    cells = _starts(joint, ends[:-1])
    counts = starts[cells]
    counts = counts[1:] - counts[:-1]
    table, terms = _surprisals(n), np.empty((2, len(joint)))
    terms[0] = table[counts].repeat(cells[1:] - cells[:-1])
    np.add(terms[0], of_y, terms[1])
    terms[1] -= table[joint_counts]
    weights = joint_counts / n
    cell_ends = cells.searchsorted(ends)
    sizes, joint_sizes = cell_ends[1:] - cell_ends[:-1], ends[1:] - ends[:-1]
    means = np.add.reduceat(terms * weights, ends[:-1], 1)
    terms -= means if layers == 1 else means.repeat(joint_sizes, 1)
    terms *= terms
    terms *= weights
    variances = np.add.reduceat(terms, ends[:-1], 1)
    moments = np.concatenate((means, variances)).T.tolist()
    cell = np.arange(len(counts)).repeat(cells[1:] - cells[:-1])
    shapes = _shapes(Tables(counts, sizes, joint_counts, joint_sizes, cell, label, labels.counts), n)
    return [
        PlugIn(
            h_t, i_ty, h_t_variance, i_ty_variance, *labels.moments, size, joint_size, labels.seen, labels.rare, shape
        )
        for (h_t, i_ty, h_t_variance, i_ty_variance), size, joint_size, shape in zip(
            moments, sizes.tolist(), joint_sizes.tolist(), shapes, strict=True
        )
    ]


def _shapes(tables: Tables, n: int) -> list[Shape | None]:
    """Those of the layers that have so few cells that an interval may be claimed."""
    few = tables.sizes * ENOUGH_IN_CELLS <= n
    if not few.any():
        return [None] * len(few)
    found = iter(shapes_of(of_layers(tables, few), _surprisals(n)))
    return [next(found) if each else None for each in few.tolist()]


def _starts(ordered: NDArray[np.int64], layers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where equal entries begin, a layer begins, and the end."""
    first = np.empty(len(ordered) + 1, dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], first[1:-1])
    first[layers] = first[-1] = True
    return first.nonzero()[0]


def plug_in_of_cells(cells: Cells) -> list[PlugIn]:
    """Return what the cells of each layer say, on any device."""
    n, device = cells.num_samples, cells.counts.device
    with torch.inference_mode():  # dozens of small operations, each of which costs less without a record for gradients
        layer = cells.layer.index_select(0, cells.cell)
        label_counts = torch.zeros(cells.num_labels, dtype=torch.int64, device=device)
        # All layers see the same labels.
        label_counts.scatter_add_(0, cells.label, cells.joint_counts).floor_divide_(cells.num_layers)
        table = torch.from_numpy(_surprisals(n)).to(device)
        of_t = table.index_select(0, cells.counts).index_select(0, cells.cell)
        of_y = table.index_select(0, label_counts).index_select(0, cells.label)
        terms = torch.stack((of_t, of_t + of_y - table.index_select(0, cells.joint_counts)))
        weights = cells.joint_counts.double().div_(n)
        sizes, joint_sizes = [cells.counts.shape[0]], [cells.joint_counts.shape[0]]
        if cells.num_layers > 1:
            found = torch.zeros(2, cells.num_layers, dtype=torch.int64, device=device)
            for row, of_each in zip(found, (cells.layer, layer), strict=True):
                row.scatter_add_(0, of_each, torch.ones_like(of_each))
            sizes, joint_sizes = found.tolist()
        shares = label_counts.double().div_(n)
        surprisals = table.index_select(0, label_counts)
        h_y = shares @ surprisals
        central = [shares @ (surprisals - h_y) ** power for power in (2, 3)]
        rare = shares @ (surprisals * (label_counts < ENOUGH_FOR_COUNTS))
        moments = [torch.stack((h_y, *central, label_counts.count_nonzero().double(), rare))]
        for part, weight in zip(terms.split(joint_sizes, 1), weights.split(joint_sizes), strict=True):
            means = part @ weight
            moments += [means, (part - means.unsqueeze(1)).square_() @ weight]
        h_y_value, second, third, seen, of_rare, *values = torch.cat(moments).tolist()
        of_y_moments = h_y_value, second, third
        shapes: list[Shape | None] = [None] * len(sizes)
        if min(sizes) * ENOUGH_IN_CELLS <= n:
            arrays = (cells.counts, cells.joint_counts, cells.cell, cells.label, label_counts)
            # One copy: each waits for the device.
            ends = np.cumsum([len(each) for each in arrays])[:-1]
            counts, joint_counts, cell, label, of_labels = np.split(torch.cat(arrays).cpu().numpy(), ends)
            in_rows = Tables(counts, np.array(sizes), joint_counts, np.array(joint_sizes), cell, label, of_labels)
            shapes = _shapes(in_rows, n)
    is_rare = of_rare > RARE_PART * h_y_value
    return [
        PlugIn(h_t, i_ty, h_t_variance, i_ty_variance, *of_y_moments, size, joint_size, int(seen), is_rare, shape)
        for h_t, i_ty, h_t_variance, i_ty_variance, size, joint_size, shape in zip(
            values[::4], values[1::4], values[2::4], values[3::4], sizes, joint_sizes, shapes, strict=True
        )
    ]
