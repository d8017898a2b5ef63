from __future__ import annotations

import math

import pytest
import torch

from lightning_foresight.functional import label_information, mutual_information
from lightning_foresight.functional.mutual_information import Critic
from lightning_foresight.functional.mutual_information.neural import (
    OBJECTIVES,
    clipped_donsker_varadhan,
    donsker_varadhan,
    infonce,
    nwj,
)
from tests.functional.mutual_information.tasks import gaussian, gaussian_information

RHO = 0.8


def log_ratio(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """log p(x, y) / p(x) p(y) of a Gaussian pair of single columns: the score that every bound is largest for."""
    quadratic = RHO**2 * (x**2 + y.T**2) - 2 * RHO * x * y.T
    return -0.5 * math.log1p(-(RHO**2)) - quadratic / (2 * (1 - RHO**2))


def pair(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return gaussian([RHO], 1)(n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bound", [infonce, donsker_varadhan, lambda s: nwj(s + 1)], ids=["infonce", "dv", "nwj"])
def test_best_score_reads_the_information(bound) -> None:
    values = torch.stack([bound(log_ratio(*pair(1000, seed))) for seed in range(10)])
    spread = float(values.std()) / 10**0.5
    assert float(values.mean()) == pytest.approx(gaussian_information([RHO]), abs=4 * spread + 0.005)


@pytest.mark.parametrize("bound", [infonce, donsker_varadhan, nwj], ids=["infonce", "dv", "nwj"])
def test_other_scores_read_less(bound) -> None:
    x, y = pair(2000)
    for scores in (torch.zeros(2000, 2000).double(), 0.5 * log_ratio(x, y), log_ratio(x, y) + x * 0.7):
        assert bound(scores) < gaussian_information([RHO])


def test_clipping_leaves_small_scores_alone() -> None:
    scores = torch.randn(20, 20, generator=torch.Generator().manual_seed(0))
    assert clipped_donsker_varadhan(scores, 50.0) == donsker_varadhan(scores)
    assert clipped_donsker_varadhan(scores, 0.1) != donsker_varadhan(scores)


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_trained_critic_finds_most_of_the_information_and_none_where_there_is_none(objective: str) -> None:
    truth = gaussian_information([RHO])
    x, y = pair(1200)
    options = {
        "estimator": objective,
        "base": math.e,
        "max_steps": 75,
        "hidden": 32,
        "batch_size": 128,
        "learning_rate": 0.01,
    }
    found = mutual_information(x, y, **options)
    null = mutual_information(x, y[torch.randperm(1200, generator=torch.Generator().manual_seed(1))], **options)
    assert truth - 0.2 < found.value.item() < truth + 0.2
    assert abs(null.value.item()) < 0.05
    if objective == "smile":  # of strong dependence it clips scores, and knows no error; of none it does not clip
        assert (found.kind, math.isnan(found.std_error.item())) == ("estimate", True)
    else:
        assert found.kind == "lower_bound"
        assert found.interval()[0].item() < truth
    assert null.kind == "lower_bound"
    assert null.interval()[0].item() < 0


def test_labels_are_taken_as_classes() -> None:
    x, y = pair(1000)
    estimate = label_information(x, (y[:, 0] > 0).long(), estimator="mine", max_steps=100, hidden=32)
    assert 0.2 < estimate.value.item() < 0.6


def test_critic_goes_on_where_it_stopped() -> None:
    x, y = pair(800)
    critic = Critic(1, 1, 32, generator=torch.Generator().manual_seed(0))
    options = {"estimator": "infonce", "critic": critic, "max_steps": 25}
    values = [mutual_information(x, y, **options).value.item() for _ in range(3)]
    assert values[0] < values[2]
    with pytest.raises(ValueError, match=r"infonce\(critic\): it was made for widths \(1, 1\), samples have \(2, 2\)"):
        mutual_information(x.repeat(1, 2), y.repeat(1, 2), **options)


def test_same_seed_gives_the_same_value_inside_inference_mode_and_leaves_the_global_generator_alone() -> None:
    x, y = pair(200)
    options = {"estimator": "smile", "max_steps": 20, "hidden": 16}
    state = torch.get_rng_state()
    first = mutual_information(x, y, **options).value
    with torch.inference_mode():
        assert mutual_information(x, y, **options).value == first
    assert torch.equal(torch.get_rng_state(), state)


def test_bad_input_is_named_with_what_would_do() -> None:
    x = torch.randn(30, 1)
    with pytest.raises(ValueError, match=r"infonce\(x\): got 30 samples; expected at least 40"):
        mutual_information(x, x, estimator="infonce")
    with pytest.raises(ValueError, match=r"neural\(max_steps=0\): expected an integer of at least 1"):
        mutual_information(x, x, estimator="mine", max_steps=0)
    with pytest.raises(ValueError, match=r"neural\(critic=3\): expected a Critic to go on from"):
        mutual_information(x, x, estimator="mine", critic=3)
