from __future__ import annotations

import pickle

import pytest
import torch

from lightning_foresight import functional
from lightning_foresight.metrics import (
    BrojaPID,
    OInformation,
    RepresentationalComplexity,
    ShannonInvariants,
    SxPID,
)
from tests.metrics.joint_table_two_processes import DENSE, KEPT, Table, samples

METRICS = {
    SxPID: lambda table: functional.sx_pid(table).average,
    BrojaPID: lambda table: functional.broja_pid(table).synergy,
    ShannonInvariants: lambda table: functional.shannon_invariants(table).redundancy,
    OInformation: functional.o_information,
    RepresentationalComplexity: lambda table: functional.representational_complexity(table).value,
}


def value_of(result) -> torch.Tensor:
    for name in ("average", "synergy", "redundancy", "value"):
        if hasattr(result, name):
            return getattr(result, name)
    return result


@pytest.mark.parametrize("metric_class", METRICS)
@pytest.mark.parametrize("options", [KEPT, DENSE], ids=["kept rows", "dense counts"])
def test_batches_give_the_value_of_all_samples_at_once_to_the_bit(metric_class: type, options: dict) -> None:
    sources, target = samples()
    metric = metric_class(**options)
    for batch in torch.arange(200).split(33):
        metric.update(sources[batch], target[batch])
    expected = METRICS[metric_class](functional.joint_table(sources, target))
    assert torch.equal(value_of(metric.compute()), expected)
    metric.reset()
    metric.update(sources[:50], target[:50])
    expected = METRICS[metric_class](functional.joint_table(sources[:50], target[:50]))
    assert torch.equal(value_of(metric.compute()), expected)


@pytest.mark.parametrize("metric_class", METRICS)
def test_metrics_survive_pickling_cloning_and_forward(metric_class: type) -> None:
    sources, target = samples()
    metric = pickle.loads(pickle.dumps(metric_class()))
    batch_value = value_of(metric(sources[:100], target[:100]))
    assert torch.equal(batch_value, METRICS[metric_class](functional.joint_table(sources[:100], target[:100])))
    metric(sources[100:], target[100:])
    whole = METRICS[metric_class](functional.joint_table(sources, target))
    assert torch.equal(value_of(metric.clone().compute()), whole)


def test_kept_rows_are_merged_as_they_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_foresight.metrics.joint_table._MERGE_ENTRIES", 100)
    metric = Table()
    sources, target = samples(3000)
    for batch in torch.arange(3000).split(20):
        metric.update(sources[batch], target[batch])
    # 192 rows can occur; twice as many and a batch may be held before they are merged.
    assert sum(len(weights) for weights in metric.weights) < 3 * 192
    table = functional.joint_table(sources, target)
    assert torch.equal(metric.compute(), torch.cat([table.rows, table.weights[:, None]], 1))


def test_tables_too_large_to_be_dense_keep_rows() -> None:
    assert Table(num_sources=3, levels=4, num_targets=3).shape == (4, 4, 4, 3)
    assert Table(num_sources=20, levels=4, num_targets=3).shape is None
    assert Table(levels=[2, 3], num_targets=3).shape == (2, 3, 3)


@pytest.mark.xdist_group("two ranks")
def test_two_processes_have_the_table_of_one_to_the_bit(two_ranks) -> None:
    sources, target = samples()
    one = functional.joint_table(sources, target)
    expected = torch.cat([one.rows, one.weights[:, None]], 1)
    wide = functional.joint_table(*samples(40, 100))
    for results in two_ranks("tests.metrics.joint_table_two_processes"):
        for name in ("kept", "dense", "idle"):
            assert torch.equal(results[name], expected), name
        assert torch.equal(results["wide"], torch.cat([wide.rows, wide.weights[:, None]], 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_sources": 0}, r"Table\(num_sources=0\): expected an integer of at least 1"),
        (
            {"num_sources": 2, "levels": [2], "num_targets": 2},
            r"Table\(levels=\[2\]\): expected one number, or 2",
        ),
        ({"num_sources": 2, "levels": 2, "num_targets": 0}, r"Table\(num_targets=0\)"),
    ],
)
def test_sizes_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Table(**options)


def test_codes_outside_the_dense_table_are_refused() -> None:
    metric = Table(**DENSE)
    with pytest.raises(ValueError, match=r"Table.update\(sources, target=.*codes from 0 to below \[4, 4, 4, 3\]"):
        metric.update(torch.full((2, 3), 4), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"Table.update\(sources=2\): expected 3 sources"):
        metric.update(torch.zeros(2, 2, dtype=torch.long), torch.zeros(2, dtype=torch.long))


def test_batches_of_another_width_or_of_floats_are_refused() -> None:
    metric = Table()
    metric.update(*samples(5))
    with pytest.raises(ValueError, match=r"Table.update\(sources=2\): expected 3 sources, as before"):
        metric.update(*samples(5, 2))
    with pytest.raises(ValueError, match=r"Table.update\(sources\): got a tensor .* expected integer codes"):
        metric.update(torch.rand(5, 3), torch.zeros(5, dtype=torch.long))


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"SxPID\(by='label'\)"):
        SxPID(by="label")
    with pytest.raises(ValueError, match=r"BrojaPID\(tol=0\)"):
        BrojaPID(tol=0)
    with pytest.raises(ValueError, match=r"RepresentationalComplexity\(method='fast'\)"):
        RepresentationalComplexity(method="fast")
