"""Entropies of single columns, alone and together with the target."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_foresight.functional.partial_information._leave_one_out import group_entropy
from lightning_foresight.functional.partial_information._row_ids import MAX_EXACT_COLUMNS, relabel

_MAX_BYTE_ROWS = 255  # ones that a byte can count


def column_entropies(
    columns: Tensor, target: Tensor, weights: Tensor, correction: str = "none"
) -> tuple[Tensor, Tensor]:
    """Entropies of each column, ``(n,)``, and of each column with the target, ``(n,)``, in nats.

    Args:
        columns: Codes, ``(m, n)``.
        target: Codes, ``(m,)``.
        weights: Counts or probabilities, ``(m,)``; differentiable up to 64 columns.
        correction: Correction of the bias, of counts of up to 64 columns.
    """
    wide = columns.shape[1] > MAX_EXACT_COLUMNS and not weights.requires_grad
    low, high = (0 if columns.dtype == torch.uint8 else int(columns.min()), int(columns.max())) if wide else (0, 0)
    if wide and high - low < 256:
        counts = _byte_counts(columns, low, high - low + 1, relabel(target), weights)  # (levels, targets, n)
        with_target = counts / counts.sum((0, 1))
        alone = with_target.sum(1)
        return -torch.special.xlogy(alone, alone).sum(0), -torch.special.xlogy(with_target, with_target).sum((0, 1))
    p = weights / weights.sum() if correction == "none" else weights
    target, num_targets = relabel(target)
    pairs = []
    for column in columns.unbind(1):
        codes, levels = relabel(column)
        alone = group_entropy(codes, levels, p, correction)
        together = group_entropy(codes * num_targets + target, levels * num_targets, p, correction)
        pairs.append(torch.stack([alone, together]))
    entropies = torch.stack(pairs, 1)
    return entropies[0], entropies[1]


def _byte_counts(columns: Tensor, low: int, levels: int, target: tuple[Tensor, int], weights: Tensor) -> Tensor:
    """Weight of each level of each column with each target value, ``(levels, targets, n)``.

    Rows of one target and weight are counted together: a comparison leaves a one in each byte, and eight bytes are
    added at a time as one integer, at most 255 rows before any byte could overflow.
    """
    (labels, num_targets), num_columns = target, columns.shape[1]
    values, ranks = torch.unique(weights, return_inverse=True)
    keys, sizes = torch.unique(labels * len(values) + ranks, return_counts=True)
    order = torch.argsort(labels * len(values) + ranks)
    counts = torch.zeros(levels, num_targets, num_columns, dtype=torch.float64, device=columns.device)
    padded = -(-num_columns // 8) * 8
    codes = torch.zeros(_MAX_BYTE_ROWS, padded, dtype=torch.uint8, device=columns.device)
    equal = torch.empty_like(codes)
    end = 0
    for key, size in zip(keys.tolist(), sizes.tolist(), strict=True):
        begin, end = end, end + size
        label, weight = key // len(values), values[key % len(values)].double()
        for start in range(begin, end, _MAX_BYTE_ROWS):
            rows = order[start : min(start + _MAX_BYTE_ROWS, end)]
            codes[: len(rows), :num_columns] = columns.index_select(0, rows) - low
            for level in range(levels):
                ones = torch.eq(codes[: len(rows)], level, out=equal[: len(rows)])
                sums = ones.view(torch.int64).sum(0).view(torch.uint8)[:num_columns]
                counts[level, label] += sums * weight
    return counts
