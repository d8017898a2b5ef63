"""Redundancies of several tables of as many sources at once: of small tables most of the time goes into calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional.partial_information._agreement import agreement_weights
from lightning_foresight.functional.partial_information._row_ids import group_sum, row_ids
from lightning_foresight.functional.partial_information.joint_table import JointRows, float_dtype
from lightning_foresight.functional.partial_information.sx_pid import average_log_unions


class _Stacked(NamedTuple):
    table: Tensor  # (rows,), which one
    rows: Tensor  # (rows, sources + 1)
    weights: Tensor  # (rows,)
    totals: Tensor  # (tables,)


def _stacked(tables: Sequence[JointRows]) -> _Stacked:
    rows, weights = [], []
    for table in tables:
        weight = table.weights.to(float_dtype(table.weights.device))
        present = weight.detach() > 0
        weight = weight[present]
        if not table.is_counted:
            weight = weight / weight.detach().min()  # no union below 1, so that their products cannot underflow
        rows.append(table.rows[present])
        weights.append(weight)
    device = rows[0].device
    sizes = torch.tensor([len(each) for each in rows], device=device)
    number = torch.arange(len(tables), device=device).repeat_interleave(sizes)
    weight = torch.cat(weights)
    return _Stacked(number, torch.cat(rows), weight, group_sum(number, len(tables), weight))


def informative_terms(tables: Sequence[JointRows], codes: Tensor) -> Tensor:
    """Average information, in bits, in learning that one of the sets of an antichain agrees, whatever the target.

    Args:
        tables: Of as many sources each.
        codes: Antichains as up-sets; see :class:`Lattice`.

    Returns:
        ``(tables, antichains)``; differentiable in the weights.
    """
    table, rows, weights, totals = _stacked(tables)
    # Without the target, rows that differ in it alone are one: often half as many.
    keyed = torch.cat([table[:, None].to(rows.dtype), rows[:, :-1]], 1)
    state, num_states = row_ids(keyed)
    states = keyed.new_empty(num_states, keyed.shape[1]).index_put((state,), keyed)
    of_state, of_table = group_sum(state, num_states, weights), states[:, 0].long()
    agreement = agreement_weights(states[:, 1:], of_state, given=of_table)
    seen = average_log_unions(agreement, codes.to(rows.device), of_state / totals[of_table], of_table)
    return torch.log2(totals)[:, None] - seen


def misinformative_terms(tables: Sequence[JointRows], codes: Tensor) -> Tensor:
    """The same among the rows of one target value, ``(tables, antichains)``."""
    table, rows, weights, totals = _stacked(tables)
    target, num_targets = row_ids(torch.stack([table, rows[:, -1].long()], 1))
    of_target = group_sum(target, num_targets, weights)[target]
    shares = weights / totals[table]
    agreement = agreement_weights(rows[:, :-1], weights, given=target)
    seen = average_log_unions(agreement, codes.to(rows.device), shares, table)
    return group_sum(table, len(tables), shares * torch.log2(of_target))[:, None] - seen
