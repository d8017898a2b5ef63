"""Sums of Gaussian overlaps over all pairs of rows, in blocks, leaving out blocks that cannot matter."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_foresight.functional._memory import MEMORY_BUDGET

# On the CPU two blocks of this length and their overlaps stay in the second-level cache; a device wants larger ones.
_CPU_BLOCK = 512
# Coordinates of largest variance that bound the distance of two blocks, or of their rows, from below.
_LEADING = 32


class OverlapSums(NamedTuple):
    """For each row, sums over all rows and over the rows with its label, at both widths; in an order of their own."""

    narrow: Tensor  # sum_j exp(-d_ij^2 / (2 variance))
    wide: Tensor  # sum_j exp(-d_ij^2 / (8 variance))
    label_narrow: Tensor
    label_wide: Tensor
    label_size: Tensor  # rows with the label of this row


def _tile(rows: Tensor) -> tuple[Tensor, list[int]]:
    """Order rows so that contiguous blocks are far apart where possible; return the order and the borders of blocks.

    The two coordinates of largest variance are cut into slabs of equally many rows, and each slab into tiles.
    """
    n = rows.shape[0]
    slabs = max(1, math.isqrt(max(0, n - 1) // _CPU_BLOCK))
    tiles = max(1, math.ceil(n / _CPU_BLOCK / slabs))
    borders = [n * k // (slabs * tiles) for k in range(slabs * tiles + 1)]
    if slabs * tiles == 1:
        return torch.arange(n), borders
    values = rows.numpy()
    by_first = np.argsort(values[:, 0])
    if slabs == 1:
        return torch.from_numpy(by_first), borders
    slab_of = np.empty(n, dtype=np.int16)
    slab_of[by_first] = np.repeat(np.arange(slabs), np.diff(borders[::tiles]))
    by_second = np.argsort(values[:, min(1, rows.shape[1] - 1)])
    return torch.from_numpy(by_second[np.argsort(slab_of[by_second], kind="stable")]), borders


def _box_gaps(rows: Tensor, blocks: list[slice]) -> Tensor:
    """Lower bound of the squared distance between the rows of each two blocks, ``(blocks, blocks)``."""
    low = torch.stack([rows[block].amin(0) for block in blocks])
    high = torch.stack([rows[block].amax(0) for block in blocks])
    return torch.maximum(low.unsqueeze(1) - high, low - high.unsqueeze(1)).clamp_(min=0).square_().sum(-1)


def gaussian_sums(rows: Tensor, variance: float, label_sizes: list[int]) -> OverlapSums:
    r"""Sum :math:`e^{-d_{ij}^2 / 2 \sigma^2}` and :math:`e^{-d_{ij}^2 / 8 \sigma^2}` over all rows j for each row i.

    The first overlap is the fourth power of the second: one exponential serves both. An overlap too small to change a
    sum that holds at least the row itself (1) is rounded to that size, and a block of nothing else is skipped: seen
    from the boxes around its rows or, in wide layers, from the leading coordinates.

    Args:
        rows: Floating point, shape ``(n, features)``, sorted by label.
        variance: Variance of the noise.
        label_sizes: Number of rows of each label; ``[n]`` without labels.
    """
    n, width = rows.shape
    limits = torch.finfo(rows.dtype)
    # Below this exponent an overlap is lost in rounding. Its fourth power must stay a normal number: exponentials and
    # products that are not take 12 times as long on a CPU.
    floor = max(math.log(limits.eps / 8 / n), 0.95 * math.log(limits.tiny) / 4)
    on_cpu = rows.device.type == "cpu"  # elsewhere, looking at values means waiting for the device
    rows = (rows - rows.mean(0)) / math.sqrt(8 * variance)
    if on_cpu and n > _CPU_BLOCK:
        leading = rows.var(0).topk(min(width, _LEADING)).indices

    blocks, label_of_block, start, orders = [], [], 0, []
    for label, size in enumerate(label_sizes):
        if on_cpu and n > _CPU_BLOCK:
            order, borders = _tile(rows[start : start + size][:, leading])
            orders.append(order + start)
        else:
            length = _CPU_BLOCK if on_cpu else max(1, math.isqrt(MEMORY_BUDGET // (2 * rows.element_size())))
            borders = [*range(0, size, length), size]
        blocks += [slice(start + a, start + b) for a, b in itertools.pairwise(borders)]
        label_of_block += [label] * (len(borders) - 1)
        start += size
    needed, head = None, None
    if orders:
        rows = rows[torch.cat(orders)]
        head = rows[:, leading]
        needed = (_box_gaps(head, blocks) < -floor).tolist()
        head = head if width > 4 * _LEADING else None

    sq, one = rows.square().sum(1, keepdim=True), rows.new_ones(n, 1)
    left, right = torch.cat([2 * rows, -sq, -one], 1), torch.cat([rows, one, sq], 1)
    left_parts, right_parts = [left[block] for block in blocks], [right[block].T for block in blocks]
    narrow, wide, label_narrow, label_wide = (torch.zeros_like(sq[:, 0]) for _ in range(4))
    buffer = rows.new_empty(max(block.stop - block.start for block in blocks) ** 2)
    for i, first in enumerate(blocks):
        for j, second in enumerate(blocks[i:], i):
            if needed is not None and not needed[i][j]:
                continue
            shape = first.stop - first.start, second.stop - second.start
            overlap = buffer[: shape[0] * shape[1]].view(shape)
            if head is not None and i != j and _is_far(head[first], head[second], overlap, floor):
                continue
            torch.mm(left_parts[i], right_parts[j], out=overlap)
            if i == j:
                overlap.fill_diagonal_(0)
            overlap.clamp_(floor, 0).exp_()
            same_label = label_of_block[i] == label_of_block[j]
            for total, of_label in ((wide, label_wide), (narrow, label_narrow)):
                if total is narrow:
                    overlap.square_().square_()
                for block, dim in ((first, 1), (second, 0))[: 1 if i == j else 2]:
                    part = overlap.sum(dim)
                    total[block] += part
                    if same_label:
                        of_label[block] += part
    sizes = torch.tensor(label_sizes, device=rows.device)
    return OverlapSums(narrow, wide, label_narrow, label_wide, torch.repeat_interleave(sizes, sizes))


def _is_far(first: Tensor, second: Tensor, out: Tensor, floor: float) -> bool:
    """Whether no two rows overlap, by a lower bound of their distance from the leading coordinates."""
    torch.mm(first, second.T, out=out)
    out.mul_(2).sub_(first.square().sum(1, keepdim=True)).sub_(second.square().sum(1))
    return bool(out.amax() < floor)
