"""One argument is the seed of everything random in a measurement."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from lightning_foresight import InfoPlaneCallback, PIDCallback
from lightning_foresight.callbacks import _pid_measures
from lightning_foresight.functional import input_information
from tests.contract.cases import NUM_SAMPLES, fit, tiny_data

pytestmark = pytest.mark.filterwarnings("ignore:PIDCallback.*for each joint state:UserWarning")


def _values(callback) -> dict[str, float]:
    fit(callback, max_epochs=1)
    assert callback.num_failures == 0
    return {key: row.value for key, row in callback.history.last().items()}


@pytest.mark.parametrize(
    ("estimator", "options", "kind"),
    [
        ("auto", {"relative_noise": 0.5}, "I_XT"),
        ("noisy", {"noise_std": 0.3}, "I_XT"),
        ("noisy", {"noise_std": 0.3}, "I_TY"),
        ("noisy", {"noise_std": 0.3}, "I_TY_null"),
        ("noisy", {"noise_std": 0.3}, "I_TT"),
        ("sliced", {}, "I_XT"),
        ("infonce", {"max_steps": 20, "hidden": 8}, "I_TY"),
    ],
)
def test_draws_of_an_estimator_follow_the_seed_of_the_callback_unless_options_name_one(estimator, options, kind):
    def value(seed, more={}):  # noqa: B006
        arguments = {"layers": ["net.2", "net.5"], "num_samples": NUM_SAMPLES, "adjacent": kind == "I_TT"}
        callback = InfoPlaneCallback(estimator=estimator, options=options | more, seed=seed, **arguments)
        return _values(callback)[f"info_plane/net.2/{kind}"]

    assert value(0) == value(0)
    assert value(0) != value(1)
    if kind in ("I_XT", "I_TT"):  # nothing but the estimator draws: labels are not shuffled, critics not made
        assert value(1, {"seed": 0}) == value(0, {"seed": 0}) == value(0)


def test_the_noise_is_that_of_the_function_with_this_seed():
    callback = InfoPlaneCallback(options={"relative_noise": 0.5}, layers="net.2", num_samples=NUM_SAMPLES, seed=7)
    model = fit(callback, max_epochs=1).model.eval()
    with torch.no_grad():
        activation = model.net[:3](tiny_data()[1].dataset.tensors[0])
    expected = [float(input_information(activation, relative_noise=0.5, seed=seed).value) for seed in (7, 0)]
    value = callback.history.last()["info_plane/net.2/I_XT"].value
    assert value == pytest.approx(expected[0], abs=1e-6)
    assert abs(value - expected[1]) > 1e-4


def test_a_title_shows_what_the_user_chose_and_no_seed():
    callback = InfoPlaneCallback(estimator="sliced", options={"num_slices": 5}, layers="net.2", seed=3)
    _values(callback)
    assert callback.plot().axes[0].get_title() == "Information plane, sliced (num_slices=5)"


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"sources": "neurons", "measure": "complexity"}, "complexity"),  # of 8 sources, sampled
        ({"sources": "neurons", "measure": "complexity"}, "complexity_null"),
        ({"sources": "random:2x2", "measure": "invariants"}, "redundancy"),
        ({"sources": "groups:2", "quantizer": "stochastic:2"}, "mi"),
    ],
)
def test_decompositions_follow_the_seed_of_the_callback(arguments, key, monkeypatch):
    few = partial(_pid_measures.representational_complexity, max_draws=64)  # of the clocks that 8 sources take
    monkeypatch.setattr(_pid_measures, "representational_complexity", few)

    def value(seed):
        callback = PIDCallback(**{"quantizer": 2, "layers": "net.2", "seed": seed} | arguments)
        return _values(callback)[f"pid/net.2/{key}"]

    assert value(0) == value(0)
    assert value(0) != value(1)
