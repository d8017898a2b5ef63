from fractions import Fraction

import pytest
import torch

from lightning_foresight.functional.effective_information.characteristic import half_width, terms_of_sum
from lightning_foresight.functional.effective_information.uniform_sums import UniformSum
from tests.reference.effective_information_dense import uniform_sum_cdf

WIDTHS = [
    [1.0],
    [1.0, 1.0],
    [1.0, 1e-7],
    [1.0, 0.9, 0.8, 0.7, 0.6, 0.5],
    [1.0, 1e-4, 1e-8],
    [1.0, 1e-3, 1e-6, 1e-9, 1e-12],
    [1.0, 1.0, 1e-6],
    [1.0, 0.5, 1e-5, 1e-5],
]


def points_around_kinks(widths):
    """Points on every scale around the ends and corners of the distribution function."""
    corners = {0.0}
    for width in widths:
        corners |= {corner + sign * width / 2 for corner in corners for sign in (-1, 1)}
    steps = [0.0] + [sign * factor * width for width in widths for factor in (0.2, 0.7) for sign in (-1, 1)]
    points = sorted({corner + step for corner in corners for step in steps})
    return points[:: max(1, len(points) // 40)]


def exact_cdf(points, widths):
    fractions = [uniform_sum_cdf(Fraction(z), [Fraction(w) for w in widths]) for z in points]
    return torch.tensor([float(fraction) for fraction in fractions], dtype=torch.float64)


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_closed_form_equals_rational_arithmetic_on_every_scale(widths):
    points = points_around_kinks(widths)
    wide = torch.tensor([widths], dtype=torch.float64)
    found = UniformSum(wide, wide[:, :0]).cdf(torch.tensor([points], dtype=torch.float64))[0]
    assert (found - exact_cdf(points, widths)).abs().max() < 2e-13


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-5])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_narrow_uniforms_by_series_equal_rational_arithmetic(count, scale):
    wide, narrow = [1.0, 0.8, 0.3][:count], [scale * width for width in (0.1, 0.09, 0.08, 0.07, 0.06)]
    widths = torch.tensor([narrow], dtype=torch.float64)
    terms = int(terms_of_sum(widths, half_width(widths), 2048))
    assert 0 < terms < 2048
    points = points_around_kinks([*wide, sum(narrow)])
    total = UniformSum(torch.tensor([wide], dtype=torch.float64), widths, terms)
    found = total.cdf(torch.tensor([points], dtype=torch.float64))[0]
    assert (found - exact_cdf(points, wide + narrow)).abs().max() < 1e-12


def test_distribution_function_is_symmetric_and_rises_from_zero_to_one():
    wide = torch.tensor([[1.0, 0.3, 1e-3]], dtype=torch.float64)
    z = torch.linspace(-1, 1, 501, dtype=torch.float64).unsqueeze(0)
    cdf = UniformSum(wide, wide[:, :0]).cdf(z)[0]
    assert (cdf.diff() >= 0).all()
    assert torch.allclose(cdf + cdf.flip(0), torch.ones_like(cdf))
    assert cdf[0] == 0
    assert cdf[-1] == 1
