"""Values of one layer from its codes: averages over sets of sources, resampling, and the null."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from lightning_foresight.functional.discrete_entropy import discrete_entropy
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.partial_information import (
    JointRows,
    representational_complexity,
    shannon_invariants,
)
from lightning_foresight.functional.partial_information._row_ids import group_sum, relabel, row_ids
from lightning_foresight.metrics.joint_table import JointTable


def mutual_information_of(table: JointRows, correction: str) -> Tensor:
    """I(S;T) in bits, with a bias correction of each entropy."""
    counts = [table.weights, *(group_sum(*groups, table.weights) for groups in _groups(table))]
    joint, sources, target = (discrete_entropy(one, correction).value for one in counts)
    return sources + target - joint


def _groups(table: JointRows) -> Iterable[tuple[Tensor, int]]:
    return row_ids(table.sources), relabel(table.target)


def values_of(table: JointRows, measure: str | JointTable, correction: str) -> dict[str, Tensor]:
    """Values of one measure on one table, by key."""
    if isinstance(measure, JointTable):  # first, as a metric compared with a string is a metric, and true
        return {type(measure).__name__: _computed(measure, table)}
    if measure == "complexity":
        return {"complexity": representational_complexity(table).value}
    invariants = shannon_invariants(table)
    return {
        "mi": mutual_information_of(table, correction),
        "redundancy": invariants.redundancy,
        "vulnerability": invariants.vulnerability,
        "saturation": invariants.saturation.clamp(max=1),
    }


def averaged(
    tables: list[JointRows], measure: str | JointTable, correction: str, bootstrap: int, generator: torch.Generator
) -> dict[str, Estimate]:
    """Mean over tables with the standard error of that mean, or with the spread over resamples."""
    values = _stacked(values_of(table, measure, correction) for table in tables)
    if bootstrap:
        means = [
            {key: value.mean(0) for key, value in again.items()}
            for _ in range(bootstrap)
            for again in [_stacked(values_of(_resampled(table, generator), measure, correction) for table in tables)]
        ]
        errors = {key: spread.std(0) for key, spread in _stacked(means).items()}
    else:
        # Of a single table there is no spread to judge by: the standard deviation of one value is NaN.
        errors = {key: _std(value) / math.sqrt(len(value)) for key, value in values.items()}
    samples = int(tables[0].weights.sum())
    return {
        key: make_estimate(value.mean(0), std_error=errors[key], num_samples=samples, method="plug-in")
        for key, value in values.items()
    }


def _stacked(values: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    rows = list(values)
    return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}


def _std(values: Tensor) -> Tensor:
    return values.std(0) if len(values) > 1 else torch.full_like(values[0], math.nan)


def _resampled(table: JointRows, generator: torch.Generator) -> JointRows:
    total = int(table.weights.sum())
    drawn = torch.multinomial(table.weights.double(), total, replacement=True, generator=generator)
    return JointRows(table.rows, torch.bincount(drawn, minlength=len(table.rows)))


def _computed(metric: JointTable, table: JointRows) -> Tensor:
    metric.reset()
    metric = metric.to(table.rows.device)
    metric.update(*(part.repeat_interleave(table.weights, 0) for part in (table.sources, table.target)))
    # Every rank measures the same samples: there is nothing to gather.
    with metric.sync_context(should_sync=False):
        result = metric.compute()
    value = result.value if isinstance(result, Estimate) else result
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise TypeError(
            f"PIDCallback(measure={type(metric).__name__}): compute() returned {type(value).__name__}; expected an "
            "Estimate or a tensor of one value. Subclass the metric and return the number to log."
        )
    return value.reshape(())
