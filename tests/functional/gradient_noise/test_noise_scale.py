import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_foresight.functional import noise_moments, noise_scale_from_norms
from lightning_foresight.functional.gradient_noise.moments import MomentSums, mean_moments, moment_sums
from lightning_foresight.functional.gradient_noise.noise_scale import noise_scale_from_sums
from tests.reference.gradient_noise import discounted_means, noise_scale

sizes = st.lists(st.integers(1, 9), min_size=2, max_size=5)


def squares(gradients, split):
    """Mean squared norm of the parts' means, squared norm of the mean of those means."""
    means = np.stack([part.mean(0) for part in np.split(gradients, np.cumsum(split)[:-1])])
    return (means**2).sum(1).mean(), (means.mean(0) ** 2).sum()


@given(sizes, st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_unequal_micro_batches_are_unbiased_with_the_harmonic_mean_of_their_sizes(split, seed):
    gradients = np.random.default_rng(seed).standard_normal((sum(split), 4)) + 1
    small = len(split) / sum(1 / b for b in split)
    # The expectation over all assignments of examples to micro-batches is known in closed form through E|g_b|^2.
    trace_sigma, grad_sq_norm = noise_scale(gradients)
    mean = (gradients.mean(0) ** 2).sum()
    spread = trace_sigma / len(gradients)
    expected_small = mean - spread + trace_sigma / small
    expected_big = mean - spread + trace_sigma / (small * len(split))
    s, g = noise_moments(torch.tensor(expected_small), torch.tensor(expected_big), small, small * len(split))
    np.testing.assert_allclose(s, trace_sigma, rtol=1e-9)
    np.testing.assert_allclose(g, grad_sq_norm, rtol=1e-8, atol=1e-9)


def test_the_average_over_random_splits_is_that_of_per_example_gradients():
    generator = np.random.default_rng(0)
    gradients = generator.standard_normal((12, 3)) + 0.5
    split = [2, 3, 7]
    harmonic = 3 / sum(1 / b for b in split)
    norms = np.array([squares(generator.permutation(gradients), split) for _ in range(4000)])
    s, g = noise_moments(torch.from_numpy(norms[:, 0]), torch.from_numpy(norms[:, 1]), harmonic, 3 * harmonic)
    for values, truth in zip((s, g), noise_scale(gradients), strict=True):
        assert abs(values.mean() - truth) < 4 * values.std() / math.sqrt(len(values))


def test_negative_estimates_are_not_clamped():
    assert noise_moments(8.0, 1.0, 1, 4)[1] < 0


@pytest.mark.parametrize("decay", [1.0, 0.9, 0.5])
def test_discounted_moments_agree_with_their_definition(decay):
    generator = np.random.default_rng(1)
    s, g = generator.gamma(3, size=40), generator.standard_normal(40) + 0.3
    sums = MomentSums(*moment_sums(torch.from_numpy(s), torch.from_numpy(g), decay))
    np.testing.assert_allclose(mean_moments(sums), discounted_means(s, g, decay), rtol=1e-11)


def test_observations_that_are_not_finite_are_left_out():
    s = torch.tensor([1.0, math.nan, 3.0, 2.0, math.inf], dtype=torch.float64)
    g = torch.tensor([1.0, 1.0, 2.0, math.inf, 1.0], dtype=torch.float64)
    kept = moment_sums(s[[0, 2]], g[[0, 2]])
    torch.testing.assert_close(moment_sums(s, g), kept)


def test_the_ratio_is_taken_after_averaging():
    # The second observation has a denominator of 0: its ratio alone is infinite.
    norms = torch.tensor([2.0, 2.0, 2.1]), torch.tensor([1.0, 0.5, 1.2])
    scale, (s, g) = noise_scale_from_norms(*norms, 1, 4), noise_moments(*norms, 1, 4)
    torch.testing.assert_close(scale.b_simple.value, s.mean() / g.mean())
    assert scale.b_simple.num_samples == 3
    assert scale.b_simple.lower < scale.b_simple.value < scale.b_simple.upper


def test_one_observation_has_a_value_and_no_interval():
    scale = noise_scale_from_norms(3.0, 1.5, 8, 32)
    assert scale.b_simple.value == 16
    assert (scale.b_simple.lower, scale.b_simple.upper) == (-math.inf, math.inf)
    assert scale.trace_sigma.std_error.isnan()


def test_standard_error_is_that_of_repeated_experiments():
    generator = torch.Generator().manual_seed(0)
    s = 10 + torch.randn(2000, 64, generator=generator, dtype=torch.float64)
    g = 2 + 0.5 * torch.randn(2000, 64, generator=generator, dtype=torch.float64)
    small, big = g + s / 2, g + s / 8
    scales = [noise_scale_from_norms(a, b, 2, 8) for a, b in zip(small[:300], big[:300], strict=True)]
    ratios = torch.stack([scale.b_simple.value for scale in scales])
    stated = torch.stack([scale.b_simple.std_error for scale in scales]).mean()
    # 300 repetitions know a standard deviation to 4%; the delta method is first order only.
    torch.testing.assert_close(stated, ratios.std(), rtol=0.15, atol=0)


@pytest.mark.parametrize("observations", [2, 4, 8])
def test_intervals_of_noise_and_signal_hold_from_few_observations(observations):
    # Gradients in 100 dimensions, tr Sigma = 100 and |G|^2 = 100, four micro-batches of 8 a step; normal ends would
    # hold in 70, 86 and 91% of runs.
    generator = torch.Generator().manual_seed(5)
    runs = 2000
    gradients = 1 + torch.randn(runs, observations, 4, 100, generator=generator, dtype=torch.float64) / 8**0.5
    small, big = gradients.square().sum(-1).mean(-1), gradients.mean(2).square().sum(-1)
    signals = noise_moments(small.T, big.T, 8, 32)
    scale = noise_scale_from_sums(MomentSums(*moment_sums(*signals)), level=0.95, dtype=torch.float64, method="")
    for part in (scale.trace_sigma, scale.grad_sq_norm):
        lower, upper = part.interval()
        held = ((lower <= 100) & (upper >= 100)).double().mean()
        assert 0.93 <= held <= 0.97  # 2,000 draws of 0.95 have a standard deviation of 0.005; squares are skewed


def test_equal_batch_sizes_are_refused():
    with pytest.raises(ValueError, match=r"batch_small=8, batch_big=8\): expected batch_big to be larger"):
        noise_scale_from_norms(1.0, 1.0, 8, 8)


def test_a_table_of_norms_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 2\); expected a number or one value per observation"):
        noise_scale_from_norms(torch.ones(2, 2), torch.ones(2, 2), 8, 16)
