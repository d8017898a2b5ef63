"""Partial information, as cases for two devices: a name, what measures, and what it gets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

import lightning_foresight.functional as F
from lightning_foresight import metrics
from lightning_foresight.training import QuantizeActivations

N = 120
OF_TABLES = (
    F.sx_pid,
    F.shannon_invariants,
    F.representational_complexity,
    F.information_by_degree,
    F.o_information,
    F.s_information,
    F.total_correlation,
    F.dual_total_correlation,
    F.reing,
    F.subset_mutual_information,
)


def cases() -> Iterator[tuple[Any, ...]]:
    """Yield a case for every measure of a table, and for what makes tables."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, 4, generator=generator)
    labels, bits = (x[:, 0] > 0).long(), (x > 0).long()
    wide = torch.randint(0, 3, (N, 150), generator=generator)
    for measure in OF_TABLES:
        yield measure.__name__, partial(_of_table, measure=measure), bits[:, 1:], labels
    yield "broja_pid", partial(_of_table, measure=F.broja_pid), bits[:, :2], labels
    pairs = partial(_of_table, measure=partial(F.broja_pid, pairs=[(0, 1), (1, 2)]))
    yield "broja_pid of pairs", pairs, bits[:, 1:], labels
    for by in ("target", "row"):
        yield f"sx_pid by {by}", partial(_atoms, by=by), bits[:, 1:], labels
    clock = partial(F.representational_complexity, method="clock", max_draws=64)
    yield "complexity by clocks", partial(_of_table, measure=clock), bits, labels
    for name, sources in (("bytes", wide.to(torch.uint8)), ("numbers", wide), ("large numbers", wide * 1000)):
        yield f"invariants of wide rows of {name}", partial(_wide, measure=F.shannon_invariants), sources, labels
    # Rows that differ in one column alone merge when it is left out.
    alike = (torch.arange(N)[:, None] == torch.arange(150)).long()
    yield "invariants of wide rows alike", partial(_wide, measure=F.shannon_invariants), alike, labels
    yield "total correlation of wide rows", partial(_wide, measure=F.total_correlation), wide[:, :70], labels
    corrected = partial(F.shannon_invariants, correction="miller_madow")
    yield "invariants, corrected", partial(_of_table, measure=corrected), bits[:, 1:], labels
    yield (
        "invariants of rows of many codes",
        partial(_of_table, measure=F.shannon_invariants),
        wide[:, :40] * 999,
        labels,
    )
    yield "table with weights", _weighted, bits, labels
    for keep in (1.0, 0.9):
        table = partial(F.noisy_table, noise_std=0.3, num_bins=2, keep=keep)
        yield f"table of noise, {keep:.0%} kept", table, x[:, :2], labels
    yield from _codes(x)
    yield from _metrics(bits, labels)


def _codes(x: Tensor) -> Iterator[tuple[Any, ...]]:
    for mode in ("center", "bins", "stochastic"):
        yield f"quantize, {mode}", partial(F.quantize, levels=4, mode=mode), x
        yield f"quantize within limits, {mode}", partial(F.quantize, levels=4, mode=mode, limits=(-1, 1)), x
    for mode in ("center", "stochastic"):
        yield f"quantised activations, {mode}", _trained, QuantizeActivations(4, mode=mode), x


def _metrics(bits: Tensor, labels: Tensor) -> Iterator[tuple[Any, ...]]:
    dense: dict[str, Any] = {"num_sources": 2, "levels": 2, "num_targets": 2}
    for metric in (
        metrics.BrojaPID(),
        metrics.OInformation(),
        metrics.RepresentationalComplexity(),
        metrics.ShannonInvariants(dtype=torch.uint8),
        metrics.SxPID(parts=True),
        metrics.SxPID(**dense),
    ):
        yield f"metric {metric}", _computed, metric, bits[:, :2], labels
    yield "metric of a rank without samples", _synced, metrics.SxPID(), labels


def _of_table(sources: Tensor, target: Tensor, measure: Any) -> Any:
    return measure(F.joint_table(sources, target))


def _wide(sources: Tensor, target: Tensor, measure: Any) -> Any:
    return measure(F.joint_table(sources, target, dtype=sources.dtype))


def _weighted(sources: Tensor, target: Tensor) -> Any:
    weights = torch.linspace(0, 1, len(target), device=target.device)
    return F.shannon_invariants(F.joint_table(sources, target, weights=weights))


def _atoms(sources: Tensor, target: Tensor, by: Any) -> Any:
    result = F.sx_pid(F.joint_table(sources, target), by=by, parts=True)
    of_all = F.sx_pid(F.joint_table(sources, target))
    return *result, dict(result.atoms), result.degree_of_synergy_atoms, of_all.representational_complexity


def _trained(layer: QuantizeActivations, x: Tensor) -> Any:
    x = x.clone().requires_grad_()
    layer(x).square().sum().backward()
    again = layer.__class__(layer.levels, mode=layer.mode)
    again.load_state_dict(layer.state_dict())
    return x.grad, layer(x.detach()), layer.codes(x), again(x.detach())


def _computed(metric: metrics.JointTable, sources: Tensor, target: Tensor) -> Any:
    for part in zip(sources.split(N // 2), target.split(N // 2), strict=True):
        metric.update(*part)
    return metric.compute()


def _synced(metric: metrics.JointTable, like: Tensor) -> Any:
    metric.sync(dist_sync_fn=lambda state, group=None: [state], distributed_available=lambda: True)
    return metric.codes, metric.weights
