import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_foresight.functional import fieller_interval
from tests.reference.gradient_noise import fieller_accepts

positive = st.floats(0.01, 10)
signed = st.floats(-10, 10).filter(lambda x: abs(x) > 0.01)


def interval(s, g, var_s, var_g, cov, df, level=0.95):
    as_tensors = [torch.tensor(float(x), dtype=torch.float64) for x in (s, g, var_s, var_g, cov, df)]
    return tuple(float(end) for end in fieller_interval(*as_tensors, level))


@given(positive, signed, positive, positive, st.floats(-0.95, 0.95), st.floats(1, 200))
@settings(max_examples=300, deadline=None)
def test_exactly_the_ratios_inside_pass_the_t_test(s, g, var_s, var_g, correlation, df):
    cov = correlation * math.sqrt(var_s * var_g)
    lower, upper = interval(s, g, var_s, var_g, cov, df)
    assert lower <= upper

    def accepts(theta):
        return fieller_accepts(theta, s, g, var_s, var_g, cov, df, 0.95)

    for end, outward in ((lower, -1), (upper, 1)):
        if math.isfinite(end):
            step = 1e-4 * max(abs(end), 1e-3)
            assert not accepts(end + outward * step)
            if upper - lower > 3 * step:
                assert accepts(end - outward * step)
        else:
            assert accepts(outward * 1e7)


@given(positive, positive, positive, positive, st.floats(2, 200))
@settings(max_examples=100, deadline=None)
def test_the_interval_holds_the_ratio_itself_when_the_denominator_is_positive(s, g, var_s, var_g, df):
    lower, upper = interval(s, g, var_s, var_g, 0.0, df)
    assert lower <= s / g * (1 + 1e-9)
    assert upper >= s / g * (1 - 1e-9)


def test_a_denominator_that_may_be_zero_gives_an_unbounded_interval():
    lower, upper = interval(10, 0.5, 0.01, 1, 0, 30)
    assert 0 < lower < 10 / 0.5
    assert upper == math.inf


def test_a_negative_denominator_mean_still_gives_the_branch_of_large_positive_ratios():
    lower, upper = interval(10, -0.5, 0.01, 1, 0, 30)
    assert lower > 0
    assert upper == math.inf


@pytest.mark.parametrize(
    "moments", [(0.01, 0.01, 1, 1, 0, 30), (5, 1, math.nan, math.nan, math.nan, 0), (5, 1, 1, 1, 0, 0.5)]
)
def test_data_that_exclude_nothing_give_the_whole_line(moments):
    assert interval(*moments) == (-math.inf, math.inf)


def test_known_means_give_their_ratio():
    assert interval(6, 3, 0, 0, 0, 10) == (2.0, 2.0)


def test_coverage_is_as_stated_on_simulated_means():
    generator = np.random.default_rng(0)
    n, runs, truth = 16, 2000, 4.0
    # Correlated normal observations whose denominator is 1.2 standard errors of the mean away from 0.
    noise = generator.standard_normal((runs, n, 2)) @ np.array([[1.0, 0.3], [0, 3.2]])
    values = torch.from_numpy(noise + np.array([truth, 1.0]))
    mean = values.mean(1)
    centred = values - mean[:, None]
    cov = torch.einsum("rni,rnj->rij", centred, centred) / (n - 1) / n
    lower, upper = fieller_interval(
        mean[:, 0], mean[:, 1], cov[:, 0, 0], cov[:, 1, 1], cov[:, 0, 1], torch.full((runs,), n - 1.0)
    )
    covered = ((lower <= truth) & (truth <= upper)).double().mean()
    # Exact theory: .95, of which 2000 runs show -+ 3 * .0049; many intervals are unbounded.
    assert abs(covered - 0.95) < 0.0147
    assert upper.isinf().double().mean() > 0.5
