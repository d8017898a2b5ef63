from __future__ import annotations

import pickle

import pytest
import torch
from torchmetrics import MetricCollection

from lightning_foresight.functional import Estimate, make_estimate
from lightning_foresight.metrics import DependenceMetric


class MeanProduct(DependenceMetric):
    def dependence(self, a, b):
        return make_estimate((a * b).mean(), std_error=0.5, num_samples=len(a))


class Rows(DependenceMetric):
    def dependence(self, a, b):
        return torch.tensor(float(len(a)))


def _samples():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(10, 2, 3, generator=generator), torch.randn(10, 6, generator=generator)


def test_batches_are_compared_as_a_whole():
    a, b = _samples()
    metric = MeanProduct()
    for part in (slice(0, 3), slice(3, 10)):
        metric.update(a[part], b[part])
    result = metric.compute()
    assert isinstance(result, Estimate)
    torch.testing.assert_close(result.value, (a.flatten(1) * b).mean())
    assert int(result.num_samples) == 10
    metric.reset()
    metric.update(a[:4], b[:4])
    assert int(metric.compute().num_samples) == 4


def test_labels_stay_one_dimensional():
    class Shapes(DependenceMetric):
        def dependence(self, a, b):
            assert a.shape == (4, 3)
            assert b.shape == (4,)
            return a.sum()

    metric = Shapes()
    metric.update(torch.ones(4, 3), torch.arange(4))
    assert float(metric.compute()) == 12


def test_it_works_in_a_collection_and_survives_pickling():
    a, b = _samples()
    collection = MetricCollection({"product": MeanProduct(), "rows": Rows()})
    collection.update(a, b)
    assert float(collection.compute()["rows"]) == 10
    clone = pickle.loads(pickle.dumps(collection["product"]))
    torch.testing.assert_close(clone.compute().value, collection["product"].compute().value)


def test_mistakes_are_named():
    metric = MeanProduct()
    with pytest.raises(ValueError, match=r"MeanProduct\(a, b\): got 3 and 2 samples; expected one row of each"):
        metric.update(torch.ones(3, 1), torch.ones(2, 1))
    with pytest.raises(ValueError, match=r"MeanProduct\(a\): got a tensor of shape \(0, 1\)"):
        metric.update(torch.ones(0, 1), torch.ones(0, 1))
    base = DependenceMetric()
    base.update(torch.ones(2, 1), torch.ones(2, 1))
    with pytest.raises(NotImplementedError, match=r"DependenceMetric has no dependence\(a, b\)"):
        base.compute()
