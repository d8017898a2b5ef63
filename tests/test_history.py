import csv
import math

import pytest
import torch

from lightning_foresight.functional import make_estimate
from lightning_foresight.history import History


def _history() -> History:
    history = History()
    history.add(step=0, epoch=0.0, key="a", value=torch.tensor(1.5))
    history.add(step=3, epoch=1.0, key=["b", "c"], value=torch.tensor([2.0, 3.0]))
    estimate = make_estimate(torch.tensor(4.0), std_error=0.5, num_samples=10)
    history.add(step=3, epoch=1.0, key="a", value=estimate)
    return history


def test_rows_come_in_the_order_of_measurement_with_their_intervals():
    rows = _history().rows
    assert [(row.step, row.key, row.value) for row in rows] == [
        (0, "a", 1.5),
        (3, "b", 2.0),
        (3, "c", 3.0),
        (3, "a", 4.0),
    ]
    assert (rows[0].lower, rows[0].upper, rows[0].kind) == (1.5, 1.5, "plain")
    assert rows[3].lower == pytest.approx(4 - 1.959964 * 0.5, abs=1e-5)
    assert rows[3].num_samples == 10


def test_flush_returns_only_what_is_new():
    history = _history()
    assert len(history.flush()) == 4
    assert history.flush() == []
    history.add(step=4, epoch=1.0, key="a", value=torch.tensor(0.0))
    assert [row.step for row in history.flush()] == [4]
    assert len(history) == 5


def test_float64_values_keep_their_digits_and_large_sample_counts_too():
    history = History()
    history.add(step=0, epoch=0.0, key="a", value=torch.tensor(math.pi, dtype=torch.float64))
    history.add(step=0, epoch=0.0, key="b", value=make_estimate(torch.tensor(1.0), num_samples=2**40 + 1))
    assert history["a"][0].value == math.pi
    assert history["b"][0].num_samples == 2**40 + 1


def test_nan_values_are_dropped_and_counted_and_infinite_ends_are_kept():
    history = History()
    history.add(step=0, epoch=0.0, key="a", value=torch.tensor(float("nan")))
    unbounded = make_estimate(torch.tensor(1.0), lower=torch.tensor(0.5), upper=torch.tensor(float("inf")))
    history.add(step=0, epoch=0.0, key="b", value=unbounded)
    unknown = make_estimate(torch.tensor(1.0), std_error=float("nan"))
    history.add(step=0, epoch=0.0, key="c", value=unknown)
    assert history.keys() == ["b", "c"]
    assert [row.key for row in history.dropped] == ["a"]
    assert history["b"][0].upper == math.inf
    assert math.isnan(history["c"][0].lower)
    assert not history["c"][0].has_interval


def test_state_survives_a_round_trip():
    history, copy = _history(), History()
    copy.load_state_dict(history.state_dict())
    assert copy.rows == history.rows
    assert copy.last() == history.last()


def test_csv_has_one_line_a_value(tmp_path):
    history = _history()
    history.to_csv(tmp_path / "history.csv")
    with open(tmp_path / "history.csv") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["value"]) for line in lines] == [row.value for row in history]


def test_to_dict_has_a_column_a_field():
    table = _history().to_dict()
    assert table["a"]["step"] == [0, 3]
    assert table["a"]["kind"] == ["plain", "estimate"]


def test_mistakes_are_named():
    with pytest.raises(KeyError, match="no value under 'z'; keys with values: a, b, c"):
        _history()["z"]
    with pytest.raises(ValueError, match=r"a, b: got 1 value\(s\) for 2 key\(s\); expected one number a key"):
        History().add(step=0, epoch=0.0, key=["a", "b"], value=torch.tensor(1.0))
