from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from scipy.optimize import brentq

from lightning_foresight.functional._noncentral import (
    debiased_variance,
    distance_interval,
    entropy_interval,
    skewness_shift,
)


def _slow_noncentrality(observed: float, freedom: float, share: float) -> float:
    """The noncentrality of which ``observed`` is the quantile of this share, by scipy; 0 if there is none."""
    if stats.chi2.cdf(observed, freedom) <= share:
        return 0.0
    return float(brentq(lambda found: stats.ncx2.cdf(observed, freedom, found) - share, 1e-9, 4 * observed + 100))


@pytest.mark.parametrize("freedom", [1.0, 3.0, 9.0, 60.0])
@pytest.mark.parametrize("observed", [2.0, 12.0, 60.0, 400.0])
def test_interval_inverts_the_noncentral_chi_square(freedom: float, observed: float) -> None:
    if observed < freedom - math.sqrt(2 * freedom):
        pytest.skip("values that are more even than chance makes them are read as if they were not")
    n = 500.0
    low, high = distance_interval(observed / (2 * n), observed / n, freedom, n)
    # Sankaran's approximation is off by less than 1% of the quantile's spread, and where it is near 0 by .2.
    near = 0.02 * math.sqrt(4 * observed + 2 * freedom) + 0.2
    assert 2 * n * low == pytest.approx(_slow_noncentrality(observed, freedom, 0.975), abs=near)
    assert 2 * n * high == pytest.approx(_slow_noncentrality(observed, freedom, 0.025), abs=near)


def test_tensors_and_numbers_give_the_same_ends() -> None:
    numbers = [(0.02, 0.05, 3.0, 400.0), (0.0, 0.0, 1.0, 100.0), (0.3, 0.9, 20.0, 1000.0), (0.001, 0.001, 8.0, 1000.0)]
    low, high = distance_interval(*torch.tensor(numbers, dtype=torch.float64).unbind(1))
    for row, *ends in zip(numbers, low.tolist(), high.tolist(), strict=True):
        assert distance_interval(*row) == pytest.approx(tuple(ends), abs=1e-12)


# Even, nearly even and far from even; few and many values.
@pytest.mark.parametrize(
    "shares", [[0.5, 0.5], [0.1] * 10, [0.3, 0.35, 0.35], [0.02, 0.08, 0.9], [0.28, 0.24, 0.2, 0.16, 0.12]]
)
def test_entropy_interval_covers_as_often_as_it_says(shares: list[float]) -> None:
    p, n, sets = torch.tensor(shares, dtype=torch.float64), 400, 2000
    draws = torch.multinomial(p, n * sets, replacement=True, generator=torch.Generator().manual_seed(0)).view(sets, n)
    counts = torch.nn.functional.one_hot(draws, len(shares)).sum(1).double()
    surprisals = -(counts.clamp(min=1) / n).log()
    plug_in = (counts / n * surprisals).sum(1)
    variance = (counts / n * (surprisals - plug_in.unsqueeze(1)) ** 2).sum(1)
    low, high = entropy_interval(plug_in, variance, (counts > 0).sum(1).double(), torch.full_like(plug_in, n))
    truth = float(torch.distributions.Categorical(p).entropy())
    covered = float(((low <= truth + 1e-9) & (truth <= high + 1e-9)).double().mean())
    # Three standard deviations of 2,000 sets are .015; at the limit it misses on one side only: .975.
    assert 0.93 <= covered <= 0.99
    width = float((high - low).median()) / (2 * 1.96 * float(plug_in.std()))
    assert width < 1.35  # the delta method's, with the bias of its variance, is 1.6 to 2.2 where values are even


def test_variance_is_that_of_chi_square_where_terms_are_even_and_the_delta_methods_where_not() -> None:
    assert debiased_variance(0.0, 4.0, 100.0) == pytest.approx(4 / (2 * 100**2))
    assert debiased_variance(0.5, 4.0, 1e6) == pytest.approx(0.5e-6, rel=1e-4)


def test_lower_end_is_above_the_limit_exactly_where_the_test_of_it_rejects() -> None:
    n, freedom = 200.0, 4.0
    critical = stats.chi2.ppf(0.975, freedom)  # 11.1; Sankaran's is within .1 of it
    # Terms that spread as much as the value says, less, and hardly at all.
    for observed in (12.0, 8.0, 0.5):
        for twice, above in ((critical - 0.3, False), (critical + 0.3, True), (3 * critical, True)):
            low, _ = distance_interval(twice / (2 * n), observed / n, freedom, n)
            assert (low > 0) == above
            (same,) = distance_interval(
                *(torch.tensor([each]) for each in (twice / (2 * n), observed / n, freedom, n))
            )[0]
            assert same.item() == pytest.approx(low, abs=1e-6)


@pytest.mark.parametrize("share", [0.02, 0.05])
def test_skewness_balances_the_misses_of_a_rare_value(share: float) -> None:
    n, sets = 1000, 20_000
    truth = float(torch.distributions.Bernoulli(torch.tensor(share, dtype=torch.float64)).entropy())
    draws = torch.distributions.Binomial(n, torch.tensor(share, dtype=torch.float64))
    torch.manual_seed(0)
    p = draws.sample((sets,)).clamp(min=1) / n
    shares = torch.stack([p, 1 - p])
    surprisals = -shares.log()
    plug_in = (shares * surprisals).sum(0)
    moments = [(shares * (surprisals - plug_in) ** power).sum(0) for power in (2, 3)]
    size = torch.full_like(p, n)
    misses = []
    for third in (0.0, moments[1]):
        low, high = entropy_interval(plug_in, moments[0], torch.full_like(p, 2), size, third)
        misses.append((float((high < truth).double().mean()), float((low > truth).double().mean())))
    # Counts are whole numbers, so that a miss comes or goes with the samples of one count: 1.5% at 20.
    assert misses[0][0] > 2 * misses[0][1]
    assert abs(misses[1][0] - misses[1][1]) < 0.016
    assert sum(misses[1]) < sum(misses[0])


def test_skewness_of_even_terms_is_none() -> None:
    assert skewness_shift(0.0, 0.0, 100.0) == 0
    assert skewness_shift(0.5, 0.5, 100.0) == pytest.approx((2 * 1.959964**2 + 1) / 600)
