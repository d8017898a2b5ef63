"""Two-phase regression estimates against their definition, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_foresight.functional.gradient_noise.calibration import calibrated_moments, calibration_sums
from lightning_foresight.functional.gradient_noise.noise_scale import noise_scale_from_means
from tests.reference.gradient_noise import two_phase_means


def draw(observations, period, *, slope=3.0, unlike=0.6, seed=0):
    """Return noise and signal of a part, and of a whole that is known once in a period, and the whole itself."""
    generator = torch.Generator().manual_seed(seed)
    part = torch.tensor([[10.0], [2.0]], dtype=torch.float64) + 2 * torch.randn(
        2, observations, dtype=torch.float64, generator=generator
    )
    whole = slope * part + unlike * torch.randn(2, observations, dtype=torch.float64, generator=generator)
    known = whole.clone()
    known[:, torch.arange(observations) % period != 0] = torch.nan
    return part, known.unsqueeze(2), whole


@pytest.mark.parametrize("decay", [1.0, 0.98])
def test_means_and_variances_are_those_of_the_definition(decay):
    part, known, whole = draw(60, 4)
    means, _ = calibrated_moments(calibration_sums(part, known, decay))
    expected, variances, _ = two_phase_means(part.numpy(), whole.numpy(), np.arange(60) % 4 == 0, decay)
    assert [float(x) for x in means[:2]] == pytest.approx(expected, rel=1e-9)
    assert [float(x) for x in means[2:4]] == pytest.approx(variances, rel=1e-9)


def test_sums_of_parts_of_a_run_add_up():
    part, known, _ = draw(40, 4)
    together = calibration_sums(part, known)
    apart = calibration_sums(part[:, :15], known[:, :15]) + calibration_sums(part[:, 15:], known[:, 15:])
    torch.testing.assert_close(apart, together)


def test_a_whole_that_follows_its_part_is_known_as_if_it_were_seen_at_every_step():
    part, known, whole = draw(200, 10, unlike=0.0)
    means, _ = calibrated_moments(calibration_sums(part, known))
    assert float(means.numerator) == pytest.approx(float(whole[0].mean()), rel=1e-9)
    assert float(means.numerator_var) == pytest.approx(float(whole[0].var() / 200), rel=0.01)


def test_a_whole_that_was_seen_at_every_step_owes_nothing_to_the_part():
    part, known, whole = draw(30, 1, unlike=5.0)
    means, _ = calibrated_moments(calibration_sums(part, known))
    assert float(means.denominator) == pytest.approx(float(whole[1].mean()), rel=1e-9)


def test_observations_that_are_not_finite_are_left_out():
    part, known, _ = draw(40, 4)
    broken, gone = part.clone(), known.clone()
    broken[0, 7] = torch.inf
    gone[:, 7] = torch.nan
    kept = torch.arange(40) != 7
    torch.testing.assert_close(calibration_sums(broken, gone), calibration_sums(part[:, kept], known[:, kept]))


def test_intervals_cover_the_truth_as_often_as_they_say():
    covered = []
    for seed in range(400):
        part, known, _ = draw(170, 10, unlike=4.0, seed=seed)
        means, _ = calibrated_moments(calibration_sums(part, known))
        scale = noise_scale_from_means(means, level=0.95, dtype=torch.float64, method="")
        covered.append(bool(scale.b_simple.lower <= 5.0 <= scale.b_simple.upper))
    assert 0.92 <= np.mean(covered) <= 0.98  # 400 draws of 0.95 have a standard deviation of 0.011


def test_one_calibration_gives_a_value_and_bounds_nothing():
    part, known, whole = draw(10, 20)
    means, _ = calibrated_moments(calibration_sums(part, known))
    scale = noise_scale_from_means(means, level=0.95, dtype=torch.float64, method="")
    assert float(scale.b_simple.value) == pytest.approx(float(whole[0, 0] / whole[1, 0]))
    assert (float(scale.b_simple.lower), float(scale.b_simple.upper)) == (-np.inf, np.inf)


def test_without_calibration_there_is_no_value():
    part, known, _ = draw(10, 20)
    means, alone = calibrated_moments(calibration_sums(part, torch.full_like(known, torch.nan)))
    assert bool(torch.isnan(means.numerator))
    assert float(alone.numerator) == pytest.approx(float(part[0].mean()))
