import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_foresight.functional.effective_information.characteristic import (
    SERIES_ERROR,
    TAIL_MASS,
    half_support,
    half_width,
    minus_log_envelope,
    plan_series,
    product_of_others,
    sinc,
    sum_of_others,
)


def every(values):
    return torch.arange(values.shape[-1]).expand(len(values), -1)


def test_envelope_is_decreasing_and_stays_above_the_sinc_function():
    x = torch.linspace(0, 60, 600_001, dtype=torch.float64)
    envelope = torch.exp(-minus_log_envelope(x))
    assert (envelope.diff() <= 1e-15).all()
    assert (sinc(x).abs() <= envelope + 1e-15).all()


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=6))
def test_sums_and_products_of_others_leave_one_out(values):
    tensor = torch.tensor(values, dtype=torch.float64)
    for index in range(len(values)):
        rest = values[:index] + values[index + 1 :]
        assert sum_of_others(tensor)[index].item() == pytest.approx(sum(rest), abs=1e-12)
        left_out = product_of_others(tensor.unsqueeze(0), torch.tensor([[index]]))
        assert left_out.item() == pytest.approx(math.prod(rest), abs=1e-9)


def test_products_of_others_survive_factors_of_zero():
    factors = torch.tensor([[2.0, 0.0, 3.0], [1.0, 4.0, 5.0]])
    assert product_of_others(factors, torch.tensor([[0, 1], [2, 2]])).tolist() == [[0, 6], [4, 4]]


def test_cut_tails_hold_less_than_stated():
    # Forty equal uniforms: the exact tail (Irwin-Hall), far out in the nearly Gaussian regime.
    count = 40
    half = half_width(torch.ones(1, count, dtype=torch.float64)).item()
    assert half < count / 2
    x = count / Fraction(2) - Fraction(half)
    below = sum((-1) ** k * math.comb(count, k) * (x - k) ** count for k in range(math.floor(x) + 1))
    assert 0 < 2 * below / math.factorial(count) < TAIL_MASS


@settings(deadline=None, max_examples=15)
@given(st.lists(st.floats(0.05, 3), min_size=5, max_size=30), st.integers(2, 64))
def test_what_the_series_cuts_off_is_below_the_stated_error(widths, in_bins):
    widths = torch.tensor([widths], dtype=torch.float64)
    plan = plan_series(widths, every(widths), in_bins, 2048)
    k = torch.arange(1, 40_001, dtype=torch.float64)
    x = widths.unsqueeze(2) * math.pi * k / plan.period
    others = product_of_others(sinc(x).transpose(1, 2), every(widths)).transpose(1, 2)
    coefficients = (others * sinc(x / in_bins)).abs() / (math.pi * k)
    for pair, terms in enumerate(plan.terms[0].tolist()):
        if terms:
            assert 2 * coefficients[0, pair, terms:].sum() <= SERIES_ERROR


def test_wide_layers_need_few_terms_and_dominated_ones_are_refused():
    generator = torch.Generator().manual_seed(0)
    wide = torch.rand(3, 784, generator=generator, dtype=torch.float64)
    assert plan_series(wide, every(wide), 64, 2048).terms.max() < 30
    dominated = torch.full((1, 50), 1e-6, dtype=torch.float64)
    dominated[0, 0] = 1
    # All but the dominating input itself see a nearly uniform pre-activation.
    assert (plan_series(dominated, every(dominated), 64, 2048).terms[0, 1:] == 0).all()


def test_half_a_period_holds_every_pair_in_its_support():
    widths = torch.rand(4, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plan = plan_series(widths, every(widths), 16, 2048)
    assert (half_support(widths, 16) + widths / 2 <= plan.period.unsqueeze(1) / 2 + 1e-12).all()
