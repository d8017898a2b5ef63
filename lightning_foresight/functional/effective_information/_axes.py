"""Which inputs feed which outputs along one spatial axis."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np


class Cut(NamedTuple):
    """A stretch in the middle of an axis, where all is regular, that stands for ``repeats`` more of its kind."""

    repeats: int
    sources: slice
    targets: slice


class Axis(NamedTuple):
    """Connections of a layer along one spatial axis: input ``sources[n]`` feeds output ``targets[n]`` by ``taps[n]``.

    A pair of positions appears once at most. A tap is a slot of the kernel; where padding folds several slots onto
    the same pair, the tap stands for their sum, which ``slots`` spells out. A long axis is shortened to its two ends
    and a regular stretch, the ``cut``.
    """

    sources: np.ndarray
    targets: np.ndarray
    taps: np.ndarray
    num_sources: int
    num_targets: int
    slots: np.ndarray  # (taps, kernel slots)
    cut: Cut | None = None


def _fold(positions: np.ndarray, length: int, mode: str) -> np.ndarray:
    """Map positions in the padding to the input position that fills them; -1 for a zero."""
    if mode == "circular":
        return positions % length
    if mode == "replicate":
        return positions.clip(0, length - 1)
    if mode == "reflect":
        positions = np.abs(positions)
        return length - 1 - np.abs(length - 1 - positions)
    return np.where((positions >= 0) & (positions < length), positions, -1)


@lru_cache(maxsize=1024)
def conv_axis(
    num_sources: int, num_targets: int, kernel: int, stride: int, padding: int, dilation: int, mode: str
) -> Axis:
    """Connections of a convolution along one axis; ``padding`` is that before the first input."""
    # Positions that a border can reach: by a window, or by a window that shares an input with such a window.
    reach = (kernel - 1) * dilation + 1
    border = -(2 * (reach + max(padding, reach)) // -stride) + 2
    repeats = max(0, num_targets - 2 * border - 1)
    num_targets, num_sources = num_targets - repeats, num_sources - repeats * stride
    middle = num_targets // 2
    cut = Cut(repeats, slice(middle * stride, (middle + 1) * stride), slice(middle, middle + 1)) if repeats else None
    targets, taps = (index.ravel() for index in np.mgrid[:num_targets, :kernel])
    sources = _fold(targets * stride + taps * dilation - padding, num_sources, mode)
    inside = sources >= 0
    axis = _sum_repeats(sources[inside], targets[inside], taps[inside], num_sources, num_targets, kernel)
    return axis._replace(cut=cut)


def _sum_repeats(
    sources: np.ndarray, targets: np.ndarray, taps: np.ndarray, num_sources: int, num_targets: int, kernel: int
) -> Axis:
    """Give every set of slots that meets in one (input, output) pair a tap of its own."""
    pair = targets * num_sources + sources
    unique_pairs, inverse, counts = np.unique(pair, return_inverse=True, return_counts=True)
    slots = np.eye(kernel)
    if (counts == 1).all():
        return Axis(sources, targets, taps, num_sources, num_targets, slots)
    single = counts[inverse] == 1
    sets: dict[tuple[int, ...], int] = {}
    rows, extra_sources, extra_targets, extra_taps = [slots], [], [], []
    for number in np.flatnonzero(counts > 1):
        members = tuple(sorted(taps[inverse == number].tolist()))
        if members not in sets:
            sets[members] = kernel + len(sets)
            rows.append(np.bincount(members, minlength=kernel)[None].astype(float))
        extra_taps.append(sets[members])
        extra_sources.append(unique_pairs[number] % num_sources)
        extra_targets.append(unique_pairs[number] // num_sources)
    return Axis(
        np.concatenate([sources[single], extra_sources]).astype(np.int64),
        np.concatenate([targets[single], extra_targets]).astype(np.int64),
        np.concatenate([taps[single], extra_taps]).astype(np.int64),
        num_sources,
        num_targets,
        np.concatenate(rows),
    )


@lru_cache(maxsize=1024)
def transposed_conv_axis(
    num_sources: int, num_targets: int, kernel: int, stride: int, padding: int, dilation: int
) -> Axis:
    """Connections of a transposed convolution along one axis: those of the convolution, turned round."""
    forward = conv_axis(num_targets, num_sources, kernel, stride, padding, dilation, "zeros")
    cut = forward.cut and Cut(forward.cut.repeats, forward.cut.targets, forward.cut.sources)
    return Axis(
        forward.targets, forward.sources, forward.taps, forward.num_targets, forward.num_sources, forward.slots, cut
    )


def pool_axis(starts: np.ndarray, stops: np.ndarray, divisors: np.ndarray, num_sources: int) -> Axis:
    """Connections of average pooling along one axis: windows ``[start, stop)`` of weight ``1 / divisor``.

    A tap stands for a divisor; ``slots`` holds its weight.
    """
    values, taps = np.unique(divisors, return_inverse=True)
    lengths = np.maximum(stops - starts, 0)
    targets = np.repeat(np.arange(len(starts)), lengths)
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return Axis(
        np.repeat(starts, lengths) + within, targets, taps[targets], num_sources, len(starts), 1.0 / values[:, None]
    )


def pool_windows(
    num_sources: int, num_targets: int, kernel: int, stride: int, padding: int, include_padding: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return starts and stops of the windows of average pooling, and what it divides by."""
    starts = np.arange(num_targets) * stride - padding
    stops = np.minimum(starts + kernel, num_sources + padding)
    padded = stops - starts
    starts, stops = starts.clip(0), stops.clip(max=num_sources)
    return starts, stops, padded if include_padding else stops - starts


def adaptive_windows(num_sources: int, num_targets: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of adaptive average pooling."""
    index = np.arange(num_targets)
    starts, stops = index * num_sources // num_targets, -((index + 1) * num_sources // -num_targets)
    return starts, stops, stops - starts
