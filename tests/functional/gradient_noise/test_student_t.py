import pytest
import torch
from scipy.stats import t as student_t

from lightning_foresight.functional.gradient_noise import student_t_quantile

DF = torch.tensor([1, 1.2, 1.5, 2, 3.7, 8, 15, 63, 198.4, 1e4, 1e6], dtype=torch.float64)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_quantiles_agree_with_scipy(level):
    expected = torch.from_numpy(student_t.ppf((1 + level) / 2, DF.numpy()))
    # 48 quadrature nodes and lgamma differences at a million degrees of freedom leave 1e-8.
    torch.testing.assert_close(student_t_quantile(level, DF), expected, rtol=2e-8, atol=0)


def test_float32_degrees_of_freedom_lose_nothing_but_their_own_rounding():
    expected = torch.from_numpy(student_t.ppf(0.975, DF.numpy())).float()
    torch.testing.assert_close(student_t_quantile(0.95, DF.float()), expected, rtol=3e-7, atol=0)


def test_fewer_than_one_degree_of_freedom_give_no_finite_quantile():
    assert student_t_quantile(0.95, torch.tensor([0.99, 0.0, -1.0])).tolist() == [float("inf")] * 3


def test_unknown_degrees_of_freedom_stay_unknown():
    assert student_t_quantile(0.95, torch.tensor(float("nan"))).isnan()


@pytest.mark.parametrize("level", [0, 0.9991, 1, 95])
def test_a_level_outside_the_range_that_is_precise_is_refused(level):
    with pytest.raises(ValueError, match=rf"student_t_quantile\(level={level}\): expected a probability"):
        student_t_quantile(level, DF)
