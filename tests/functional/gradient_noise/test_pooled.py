import numpy as np
import pytest
import torch

from lightning_foresight.functional import fieller_interval
from lightning_foresight.functional.gradient_noise.pooled import pooled_noise_scale


def u_statistics(gradients, sizes):
    """Mean product of two different gradients; S from the mean square, all by definition."""
    n = len(gradients)
    signal = np.mean([gradients[i] @ gradients[j] for i in range(n) for j in range(n) if i != j])
    return (np.mean((gradients**2).sum(1)) - signal) / np.mean(1 / sizes), signal


def pooled(gradients, sizes, num_folds, **kwargs):
    folds = [np.arange(fold, len(gradients), num_folds) for fold in range(num_folds)]
    sums = torch.tensor(np.stack([gradients[fold].sum(0) for fold in folds]))
    return folds, pooled_noise_scale(
        sums @ sums.T,
        torch.tensor([(gradients[fold] ** 2).sum() for fold in folds]),
        torch.tensor([(1 / sizes[fold]).sum() for fold in folds]),
        torch.tensor([float(len(fold)) for fold in folds]),
        dtype=torch.float64,
        **kwargs,
    )


@pytest.mark.parametrize(("number", "num_folds"), [(12, 4), (7, 7), (11, 4)])
def test_values_and_errors_are_those_of_all_pairs_and_of_leaving_folds_out(number, num_folds):
    generator = np.random.default_rng(0)
    gradients = generator.standard_normal((number, 5)) + 0.7
    sizes = generator.integers(3, 9, number).astype(float)
    folds, scale = pooled(gradients, sizes, num_folds)
    expected = u_statistics(gradients, sizes)
    np.testing.assert_allclose([scale.trace_sigma.value, scale.grad_sq_norm.value], expected, rtol=1e-12)
    left = np.array([u_statistics(np.delete(gradients, fold, 0), np.delete(sizes, fold)) for fold in folds])
    spread = (num_folds - 1) * np.cov(left.T, ddof=0)
    errors = [scale.trace_sigma.std_error, scale.grad_sq_norm.std_error]
    np.testing.assert_allclose(errors, np.sqrt(np.diag(spread)), rtol=1e-10)
    numbers = (*expected, spread[0, 0], spread[1, 1], spread[0, 1], num_folds - 1)
    ends = fieller_interval(*(torch.tensor(x, dtype=torch.float64) for x in numbers))
    torch.testing.assert_close(scale.b_simple.interval(), ends)
    assert scale.b_simple.num_samples == number


def test_intervals_cover_and_all_pairs_beat_neighbours():
    # |G|^2 = 1, batches of one with tr Sigma = 5 in 50 dimensions: B_simple = 5. 400 runs of 32 batches.
    generator = np.random.default_rng(1)
    covered, pooled_error, paired_error = 0, 0.0, 0.0
    for _ in range(400):
        gradients = generator.standard_normal((32, 50)) * (5 / 50) ** 0.5
        gradients[:, 0] += 1
        _, scale = pooled(gradients, np.ones(32), 16)
        covered += bool(scale.b_simple.lower <= 5 <= scale.b_simple.upper)
        pooled_error += float(scale.grad_sq_norm.value - 1) ** 2
        paired_error += ((gradients[::2] * gradients[1::2]).sum(1).mean() - 1) ** 2
    assert 0.92 <= covered / 400 <= 0.99  # 0.95 give or take three errors of 0.011, upwards for the jackknife
    # Products have a variance of 2 x 5/50 + 25/50 a pair; the mean of all 496 pairs has 4 x 5/50/32 + 2 x 25/50/32^2.
    assert 2 < paired_error / pooled_error < 5
