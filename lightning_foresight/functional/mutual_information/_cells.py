"""Which samples share a cell: many columns of integers are hashed into one, sorted once and counted."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunk_length
from lightning_foresight.functional.mutual_information._bins import Binning

# Columns hashed before the first look at which rows still share a cell; a layer this narrow takes one pass.
_FIRST_LOOK = 64


class Cells(NamedTuple):
    """The occupied cells of (T, label) and of T, by how many samples each holds; those of several layers in a row."""

    joint_counts: Tensor  # (joint cells,)
    label: Tensor  # (joint cells,)
    cell: Tensor  # (joint cells,), which cell of T
    counts: Tensor  # (cells,)
    layer: Tensor  # (cells,), of which layer
    num_layers: int
    num_labels: int
    num_samples: int


@functools.lru_cache(maxsize=8)
def _multipliers(width: int) -> Tensor:
    """Return the same random 64-bit multipliers on every call."""
    return torch.from_numpy(np.random.Generator(np.random.PCG64(0x5EED)).integers(-(2**63), 2**63 - 1, size=width))


def _sort_(keys: Tensor) -> Tensor:
    # torch sorts 64-bit integers on the CPU without vector instructions, 8 times slower than NumPy (4,096 keys).
    if keys.device.type != "cpu":
        return torch.sort(keys).values
    keys.numpy().sort()
    return keys


def hash_columns(columns: Tensor) -> Tensor:
    """Return one 64-bit key for each row of integers."""
    return _hash(columns, _multipliers(columns.shape[1]).to(columns.device))


def _hash(columns: Tensor, multipliers: Tensor) -> Tensor:
    columns = columns.to(torch.int64)
    if columns.device.type == "cpu":
        return columns @ multipliers
    return (columns * multipliers).sum(1)  # no integer matmul on accelerators


@functools.lru_cache(maxsize=64)
def _digits(width: int, base: int, low_bits: int) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor([float(base**place << low_bits) for place in range(width)], dtype=torch.float64)


def row_keys(rows: Tensor, binning: Binning, low_bits: int = 0) -> Tensor:
    """Return one 64-bit key for each row, equal where all bin numbers of the rows are equal.

    On the CPU the bins of a few units are the digits of one number, where it is small enough to be exact in float64,
    whose matrix product takes a third of the time of that of integers. All others are hashed, linearly with random
    multipliers modulo 2^64, and compared on the upper bits. Two different rows then share a key with a probability near
    2^(b - 64), where b bits are left to the label: 2e-7 that any two of 1e5 rows do, with a thousand labels.

    Args:
        rows: Shape ``(n, width)``.
        binning: Of these rows.
        low_bits: How many of the lowest bits are not to matter.
    """
    n, width = rows.shape
    codes = binning.codes
    if rows.device.type == "cpu":
        base, largest = max(2.0, binning.high - binning.low + 1), max(-binning.low, binning.high, 1.0)
        if width * math.log2(base) + math.log2(largest / (base - 1)) < min(53, 62 - low_bits):
            return (codes(rows).double() @ _digits(width, int(base), low_bits)).to(torch.int64)
    multipliers = _multipliers(width).to(rows.device)
    if width <= _FIRST_LOOK:
        return _hash(codes(rows), multipliers)
    # A wide layer is read only as far as needed: a row that no longer shares its key is alone in its cell for good.
    keys = torch.zeros(n, dtype=torch.int64, device=rows.device)
    active = torch.arange(n, device=rows.device)
    look_again = rows.device.type == "cpu"  # elsewhere looking means waiting for the device, which costs more
    start, length = 0, _FIRST_LOOK
    while start < width and active.numel():
        length = chunk_length(length, 32 * active.numel())
        block = slice(start, start + length)
        part = rows[:, block] if active.numel() == n else rows[active, block]
        keys[active] += _hash(codes(part), multipliers[block])
        start, length = block.stop, 4 * length
        if look_again and start < width:
            _, inverse, counts = torch.unique(keys[active], return_inverse=True, return_counts=True)
            active = active[counts[inverse] > 1]
    return keys


def count_cells(keys: Tensor, labels: Tensor, num_labels: int) -> Cells:
    """Count the cells of the keys and of (key, label) with one sort, the label and the layer in the low bits.

    Args:
        keys: From :func:`row_keys` with room for the label in the low bits, shape ``(n,)``, or ``(layers, n)`` for
            those of several layers.
        labels: Integers from 0, shape ``(n,)``.
        num_labels: More than the largest label.
    """
    num_layers, n = keys.shape if keys.ndim == 2 else (1, keys.shape[0])
    bits, layer_bits = (num_labels - 1).bit_length(), (num_layers - 1).bit_length()
    if layer_bits and keys.device.type == "cpu":
        # Digits leave room for the label only.
        keys = torch.stack([cell_numbers(each >> bits) for each in keys]) << bits + layer_bits
    packed = (keys & (-1 << bits + layer_bits)).bitwise_or_(labels)
    if layer_bits:
        packed |= (torch.arange(num_layers, device=keys.device) << bits).unsqueeze(1)
    joint, joint_counts = torch.unique_consecutive(_sort_(packed).flatten(), return_counts=True)
    values, cell = torch.unique_consecutive(joint >> bits, return_inverse=True)
    counts = torch.zeros_like(values).scatter_add_(0, cell, joint_counts)
    layer, label = values.bitwise_and_((1 << layer_bits) - 1), joint.bitwise_and_((1 << bits) - 1)
    return Cells(joint_counts, label, cell, counts, layer, num_layers, num_labels, n)


def cell_numbers(keys: Tensor) -> Tensor:
    """Number the distinct keys from 0, shape ``(n,)``."""
    return torch.unique(keys, return_inverse=True)[1]
