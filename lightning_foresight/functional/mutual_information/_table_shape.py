"""Third moments, curvature and gaps of small tables of counts: what their intervals need besides a variance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_foresight.functional._rare_labels import ENOUGH_FOR_COUNTS

# Chance leaves a cell empty in 5% of samples where this many are expected in it.
_EXPECTED = 3

Counts = NDArray[np.int64]


class Shape(NamedTuple):
    """Of one table; moments are those of the samples' own terms, in nats."""

    h_t_third: float
    i_ty_third: float
    # Second derivative of I(T;Y) where all probabilities move by their terms: the variance at independence, minus the
    # variance where T decides Y.
    i_ty_curvature: float
    # Of what a sample is told of its label, the most that is told of another one: in the cell of (T, Y), empty ones
    # too, with the fewest samples for those that independence puts there.
    largest_loss: float
    gaps: int  # empty cells of (T, Y) that chance may have left so
    rare_cells: bool  # whether most of H(T) is that of cells of fewer samples, all in all, than one label needs


class Tables(NamedTuple):
    """The occupied cells of several layers in a row."""

    counts: Counts  # of cells of T
    sizes: Counts  # how many cells of T each layer has
    joint_counts: Counts  # of cells of (T, Y), by cell of T
    joint_sizes: Counts
    cell: Counts  # of each cell of (T, Y), which of T
    label: Counts  # of each, which of Y
    label_counts: Counts  # of all labels, the same for all layers


def of_layers(tables: Tables, chosen: NDArray[np.bool_]) -> Tables:
    """Leave out the layers that are not chosen."""
    if chosen.all():
        return tables
    cells, joint = chosen.repeat(tables.sizes), chosen.repeat(tables.joint_sizes)
    number = cells.cumsum() - 1
    return Tables(
        tables.counts[cells],
        tables.sizes[chosen],
        tables.joint_counts[joint],
        tables.joint_sizes[chosen],
        number[tables.cell[joint]],
        tables.label[joint],
        tables.label_counts,
    )


def shapes_of(tables: Tables, surprisals: NDArray[np.float64]) -> list[Shape]:
    """The shape of each table.

    Args:
        tables: Of n samples.
        surprisals: Of what was seen 0 to n times.
    """
    counts, sizes, joint_counts, joint_sizes, cell, label, label_counts = tables
    n, layers, num_labels = len(surprisals) - 1, len(sizes), len(label_counts)
    starts, joint_starts = sizes.cumsum() - sizes, joint_sizes.cumsum() - joint_sizes
    layer = np.arange(layers).repeat(joint_sizes)

    of_t, shares = surprisals[counts], counts / n
    h_t = np.add.reduceat(shares * of_t, starts)
    h_third = np.add.reduceat(shares * (of_t - h_t.repeat(sizes)) ** 3, starts)
    rare = counts < ENOUGH_FOR_COUNTS
    of_rare, in_rare = np.add.reduceat(shares * of_t * rare, starts), np.add.reduceat(counts * rare, starts)

    terms = of_t[cell] + surprisals[label_counts][label] - surprisals[joint_counts]
    lost = np.maximum.reduceat(-terms, joint_starts)
    unseen = counts * _largest_unseen(tables) / n
    lost = np.maximum(lost, np.log(np.maximum.reduceat(unseen, starts).clip(1)))
    weights = joint_counts / n
    terms -= np.add.reduceat(weights * terms, joint_starts)[layer]
    moves = weights * terms
    third = np.add.reduceat(moves * terms**2, joint_starts)
    # Rates of change of the probabilities of (T, Y), T and Y, each squared over the probability.
    of_joint = np.add.reduceat(moves * terms, joint_starts)
    of_cells = np.add.reduceat(np.bincount(cell, moves, len(counts)) ** 2 / shares, starts)
    of_labels = np.bincount(layer * num_labels + label, moves, layers * num_labels).reshape(layers, num_labels) ** 2
    curvature = of_joint - of_cells - (of_labels * n / label_counts.clip(1)).sum(1)

    seldom = np.sort(label_counts[label_counts > 0]).searchsorted(_EXPECTED * n / counts)
    seen = (counts[cell] * label_counts[label] < _EXPECTED * n).astype(np.int64)
    gaps = np.add.reduceat(seldom, starts) - np.add.reduceat(seen, joint_starts)
    rare_cells = (in_rare < ENOUGH_FOR_COUNTS) & (of_rare > h_t / 2)
    found = (each.tolist() for each in (h_third, third, curvature, lost, gaps, rare_cells))
    return [Shape(*each) for each in zip(*found, strict=True)]


def _largest_unseen(tables: Tables) -> Counts:
    """How often the most frequent label that a cell of T has not seen occurs; 0 if it has seen all."""
    order = np.argsort(-tables.label_counts, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    ranks = rank[tables.label]
    ranks = ranks[np.lexsort((ranks, tables.cell))]
    first = np.flatnonzero(np.diff(tables.cell, prepend=-1))
    # The ranks of a cell are those of the most frequent labels up to the first that it lacks.
    lacked = np.add.reduceat((ranks == np.arange(len(ranks)) - first[tables.cell]).astype(np.int64), first)
    return np.append(tables.label_counts[order], 0)[lacked]
