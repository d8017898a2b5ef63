from __future__ import annotations

import pickle

import pytest
import torch
from torchmetrics import MetricCollection

from lightning_foresight.functional import cka, hsic, label_information, mutual_information
from lightning_foresight.metrics import CKA, HSIC, MutualInformation


def samples(n: int = 120) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 2, 2, generator=generator)
    y = x.flatten(1)[:, :3] + torch.randn(n, 3, generator=generator)
    return x, y, (y[:, 0] > 0).long()


METRICS = {
    "auto": (lambda **kw: MutualInformation(**kw), lambda x, y: mutual_information(x, y)),
    "binned": (
        lambda **kw: MutualInformation("binned", options={"bins": 4}, base=3, **kw),
        lambda x, y: mutual_information(x, y, estimator="binned", bins=4, base=3),
    ),
    "hsic": (lambda **kw: HSIC(bandwidth=2.0, **kw), lambda x, y: hsic(x, y, bandwidth=2.0)),
    "cka": (lambda **kw: CKA(unbiased=False, **kw), lambda x, y: cka(x, y, unbiased=False)),
}


@pytest.mark.parametrize("name", list(METRICS))
def test_batches_give_what_the_function_gives_on_all(name: str) -> None:
    make, function = METRICS[name]
    x, y, _ = samples()
    metric = make()
    for part in (slice(0, 50), slice(50, 120)):
        metric.update(x[part], y[part])
    assert metric.compute().value.item() == pytest.approx(function(x, y).value.item(), abs=1e-12)
    copy = pickle.loads(pickle.dumps(metric))
    assert copy.compute().value == metric.compute().value
    metric.reset()
    metric.update(x[:60], y[:60])
    assert metric.compute().value.item() == pytest.approx(function(x[:60], y[:60]).value.item(), abs=1e-12)


@pytest.mark.parametrize("estimator", ["binned", "kde", "noisy", "ksg", "auto"])
def test_integer_labels_are_taken_as_labels(estimator: str) -> None:
    x, _, labels = samples()
    metric = MutualInformation(estimator)
    metric.update(x, labels)
    assert metric.compute().value == label_information(x, labels, estimator=estimator).value


def test_half_precision_is_compared_in_single() -> None:
    x, y, _ = samples()
    for make, _ in METRICS.values():
        metric = make()
        metric.update(x.half(), y.half())
        assert torch.isfinite(metric.compute().value)


def test_they_work_side_by_side_in_a_collection() -> None:
    x, y, _ = samples()
    collection = MetricCollection({name: make() for name, (make, _) in METRICS.items()})
    collection.update(x, y)
    results = collection.compute()
    for name, (_, function) in METRICS.items():
        assert results[name].value.item() == pytest.approx(function(x, y).value.item(), abs=1e-12)


@pytest.mark.parametrize("name", list(METRICS))
def test_two_ranks_give_what_one_process_gives(name: str) -> None:
    # torchmetrics' own hook for the gathering stands in for a process group: what the other rank holds is handed in.
    make, function = METRICS[name]
    x, y, _ = samples()
    other = [x[50:].flatten(1), y[50:]]
    metric = make(dist_sync_fn=lambda tensor, group: [tensor, other.pop(0)], distributed_available_fn=lambda: True)
    metric.update(x[:50], y[:50])
    assert metric.compute().value.item() == pytest.approx(function(x, y).value.item(), abs=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MutualInformation("magic"), r"MutualInformation\(estimator='magic'\): is not an estimator"),
        (lambda: MutualInformation("ksg", options={"bins": 3}), r"MutualInformation\(bins\): estimator 'ksg' has no"),
        (lambda: MutualInformation(base=1), r"MutualInformation\(base=1\): expected a number above 1"),
        (lambda: HSIC(kernel="magic"), r"HSIC\(kernel='magic'\): expected one of 'gaussian'"),
        (lambda: CKA(bandwidth=0), r"CKA\(bandwidth=0\): expected a positive number"),
    ],
)
def test_mistakes_are_named_when_the_metric_is_made(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
