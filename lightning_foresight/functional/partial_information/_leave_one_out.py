"""Entropies of all columns but one, for tables of a few columns and of thousands."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunks
from lightning_foresight.functional.discrete_entropy import discrete_entropy
from lightning_foresight.functional.partial_information._row_ids import (
    BLOCK,
    MAX_EXACT_COLUMNS,
    block_fingerprints,
    column_multipliers,
    group_sum,
    relabel,
)

_ODD = 0x5851F42D4C957F2D


def group_entropy(ids: Tensor, num_groups: int, p: Tensor, correction: str = "none") -> Tensor:
    """Entropy in nats of the groups of rows with equal ids; differentiable in ``p``.

    With a ``correction`` of the bias, ``p`` are counts.
    """
    grouped = group_sum(ids, num_groups, p)
    if correction != "none":
        return discrete_entropy(grouped[grouped > 0], correction, base=math.e).value
    return -torch.special.xlogy(grouped, grouped).sum()


class LeaveOneOut:
    """Entropies of rows and of rows without each column, alone or together with labels of the rows.

    Args:
        columns: Codes, ``(m, n)``.
    """

    def __init__(self, columns: Tensor) -> None:
        self.columns = columns
        self.is_wide = columns.shape[1] > MAX_EXACT_COLUMNS
        if self.is_wide:
            self._prefix = torch.nn.functional.pad(block_fingerprints(columns).cumsum_(1), (1, 0))
        else:
            self._sides = _sides(columns)

    def entropies(
        self, p: Tensor, labels: tuple[Tensor, int] | None = None, correction: str = "none"
    ) -> tuple[Tensor, Tensor]:
        """Joint entropy and those without one column, ``(n,)``, in nats.

        Args:
            p: Probabilities of the rows, ``(m,)``; their counts with a correction.
            labels: Numbers below a size that count as one more column, which is never left out.
            correction: Correction of the bias, for up to 64 columns.
        """
        labels = labels or (torch.zeros(len(p), dtype=torch.long, device=p.device), 1)
        return self._wide(p, labels[0]) if self.is_wide else self._narrow(p, *labels, correction)

    def _narrow(self, p: Tensor, labels: Tensor, num_labels: int, correction: str) -> tuple[Tensor, Tensor]:
        left, right = self._sides

        def entropy(ids: Tensor) -> Tensor:
            return group_entropy(*relabel(ids * num_labels + labels), p, correction)

        all_but = [
            entropy(before * size + after) for (before, _), (after, size) in zip(left[:-1], right[1:], strict=True)
        ]
        return entropy(left[-1][0]), torch.stack(all_but)

    def _wide(self, p: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Take a column out of 64-bit fingerprints of rows; two rows share one by chance with probability near 2^-63.

        Only rows that differ in a single column can merge. Such rows agree outside one half of the columns, then
        outside one half of that half, and so on; at each step a row without a partner drops out, so that few are ever
        looked at column by column.
        """
        num_columns = self.columns.shape[1]
        whole = self._prefix[:, -1] + labels * _ODD
        ids, num_rows = relabel(whole)
        first = torch.empty(num_rows, dtype=torch.long, device=ids.device)
        first[ids] = torch.arange(len(ids), device=ids.device)
        q = group_sum(ids, num_rows, p)
        joint = -torch.special.xlogy(q, q).sum()
        multipliers = column_multipliers(num_columns, ids.device)

        row, start, group = torch.arange(num_rows, device=ids.device), torch.zeros_like(first), first
        width = BLOCK * 2 ** (self._prefix.shape[1] - 2).bit_length()
        while width > 1 and len(row):
            width //= 2
            row, start = row.repeat(2), torch.cat([start, start + width])
            row, start = row[start < num_columns], start[start < num_columns]
            inside = self._range_fingerprints(multipliers, first[row], start, width)
            # Ranges are told apart by a multiple of an odd number, which is one to one modulo 2^64.
            group, num_groups = relabel(whole[first[row]] - inside + start * _ODD)
            partnered = torch.bincount(group, minlength=num_groups)[group] > 1
            row, start, group = row[partnered], start[partnered], group[partnered]
        all_but = joint.expand(num_columns)
        if len(row):
            group, num_groups = relabel(group)
            merged = group_sum(group, num_groups, q[row])
            column = torch.empty(num_groups, dtype=torch.long, device=ids.device)
            column[group] = start
            lost = group_sum(column, num_columns, torch.special.xlogy(merged, merged))
            all_but = all_but - (lost - group_sum(start, num_columns, torch.special.xlogy(q, q)[row]))
        return joint, all_but

    def _range_fingerprints(self, multipliers: Tensor, samples: Tensor, start: Tensor, width: int) -> Tensor:
        """Fingerprints of the columns from ``start`` to ``start + width`` of some rows."""
        if width >= BLOCK:
            end = ((start + width) // BLOCK).clamp(max=self._prefix.shape[1] - 1)
            return self._prefix[samples, end] - self._prefix[samples, start // BLOCK]
        result = torch.empty_like(samples)
        for part in chunks(len(samples), width * 32):
            column = start[part, None] + torch.arange(width, device=start.device)
            inside = column < len(multipliers)
            column = column.clamp(max=len(multipliers) - 1)
            result[part] = (self.columns[samples[part, None], column].long() * multipliers[column] * inside).sum(1)
        return result


def _sides(columns: Tensor) -> tuple[list[tuple[Tensor, int]], list[tuple[Tensor, int]]]:
    """Numbers of what stands left of each column, and from each column to the right."""
    relabelled = [relabel(column) for column in columns.unbind(1)]
    nothing = torch.zeros(len(columns), dtype=torch.long, device=columns.device), 1
    left, right = [nothing], [nothing]
    for codes, levels in relabelled:
        left.append(relabel(left[-1][0] * levels + codes))
    for codes, levels in reversed(relabelled):
        right.append(relabel(right[-1][0] * levels + codes))
    return left, right[::-1]
