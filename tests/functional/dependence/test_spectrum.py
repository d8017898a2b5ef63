from __future__ import annotations

import math

import pytest
import torch

from lightning_foresight.functional import cka, distance_correlation, hsic
from lightning_foresight.functional.dependence._spectrum import third_moment
from lightning_foresight.functional.dependence.kernels import make_kernel


@pytest.mark.parametrize("kernel", ["gaussian", "linear", "distance"])
@pytest.mark.parametrize("values", [2, 5, 12])
def test_moment_is_that_of_the_eigenvalues_of_the_population(kernel: str, values: int) -> None:
    places = torch.arange(values, dtype=torch.float64).unsqueeze(1)
    rows, kernel_of = make_kernel(places.repeat(250 // values, 1), kernel, 1.0)
    whole = kernel_of(rows[:values], rows[:values])
    centring = torch.eye(values, dtype=torch.float64) - 1 / values
    eigenvalues = torch.linalg.eigvalsh(centring @ whole @ centring)
    expected = eigenvalues.pow(3).sum() / eigenvalues.square().sum().pow(1.5)
    # Different rows out of 250 in place of a population: what is left is of order 1 / 250.
    assert third_moment(rows, kernel_of).item() == pytest.approx(expected.item(), abs=3 / 250)


def test_wide_noise_has_many_directions_although_few_rows_are_looked_at() -> None:
    rows, kernel = make_kernel(torch.randn(2000, 400, generator=torch.Generator().manual_seed(0)), "linear", 1.0)
    # 400 equal eigenvalues; those of the 250 rows alone would give 1 / sqrt(250) and more.
    assert third_moment(rows, kernel).item() == pytest.approx(1 / math.sqrt(400), rel=0.2)


def test_equal_rows_have_no_moment() -> None:
    rows, kernel = make_kernel(torch.ones(100, 2), "gaussian", 1.0)
    assert math.isnan(third_moment(rows, kernel).item())


def test_four_rows_and_those_of_which_noise_is_larger_have_no_moment() -> None:
    """Two negative moments would make a positive product, which passes for one direction."""
    unknown = 0
    for seed in range(20):
        few = torch.randn(5, 50, generator=torch.Generator().manual_seed(seed))
        moment = third_moment(*make_kernel(few, "gaussian", "median")).item()
        assert math.isnan(moment) or 0 < moment <= 1
        unknown += math.isnan(moment)
        assert math.isnan(third_moment(*make_kernel(few[:4], "gaussian", "median")).item())
    assert 0 < unknown < 20


def test_intervals_of_four_samples_are_finite_and_hold_their_value() -> None:
    for seed in range(20):
        x, y = torch.randn(2, 4, 50, generator=torch.Generator().manual_seed(seed))
        for measure in (hsic, cka, distance_correlation):
            estimate = measure(x, y)
            lower, upper = estimate.interval()
            assert -math.inf < lower <= estimate.value <= upper < math.inf
