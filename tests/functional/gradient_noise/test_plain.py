import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student_t

from lightning_foresight.functional import fieller_interval, noise_moments
from lightning_foresight.functional.gradient_noise import student_t_quantile
from lightning_foresight.functional.gradient_noise.moments import MomentSums, mean_moments, moment_sums
from lightning_foresight.functional.gradient_noise.noise_scale import noise_scale_from_sums
from lightning_foresight.functional.gradient_noise.plain import (
    Moments,
    divide,
    mean_interval,
    moments,
    ratio_interval,
    solve,
    t_quantile,
)

DF = (1.0, 1.01, 1.2, 1.5, 2.0, 3.7, 8.0, 63.0, 1e4)


@pytest.mark.parametrize("level", [0.01, 0.5, 0.8, 0.95, 0.99, 0.999])
def test_quantiles_of_numbers_are_those_of_tensors_at_every_level_that_is_taken(level):
    of_tensors = student_t_quantile(level, torch.tensor(DF, dtype=torch.float64))
    exact = student_t.ppf((1 + level) / 2, DF)
    # At 0.999 the quadrature leaves 4 digits.
    rtol = 1e-3 if level > 0.99 else 1e-7
    assert np.allclose([t_quantile(level, df) for df in DF], of_tensors, rtol=rtol)
    assert np.allclose(of_tensors, exact, rtol=rtol)


def test_a_level_beyond_what_is_precise_is_refused():
    with pytest.raises(ValueError, match=r"t_quantile\(level=0.9999\): expected a probability .* at most 0.999"):
        t_quantile(0.9999, 1.5)


PARTS = st.floats(-100, 100).map(lambda x: round(x, 3))


def as_tensors(pairs):
    return torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2).unbind(1)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(PARTS, PARTS), max_size=12), st.sampled_from([0.8, 0.95, 0.99]))
def test_numbers_come_out_as_tensors_do(pairs, level):
    sums = moment_sums(*as_tensors(pairs), decay=0.9)
    slow = noise_scale_from_sums(MomentSums(*sums), level=level, dtype=torch.float64, method="")
    means = moments(sums.tolist())
    fast = ratio_interval(means, level)
    expected = (slow.b_simple.value, slow.b_simple.std_error, slow.b_simple.lower, slow.b_simple.upper)
    # Differences of nearly equal numbers lose digits, in another order of operations other ones.
    assert np.allclose(fast, [float(x) for x in expected], rtol=1e-5, atol=1e-9, equal_nan=True)
    for part, mean, variance in (
        (slow.trace_sigma, means.numerator, means.numerator_var),
        (slow.grad_sq_norm, means.denominator, means.denominator_var),
    ):
        ends = [float(x) for x in (part.value, part.std_error, *part.interval(level))]
        fast = mean_interval(mean, variance, means.num_effective - 1, level)
        assert np.allclose(fast[:2], ends[:2], rtol=1e-9, equal_nan=True)
        # Both quantiles are good to 2e-8.
        assert np.allclose(fast[2:] - np.float64(mean), np.array(ends[2:]) - mean, rtol=1e-7, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize(
    "pairs", [[], [(3.0, 1.0)], [(3.0, 1.0)] * 2, [(3.0, 1.0), (4.0, 2.0)]], ids=["none", "one", "alike", "different"]
)
def test_all_intervals_are_the_whole_line_below_one_degree_of_freedom(pairs):
    sums = moment_sums(*as_tensors(pairs), decay=0.5)  # two observations count as 1.8
    means = moments(sums.tolist())
    df = means.num_effective - 1
    assert not df >= 1
    fast = [
        ratio_interval(means, 0.95),
        mean_interval(means.numerator, means.numerator_var, df, 0.95),
        mean_interval(means.denominator, means.denominator_var, df, 0.95),
    ]
    slow = noise_scale_from_sums(MomentSums(*sums), level=0.95, dtype=torch.float64, method="")
    for interval, estimate in zip(fast, slow, strict=True):
        assert interval[2:] == (-math.inf, math.inf)
        assert tuple(float(end) for end in estimate.interval()) == (-math.inf, math.inf)


def test_a_ratio_of_nothing_but_zeros_above_is_zero():
    sums = moment_sums(*as_tensors([(0.0, 1.0), (0.0, 1.5), (0.0, 1.0)]))
    slow = noise_scale_from_sums(MomentSums(*sums), level=0.8, dtype=torch.float64, method="")
    assert [float(end) for end in slow.b_simple.interval()] == [0, 0]
    assert ratio_interval(moments(sums.tolist()), 0.8) == (0, 0, 0, 0)


def test_means_are_those_of_tensors():
    sums = moment_sums(*as_tensors([(3.0, 1.0), (4.0, -0.5), (2.5, 2.0)]), decay=0.9)
    expected = [float(x) for x in mean_moments(MomentSums(*sums))]
    assert moments(sums.tolist()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("signal", "noise"),
    [((2.0, 0.01), (6.0, 0.01)), ((2.0, 1.0), (6.0, 0.01)), ((-2.0, 1.0), (6.0, 0.01)), ((0.1, 1.0), (-6.0, 0.01))],
    ids=["bounded", "no upper end", "negative signal", "negative noise"],
)
def test_an_interval_has_the_ends_of_fiellers_set(signal, noise):
    means = Moments(noise[0], signal[0], noise[1], signal[1], 0.003, 31.0)
    expected = fieller_interval(*(torch.tensor(x, dtype=torch.float64) for x in (*means[:5], 30.0)))
    assert ratio_interval(means, 0.95)[2:] == pytest.approx([float(end) for end in expected])


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("df", [1, 1.2, 1.5, 2, 3.7, 8, 15, 63, 198.4, 1e4, 1e6])
def test_quantiles_agree_with_scipy(level, df):
    # 48 quadrature nodes and lgamma differences at a million degrees of freedom leave 1e-8.
    assert t_quantile(level, df) == pytest.approx(student_t.ppf((1 + level) / 2, df), rel=2e-8)


def test_too_few_degrees_of_freedom_give_no_end_and_unknown_ones_stay_unknown():
    assert t_quantile(0.95, 0.5) == math.inf
    assert math.isnan(t_quantile(0.95, math.nan))


def test_nothing_observed_is_nan():
    assert all(math.isnan(mean) for mean in moments([0.0] * 7))
    # Weights so small that their squares vanish: nothing finite was seen for very long.
    assert math.isnan(moments([1e-200, 0.0, 1e-200, 1e-200, 1e-200, 1e-200, 1e-200]).num_effective)


def test_huge_numbers_overflow_into_infinity_and_raise_nothing():
    means = moments([2.0, 2.0, 4e200, 3e200, math.inf, math.inf, math.inf])
    assert not math.isfinite(means.numerator_var)
    assert not math.isfinite(ratio_interval(means, 0.95).std_error)


@pytest.mark.parametrize(("small", "big", "b", "B"), [(3.0, 1.5, 8, 32), (1.0, 2.0, 1, 7.5), (3.0, 1.5, 8, 8)])
def test_noise_and_signal_of_a_step_are_those_of_tensors(small, big, b, B):
    expected = [float(x) for x in noise_moments(*(torch.tensor(x, dtype=torch.float64) for x in (small, big, b, B)))]
    assert solve(small, big, b, B) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("a", [2.0, -2.0, 0.0, math.nan])
@pytest.mark.parametrize("b", [4.0, 0.0, -0.0])
def test_division_is_that_of_tensors(a, b):
    expected = float(torch.tensor(a, dtype=torch.float64) / torch.tensor(b, dtype=torch.float64))
    assert divide(a, b) == pytest.approx(expected, nan_ok=True)
