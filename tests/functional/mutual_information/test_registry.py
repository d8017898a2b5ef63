from __future__ import annotations

import inspect

import pytest
import torch

from lightning_foresight import InfoPlaneCallback
from lightning_foresight.functional import (
    ESTIMATORS,
    cka,
    hsic,
    input_information,
    label_information,
    mutual_information,
    plane_information,
)
from lightning_foresight.functional.mutual_information import check_plane_estimator, find_estimator
from lightning_foresight.metrics import MutualInformation

FAST = {"probe": {"max_steps": 3}, **{name: {"max_steps": 3} for name in ("infonce", "mine", "nwj", "js", "smile")}}


def samples(n: int = 60) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 2, 2, generator=generator)
    y = x.flatten(1) + torch.randn(n, 4, generator=generator)
    return x, y, (y[:, 0] > 0).long()


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_every_name_answers_what_it_says_it_answers(name: str) -> None:
    x, y, labels = samples()
    options = FAST.get(name, {})
    calls = {
        "pair": lambda: mutual_information(x, y, estimator=name, **options),
        "input": lambda: input_information(y, inputs=x, estimator=name, **options),
        "label": lambda: label_information(y, labels, estimator=name, **options),
    }
    for question, call in calls.items():
        if getattr(ESTIMATORS[name], question) is None or (question == "pair" and not ESTIMATORS[name].unit):
            with pytest.raises(ValueError, match="cannot answer this question|without unit"):
                call()
            continue
        estimate = call()
        assert estimate.value.shape == ()
        assert torch.isfinite(estimate.value)
        assert not estimate.value.requires_grad
        assert estimate.method
        assert 0 < int(estimate.num_samples) <= 60


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_options_are_those_that_the_functions_take(name: str) -> None:
    entry = ESTIMATORS[name]
    for function in (entry.pair, entry.label, entry.plane):
        parameters = inspect.signature(function).parameters if function is not None else {}
        named = set(parameters) - {"x", "y", "activations", "labels", "base", "options", "_", "objective"}
        assert named <= set(entry.options)
    question = "pair" if entry.pair else "label"
    find_estimator("test", name, question, entry.options_of(question))


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_nan_is_refused_by_name(name: str) -> None:
    x, y, labels = samples()
    y[3, 1] = float("nan")
    with pytest.raises(ValueError, match=r"1 of 240 entries are NaN or infinite"):
        if ESTIMATORS[name].label is not None:
            label_information(y, labels, estimator=name, **FAST.get(name, {}))
        else:
            mutual_information(x, y, estimator=name)


def test_kernel_measures_are_the_functions() -> None:
    x, y, labels = samples()
    assert input_information(y, inputs=x, estimator="hsic", bandwidth=2.0).value == hsic(x, y, bandwidth=2.0).value
    assert label_information(y, labels, estimator="cka").value == cka(y, labels).value


@pytest.mark.parametrize("name", ["hsic", "nhsic", "cka", "distance_correlation"])
def test_a_measure_without_unit_is_no_mutual_information(name: str) -> None:
    x, y, _ = samples()
    message = rf"\(estimator='{name}'\): {name} is a measure .* Call lightning_foresight\.functional\.{name}\(x, y\)"
    with pytest.raises(ValueError, match="mutual_information" + message):
        mutual_information(x, y, estimator=name)
    with pytest.raises(ValueError, match="MutualInformation" + message):
        MutualInformation(name)
    assert ESTIMATORS[name].unit == ""


def test_auto_is_the_default_and_a_probe_comes_with_declared_noise() -> None:
    x, y, labels = samples()
    assert mutual_information(x, y).method.startswith("auto: ")
    assert input_information(y).method.startswith("auto: noisy")
    assert label_information(y, labels).method.startswith("auto: Ross")
    assert input_information(y, estimator="probe").value == input_information(y, estimator="noisy").value


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_every_name_answers_both_questions_of_the_plane_and_makes_a_callback(name: str) -> None:
    check_plane_estimator("test", name)
    assert InfoPlaneCallback(estimator=name).estimator == name


def test_plane_takes_the_options_of_its_estimator() -> None:
    check_plane_estimator("test", "kde", {"noise_variance": 0.1})
    check_plane_estimator("test", "probe", {"hidden": 0})
    with pytest.raises(ValueError, match=r"hsic\(kernel='magic'\): expected one of 'gaussian'"):
        check_plane_estimator("test", "hsic", {"kernel": "magic"})


@pytest.mark.parametrize("name", ["auto", "binned", "kde", "hsic"])
def test_layers_by_name_are_answered_by_name(name: str) -> None:
    x, y, labels = samples()
    planes = plane_information({"wide": y, "narrow": y[:, :1]}, labels, inputs=x, estimator=name)
    assert list(planes) == ["wide", "narrow"]
    alone = plane_information(y[:, :1], labels, inputs=x, estimator=name)
    assert [e.value.item() for e in planes["narrow"]] == pytest.approx([e.value.item() for e in alone], abs=1e-12)
    assert plane_information({}, labels, estimator=name) == {}
