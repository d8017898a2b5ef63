"""Values of one layer: averages over sets of sources, resampling, and the null."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable

import torch
from torch import Tensor

from lightning_foresight.callbacks._pid_codes import LayerStates
from lightning_foresight.callbacks._pid_plans import Plan
from lightning_foresight.functional._checks import describe
from lightning_foresight.functional._random import own_generator
from lightning_foresight.functional.discrete_entropy import discrete_entropy
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.partial_information import (
    JointRows,
    representational_complexity,
    shannon_invariants,
)
from lightning_foresight.functional.partial_information._row_ids import MAX_EXACT_COLUMNS, group_sum, relabel, row_ids
from lightning_foresight.functional.partial_information.complexity import (
    counted_saturation,
    informations_by_degree,
    informative_by_degree,
    mean_degree,
)
from lightning_foresight.functional.partial_information.lattice import MAX_SOURCES
from lightning_foresight.metrics.joint_table import JointTable

_ENOUGH = 16  # samples to an occupied cell, from which on bins claim an estimate of mutual information
_CELLS = "cells"  # counted beside mi, and not logged
KEYS = {"complexity": ("complexity",), "invariants": ("redundancy", "vulnerability")}


def measure_layer(
    states: LayerStates,
    target: Tensor,
    plans: list[Plan],
    correction: str,
    bootstrap: int = 0,
    generator: torch.Generator | None = None,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Mean over sets of sources, with the standard error of that mean or the spread over resampled rows.

    Values that are no numbers are left out: a ratio of no information, in some sets or in all of them. Mutual
    information of fewer than 16 samples to an occupied cell is an upper bound, or not valid with a correction.

    Args:
        states: The codes of a layer.
        target: The target of every sample.
        plans: What to measure, of which sources.
        correction: Bias correction of the entropies.
        bootstrap: Number of resamples.
        generator: Randomness of the resamples.
        seed: Seed of a complexity that is sampled, the same for each set and resample.
    """
    measured = _values(states, target, plans, correction, seed)
    values = {key: known for key, row in measured.items() if len(known := _known(row))}
    cells = values.pop(_CELLS, None)
    kinds = {}
    if cells is not None and bool(cells.max() * _ENOUGH > states.num_samples):
        kinds["mi"] = "upper_bound" if correction == "none" else "not_valid"
    if bootstrap:
        again: dict[str, list[Tensor]] = {key: [] for key in values}
        for _ in range(bootstrap):
            draw = torch.randint(len(target), target.shape, generator=generator, device=target.device)
            resampled = _values(states, target, plans, correction, seed, draw)
            for key, means in again.items():
                means.append(_known(resampled[key]).mean())
        errors = {key: _spread(torch.stack(means)) for key, means in again.items()}
    else:
        # Of a single set there is no spread to judge by.
        errors = {key: _spread(row) / math.sqrt(len(row)) for key, row in values.items()}
    return {
        key: make_estimate(
            row.mean(),
            std_error=errors[key],
            num_samples=states.num_samples,
            kind=kinds.get(key, "estimate"),
            method="plug-in",
        )
        for key, row in values.items()
    }


def measure_nulls(
    states: LayerStates, shuffled: Tensor, plans: list[Plan], correction: str, *, of: Container[str], seed: int = 0
) -> dict[str, Estimate]:
    """What the same samples read of labels that know nothing, without an error: one order of them was drawn.

    Args:
        states: The codes of a layer.
        shuffled: Labels in another order.
        plans: What was measured.
        correction: As for :func:`measure_layer`.
        of: Keys that have a value.
        seed: As for :func:`measure_layer`.
    """
    nulls = [plan for plan in plans if isinstance(plan.measure, str) and plan.measure != "invariants"]
    null = measure_layer(states, shuffled, nulls, correction, seed=seed)
    return {
        f"{key}_null": null[key]._replace(std_error=torch.full_like(null[key].value, math.nan))
        for key in ("mi", "complexity")
        if key in null and key in of
    }


def _values(
    states: LayerStates, target: Tensor, plans: list[Plan], correction: str, seed: int, draw: Tensor | None = None
) -> dict[str, Tensor]:
    """Values by key, one for each set of sources."""
    tables: dict[str, list[JointRows]] = {}
    values: dict[str, Tensor] = {}
    for measure, sets in plans:
        if str(sets) not in tables:
            tables[str(sets)] = [states.table(groups, target, draw) for groups in sets]
        if isinstance(measure, str) and measure == "complexity" and len(sets[0]) < MAX_SOURCES:
            # Shuffled labels change nothing in what the sources share.
            known = states.informative.get(str(sets)) if draw is None else None
            informative = informative_by_degree(tables[str(sets)]) if known is None else known
            if draw is None:
                states.informative[str(sets)] = informative
            values |= _complexities(tables[str(sets)], informative, states.num_samples)
            continue
        rows = [_values_of(table, measure, correction, seed) for table in tables[str(sets)]]
        values |= {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
    return values


def _complexities(tables: list[JointRows], informative: Tensor, num_samples: int) -> dict[str, Tensor]:
    """All of one length at once, which takes a fraction of the time of one after another."""
    values = {"complexity": mean_degree(informations_by_degree(tables, informative))}
    if tables[0].is_counted:
        values["complexity_saturation"] = torch.stack([counted_saturation(table, num_samples) for table in tables])
    return values


def _values_of(table: JointRows, measure: str | JointTable, correction: str, seed: int) -> dict[str, Tensor]:
    """Values of one measure on one table, by key."""
    if isinstance(measure, JointTable):  # first, as a metric compared with a string is a metric, and true
        return {type(measure).__name__: _computed(measure, table)}
    if measure == "complexity":
        complexity = representational_complexity(table, generator=own_generator(table.rows.device, seed))
        return {"complexity": complexity.value, **_counted(table, "complexity_saturation", complexity.saturation)}
    if measure == "invariants":
        narrow = table.num_sources <= MAX_EXACT_COLUMNS
        invariants = shannon_invariants(table, correction=correction if narrow else "none")
        return {"redundancy": invariants.redundancy, "vulnerability": invariants.vulnerability}
    joint, sources, known = (_entropy(groups, correction) for groups in _groups(table))
    saturation = discrete_entropy(table.weights).saturation
    cells = _counted(table, _CELLS, (table.weights > 0).sum().to(joint.dtype))
    return {"mi": sources + known - joint, **cells, **_counted(table, "saturation", saturation)}


def _groups(table: JointRows) -> Iterable[Tensor]:
    """Weights of the joint states, of those of the sources, and of the target values."""
    yield table.weights
    for ids, size in (row_ids(table.sources), relabel(table.target)):
        yield group_sum(ids, size, table.weights)


def _entropy(weights: Tensor, correction: str) -> Tensor:
    return discrete_entropy(weights, correction).value


def _counted(table: JointRows, key: str, saturation: Tensor) -> dict[str, Tensor]:
    """Return a saturation of counts; probabilities tell no number of samples."""
    return {key: saturation} if table.is_counted else {}


def _known(values: Tensor) -> Tensor:
    return values[~values.isnan()]


def _spread(values: Tensor) -> Tensor:
    values = _known(values)
    return values.std(0) if len(values) > 1 else values.new_tensor(math.nan)


def _computed(metric: JointTable, table: JointRows) -> Tensor:
    name = type(metric).__name__
    if not table.is_counted:
        raise TypeError(f"PIDCallback(measure={name}): a metric counts samples, and noisy bins have probabilities.")
    metric.reset()
    metric = metric.to(table.rows.device)
    metric.update(*(part.repeat_interleave(table.weights, 0) for part in (table.sources, table.target)))
    # Every rank measures the same samples: there is nothing to gather.
    with metric.sync_context(should_sync=False):
        result = metric.compute()
    value = result.value if isinstance(result, Estimate) else result
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = describe(value) if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(
            f"PIDCallback(measure={name}): compute() returned {got}; expected an Estimate or a tensor of one value. "
            "Subclass the metric and return the number to log."
        )
    return value.reshape(())
