"""What is kept beside values: the samples of nulls, kinds of crowded tables, and what figures name."""

from __future__ import annotations

import math

import pytest

from lightning_foresight import InfoPlaneCallback, PIDCallback
from tests.contract.cases import NUM_SAMPLES, fit

pytestmark = pytest.mark.filterwarnings("ignore:PIDCallback.*for each joint state:UserWarning")


@pytest.mark.parametrize("estimator", ["binned", "auto"])
def test_nulls_of_the_plane_have_samples_and_no_interval(estimator: str) -> None:
    callback = InfoPlaneCallback(estimator=estimator)
    fit(callback)
    rows = {key: row for key, row in callback.history.last().items() if key.endswith("I_TY_null")}
    assert rows
    for row in rows.values():
        assert row.num_samples == NUM_SAMPLES
        assert math.isnan(row.lower)
        assert math.isnan(row.upper)


@pytest.mark.parametrize(("correction", "crowded"), [("none", "upper_bound"), ("miller_madow", "not_valid")])
def test_information_of_crowded_states_is_no_estimate(correction: str, crowded: str) -> None:
    callback = PIDCallback(layers="net.6", quantizer=8, correction=correction)
    fit(callback)
    last = callback.history.last()
    assert last["pid/net.6/mi"].kind == crowded
    assert last["pid/net.6/complexity"].kind == "estimate"
    assert not any(key.endswith("cells") for key in last)


def test_a_figure_of_auto_names_what_it_picked() -> None:
    callback = InfoPlaneCallback(options={"relative_noise": 0.1})
    fit(callback)
    (figure,) = callback.figures().values()
    title = figure.axes[0].get_title()
    assert title == "Information plane, auto: noise 10%, Ross kNN (k=3)"
