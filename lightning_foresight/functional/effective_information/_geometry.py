"""Which positions of a layer share their weights, so that each kind of position is worked out once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_foresight.functional.effective_information._axes import Axis


class Geometry(NamedTuple):
    """Positions of a layer grouped into classes that see the kernel alike.

    A 3x3 convolution at 32x32 has 1,024 input positions and 9 classes of them: corners, edges, interior.

    Attributes:
        slots: What each tap is in terms of kernel slots, ``(taps, kernel slots)``; ``None`` for the identity.
        fan_out: Outputs that a position of a class feeds through a tap, ``(taps, source classes)``.
        total_fan_out: Outputs that a position of a class feeds through any tap.
        source_sizes: Positions in each class of inputs.
        feeders: Classes of inputs that feed an output through a tap, ``(alternatives, taps * target classes)``.
        feeder_counts: How many inputs of that class; 0 where an alternative is not used.
        target_sizes: Positions in each class of outputs.
        num_sources: Input positions.
        num_targets: Output positions.
        min_fan_out: Fewest outputs that an input position feeds.
    """

    slots: Tensor | None
    fan_out: Tensor
    total_fan_out: Tensor
    source_sizes: Tensor
    feeders: Tensor
    feeder_counts: Tensor
    target_sizes: Tensor
    num_sources: int
    num_targets: int
    min_fan_out: int


def _group(fingerprints: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a member of each class, the class of each position, and the sizes of the classes."""
    _, first, inverse, sizes = np.unique(fingerprints, return_index=True, return_inverse=True, return_counts=True)
    return first, inverse, sizes


def _fingerprints(positions: np.ndarray, features: np.ndarray, num_positions: int, num_features: int) -> np.ndarray:
    """Sum a random 64-bit key per feature: positions with the same features, and only they, get the same sum."""
    keys = np.random.default_rng(0).integers(0, 2**64, num_features, dtype=np.uint64)
    sums = np.zeros(num_positions, dtype=np.uint64)
    np.add.at(sums, positions, keys[features])
    return sums


def _axis_classes(axis: Axis) -> tuple[np.ndarray, ...]:
    """Group the positions of one axis; the arrays of :class:`Geometry` for that axis."""
    num_taps = len(axis.slots)
    source_of, source_class, source_sizes = _group(_fingerprints(axis.sources, axis.taps, axis.num_sources, num_taps))
    num_classes = len(source_of)
    fan_out = np.zeros((num_classes, num_taps))
    member = np.isin(axis.sources, source_of)
    np.add.at(fan_out, (source_class[axis.sources[member]], axis.taps[member]), 1)

    # An output's class is told by the class of input behind each tap.
    feature = axis.taps * num_classes + source_class[axis.sources]
    target_of, target_class, target_sizes = _group(
        _fingerprints(axis.targets, feature, axis.num_targets, num_taps * num_classes)
    )
    member = np.isin(axis.targets, target_of)
    # Cells (tap, target class) with the classes of inputs behind them, sorted.
    behind = axis.taps[member] * len(target_of) + target_class[axis.targets[member]]
    codes, counts = np.unique(behind * num_classes + source_class[axis.sources[member]], return_counts=True)
    cell, source = np.divmod(codes, num_classes)
    rank = np.arange(len(cell)) - np.searchsorted(cell, cell)
    alternatives = 1 + (int(rank.max()) if len(rank) else 0)
    feeders = np.zeros((alternatives, num_taps * len(target_of)), dtype=np.int64)
    feeder_counts = np.zeros(feeders.shape)
    feeders[rank, cell] = source
    feeder_counts[rank, cell] = counts
    if axis.cut is not None:
        np.add.at(source_sizes, source_class[axis.cut.sources], axis.cut.repeats)
        np.add.at(target_sizes, target_class[axis.cut.targets], axis.cut.repeats)
    shape = (alternatives, num_taps, len(target_of))
    return axis.slots, fan_out, source_sizes, feeders.reshape(shape), feeder_counts.reshape(shape), target_sizes


def _outer(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Kronecker product axis by axis: the second index runs fastest, as positions do in memory."""
    return np.kron(first, second)


def combine_axes(axes: tuple[Axis, ...]) -> Geometry:
    """Build the geometry of a layer from that of its axes; no axes for a layer without positions."""
    slots, fan_out = np.ones((1, 1)), np.ones((1, 1))
    source_sizes, target_sizes = np.ones(1), np.ones(1)
    feeders, feeder_counts = np.zeros((1, 1, 1), dtype=np.int64), np.ones((1, 1, 1))
    for axis in axes:
        axis_slots, axis_fan_out, axis_sources, axis_feeders, axis_counts, axis_targets = _axis_classes(axis)
        base = _outer(feeders * len(axis_sources), np.ones_like(axis_feeders))
        feeders = base + _outer(np.ones_like(feeders), axis_feeders)
        feeder_counts = _outer(feeder_counts, axis_counts)
        slots, fan_out = _outer(slots, axis_slots), _outer(fan_out, axis_fan_out)
        source_sizes, target_sizes = _outer(source_sizes, axis_sources), _outer(target_sizes, axis_targets)
    plain = slots.shape[0] == slots.shape[1] and bool((slots == np.eye(len(slots))).all())
    as_double = lambda array: torch.as_tensor(array, dtype=torch.float64)  # noqa: E731
    return Geometry(
        None if plain else as_double(slots),
        as_double(fan_out.T),
        as_double(fan_out.sum(1)),
        as_double(source_sizes),
        torch.as_tensor(feeders).flatten(1),
        as_double(feeder_counts).flatten(1),
        as_double(target_sizes),
        int(source_sizes.sum()),
        int(target_sizes.sum()),
        int(fan_out.sum(1).min()),
    )


def move_geometry(geometry: Geometry, device: torch.device, dtype: torch.dtype, sum_dtype: torch.dtype) -> Geometry:
    """Return the geometry on a device, with what meets the kernel in ``dtype`` and the rest in ``sum_dtype``."""
    return geometry._replace(
        slots=None if geometry.slots is None else geometry.slots.to(device, sum_dtype),
        fan_out=geometry.fan_out.to(device, sum_dtype).contiguous(),
        total_fan_out=geometry.total_fan_out.to(device, sum_dtype),
        source_sizes=geometry.source_sizes.to(device, sum_dtype),
        feeders=geometry.feeders.to(device),
        feeder_counts=geometry.feeder_counts.to(device, dtype),
        target_sizes=geometry.target_sizes.to(device, sum_dtype),
    )
