from __future__ import annotations

import math

import pytest
import torch

from lightning_foresight.functional import input_information, label_information, mutual_information, plane_information
from lightning_foresight.functional.mutual_information.auto import significant_correlations
from lightning_foresight.functional.mutual_information.gaussian import canonical_correlations, normal_scores
from tests.functional.mutual_information.tasks import TASKS, gaussian, gaussian_information


@pytest.mark.parametrize("name", list(TASKS))
def test_known_information_is_found(name: str) -> None:
    sample, truth, tolerance = TASKS[name]
    x, y = sample(2000, torch.Generator().manual_seed(0))
    assert mutual_information(x, y, base=math.e).value.item() == pytest.approx(truth, abs=tolerance)


def test_choice_follows_the_type_of_the_data_and_is_said() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 2, generator=generator)
    labels = (x[:, 0] > 0).long()
    assert mutual_information(labels, 1 - labels).method == "auto: binned (chao_wang_jost, integer values)"
    assert mutual_information(x, labels).method == "auto: Ross kNN (k=3)"
    assert mutual_information(labels, x).value == mutual_information(x, labels).value
    assert mutual_information(x[:, 0], x[:, 1]).method == "auto: KSG-1 (k=3)"
    assert mutual_information(x, x + 1).method.startswith("auto: ")
    assert input_information(x, estimator="auto").method.startswith("auto: noisy")
    assert label_information(x, labels, estimator="auto").method == "auto: Ross kNN (k=3)"


def test_the_noise_of_a_layer_is_ones_own_choice_and_leaves_what_it_says_of_labels_alone() -> None:
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    labels = (x[:, 0] > 0).long()
    about_input, about_label = plane_information(x, labels, relative_noise=0.5)
    assert about_input.value == input_information(x, estimator="noisy", relative_noise=0.5).value
    assert about_input.saturation < 0.5 < input_information(x).saturation
    assert about_label.value == label_information(x, labels).value
    assert input_information(x, noise_std=0.3).method == "auto: noisy (noise 0.3, 1 draws)"


def test_two_sets_of_samples_have_no_noise() -> None:
    x = torch.randn(300, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"\(relative_noise\): estimator 'auto' has no such option of two sets of sam"):
        mutual_information(x, x, relative_noise=0.5)
    with pytest.raises(ValueError, match=r"noisy\(relative_noise=-1\): expected a positive number"):
        input_information(x, relative_noise=-1)


def test_debiased_gaussian_is_right_on_average() -> None:
    truth = gaussian_information([0.6, 0.3])
    estimates = [
        mutual_information(*gaussian([0.6, 0.3], 8)(200, torch.Generator().manual_seed(s)), "gaussian_copula", math.e)
        for s in range(100)
    ]
    values = torch.stack([e.value for e in estimates])
    # Plug-in bias would be 8 * 8 / 400 = 0.16 nats; ranks lose about 0.01.
    assert values.mean().item() == pytest.approx(truth, abs=0.03)
    claimed = torch.stack([e.std_error for e in estimates]).mean().item()
    assert claimed == pytest.approx(values.std().item(), rel=0.35)


def test_normal_scores_keep_order_and_share_ties() -> None:
    column = torch.tensor([[3.0], [1.0], [1.0], [7.0]])
    scores = normal_scores(column).flatten()
    assert scores[1] == scores[2] < scores[0] < scores[3]
    assert torch.allclose(normal_scores(-column).flatten(), -scores)


def test_bartlett_counts_the_correlations_that_are_there() -> None:
    x, y = gaussian([0.9, 0.5], 10)(2000, torch.Generator().manual_seed(0))
    assert significant_correlations(canonical_correlations(x, y), 2000) == 2
    x, y = gaussian([0.0], 10)(2000, torch.Generator().manual_seed(0))
    assert significant_correlations(canonical_correlations(x, y), 2000) == 0


def test_constant_and_repeated_columns_change_nothing() -> None:
    x, y = gaussian([0.8], 2)(500, torch.Generator().manual_seed(0))
    padded = torch.cat([x, torch.ones(500, 1), x[:, :1]], 1)
    plain = mutual_information(x, y, estimator="gaussian_copula").value.item()
    assert mutual_information(padded, y, estimator="gaussian_copula").value.item() == pytest.approx(plain, abs=1e-9)
    assert math.isfinite(mutual_information(padded, y).value.item())


def test_more_columns_than_samples_are_refused_by_the_copula_and_taken_by_auto() -> None:
    x = torch.randn(20, 15, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"gaussian_copula\(x, y\): got 20 samples of 30 columns.*sliced"):
        mutual_information(x, x, estimator="gaussian_copula")
    assert mutual_information(x, x).value.item() > 0


def test_inputs_are_asked_for_by_the_estimators_that_compare() -> None:
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    assert input_information(x, inputs=2 * x, estimator="ksg").value.item() > 1
    with pytest.raises(ValueError, match=r"estimator 'ksg' compares the inputs with the activations; pass inputs="):
        input_information(x, estimator="ksg")
