"""Mutual information and dependence, as cases for two devices: a name, what measures, and what it gets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

import lightning_foresight.functional as F
from lightning_foresight import metrics
from lightning_foresight.functional.dependence.kernels import KERNELS
from lightning_foresight.functional.mutual_information.neural import OBJECTIVES

N = 120
QUICK: dict[str, dict[str, Any]] = {
    "sliced": {"num_slices": 3},
    "probe": {"hidden": 4, "num_folds": 3, "max_steps": 3},
    **{objective: {"hidden": 8, "max_steps": 3, "batch_size": 32} for objective in OBJECTIVES},
}
BINNINGS: tuple[dict[str, Any], ...] = (
    {},
    {"bin_width": 0.25},
    {"bins": 6, "equal_mass": True},
    {"bins": 6, "range": (-1, 1)},
    {"edges": [-1.0, 0.0, 1.0]},
    {"bins": 3, "correction": "chao_shen"},
    {"bins": 3, "correction": "nsb"},
)
OTHERS = set(OBJECTIVES) - {"infonce"}
CORRECTIONS = ("none", "miller_madow", "grassberger", "chao_shen", "chao_wang_jost", "nsb", "jackknife")


def cases() -> Iterator[tuple[Any, ...]]:
    """Yield a case for every estimator and every way through the larger ones."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, 4, generator=generator)
    y = x[:, :2] + torch.randn(N, 2, generator=generator)
    labels = (x[:, 0] > 0).long()
    yield from _estimators(x, y, labels)
    yield from _values_of_samples(x, y, labels, torch.randn(N, 80, generator=generator))
    yield from _dependence(x, y)
    for correction in CORRECTIONS:
        yield f"entropy by {correction}", partial(F.discrete_entropy, correction=correction), torch.tensor([3, 4, 5, 1])
    for estimator, other in (("auto", y), ("ksg", labels), ("probe", labels)):
        metric = metrics.MutualInformation(estimator, options=QUICK.get(estimator))
        yield f"metric of {estimator}", _computed, metric, x, other
    for metric in (metrics.HSIC(), metrics.CKA()):
        yield f"metric {type(metric).__name__}", _computed, metric, x, y


def _estimators(x: Tensor, y: Tensor, labels: Tensor) -> Iterator[tuple[Any, ...]]:
    for name, estimator in F.ESTIMATORS.items():
        options = QUICK.get(name, {})
        if name in OTHERS:  # they differ from InfoNCE in what is raised and read
            yield f"information by {name}", partial(F.mutual_information, estimator=name, **options), x, y
            continue
        if estimator.pair is not None and estimator.unit:
            yield f"information by {name}", partial(F.mutual_information, estimator=name, **options), x, y
        if estimator.label is not None:
            # Targets of a loader lie on the host.
            yield f"labels by {name}", partial(F.label_information, labels=labels, estimator=name, **options), x
        if estimator.input is not None:
            measure = partial(_plane, estimator=name, **options)
            yield f"plane by {name}", measure, x, y, labels


def _values_of_samples(x: Tensor, y: Tensor, labels: Tensor, wide: Tensor) -> Iterator[tuple[Any, ...]]:
    for options in BINNINGS:
        yield f"binned with {options}", partial(F.plane_information, estimator="binned", **options), x, labels
        yield f"pair binned with {options}", partial(F.mutual_information, estimator="binned", **options), x, y
    yield "binned, many units", partial(F.plane_information, estimator="binned"), wide, labels
    yield "binned, several layers", _binned_layers, x, y, labels
    yield "binned, integers", partial(F.plane_information, estimator="binned"), (2 * x).long(), labels
    for options in ({"noise_variance": "fitted"}, {"bound": "lower"}):
        yield f"kde with {options}", partial(F.plane_information, estimator="kde", **options), x, labels
    for estimator in ("auto", "ksg", "edge", "gaussian_copula"):
        measure = partial(F.mutual_information, estimator=estimator)
        yield f"ties by {estimator}", measure, x.relu().round(decimals=1), y.round()
    for names, first, second in (
        ("single columns", x[:, 0], y[:, 0]),
        ("values and columns", x[:, 0].round(), y),
        ("columns and values", x, labels.float()),
        ("values alone", x[:, :2].sign(), y[:, 0].sign()),
        ("constants", torch.ones(N, 2), y),
    ):
        yield f"auto of {names}", F.mutual_information, first, second
    yield "ksg, second variant", partial(F.mutual_information, estimator="ksg", variant=2), x, y
    yield "noisy, declared", partial(F.plane_information, estimator="noisy", noise_std=0.3, num_draws=2), x, labels
    yield "renyi of some samples", partial(F.label_information, estimator="renyi", max_samples=50), x, labels
    for estimator in ("auto", "binned", "kde", "noisy", "cka"):
        yield f"layers by {estimator}", partial(F.layer_pair_information, estimator=estimator), x, y
    fitted = partial(F.layer_pair_information, estimator="kde", noise_variance="fitted")
    yield "layers by kde with fitted noise", fitted, x, y
    for estimator in ("auto", "binned", "kde", "noisy"):
        yield (
            f"plane by {estimator}, labels of the host",
            partial(F.plane_information, labels=labels, estimator=estimator),
            x,
        )
    yield "binned without labels", partial(F.input_information, estimator="binned"), x
    yield "data processing", F.data_processing_gap, torch.tensor([3.0, 2.0, 2.5])


def _dependence(x: Tensor, y: Tensor) -> Iterator[tuple[Any, ...]]:
    for kernel in KERNELS:
        yield f"hsic, {kernel}", partial(F.hsic, kernel=kernel, unbiased=False), x, y
    for measure in ("hsic", "cka", "distance_correlation"):
        yield f"test of {measure}", partial(F.independence_test, measure=measure, num_permutations=4), x, y


def _plane(x: Tensor, inputs: Tensor, labels: Tensor, **options: Any) -> Any:
    return F.plane_information(x, labels, inputs=inputs, **options)


def _binned_layers(x: Tensor, y: Tensor, labels: Tensor) -> Any:
    return F.plane_information({"first": x, "second": y}, labels, estimator="binned", bins=8)


def _computed(metric: metrics.DependenceMetric, *samples: Tensor) -> Any:
    for part in zip(*(each.split(N // 2) for each in samples), strict=True):
        metric.update(*part)
    return metric.compute()
