from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_foresight.functional import quantize
from lightning_foresight.training import QuantizeActivations


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), levels=st.integers(2, 20), mode=st.sampled_from(["center", "stochastic", "bins"]))
def test_codes_stay_within_the_levels_and_keep_the_order(seed: int, levels: int, mode: str) -> None:
    x = torch.randn(200, generator=torch.Generator().manual_seed(seed)).sort().values
    codes = quantize(x, levels, limits=(-1, 1), mode=mode)
    assert codes.min() >= 0
    assert codes.max() <= levels - 1
    if mode != "stochastic":
        assert (codes.diff() >= 0).all()
    assert codes[x < -1].eq(0).all()
    assert codes[x > 1].eq(levels - 1).all()


@pytest.mark.parametrize("limits", [(0.0, 1.0), (-1.0, 1.0), (2.0, 5.0)])
def test_bins_are_as_many_as_asked_for_and_start_at_the_lower_limit(limits: tuple[float, float]) -> None:
    # floor(x / width), as published elsewhere, gives one bin more at the upper limit and knows no lower one.
    low, high = limits
    edges = torch.linspace(low, high, 5, dtype=torch.float64)
    assert quantize(edges, 4, limits=limits, mode="bins").tolist() == [0, 1, 2, 3, 3]
    inside = (edges[:-1] + edges[1:]) / 2
    assert quantize(inside, 4, limits=limits, mode="bins").tolist() == [0, 1, 2, 3]
    assert quantize(torch.tensor([low - 1, high + 1]), 4, limits=limits, mode="bins").tolist() == [0, 3]


def test_center_gives_saturated_units_half_a_bin_and_bins_give_them_a_whole_one() -> None:
    x = torch.tensor([-1.0, -0.7, -0.6, 0.0, 1.0])
    # Three levels at -1, 0 and 1: the boundary is at -0.5; bins of width 2/3 end at -1/3.
    assert quantize(x, 3, limits=(-1, 1)).tolist() == [0, 0, 0, 1, 2]
    assert quantize(x + 0.2, 3, limits=(-1, 1)).tolist() == [0, 0, 1, 1, 2]
    assert quantize(x + 0.2, 3, limits=(-1, 1), mode="bins").tolist() == [0, 0, 0, 1, 2]


def test_stochastic_rounding_keeps_the_mean() -> None:
    x = torch.full((20_000,), 0.3)
    codes = quantize(x, 5, limits=(0, 1), mode="stochastic")
    # z = 1.2: variance 0.16, so that the mean is right to 0.012 at four standard errors.
    assert codes.double().mean().item() == pytest.approx(1.2, abs=0.012)
    assert set(codes.tolist()) == {1, 2}


def test_limits_of_the_data_are_used_when_none_are_given() -> None:
    assert quantize(torch.tensor([3.0, 5.0, 7.0]), 3).tolist() == [0, 1, 2]
    assert quantize(torch.full((4,), 3.0), 3).tolist() == [0, 0, 0, 0]


def test_gradient_passes_straight_through_between_the_limits() -> None:
    x = torch.tensor([-2.0, -0.4, 0.3, 1.5], requires_grad=True)
    out = QuantizeActivations(levels=4)(x)
    out.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 0]
    levels = torch.linspace(-1, 1, 4)
    assert all(torch.isclose(value, levels).any() for value in out.detach())


def test_training_is_stochastic_and_evaluation_is_not() -> None:
    layer, x = QuantizeActivations(levels=3), torch.full((100,), 0.5)
    assert layer(x).unique().numel() == 2
    assert layer.eval()(x).unique().numel() == 1


def test_random_state_is_its_own_and_resumes_from_a_state_dict() -> None:
    x = torch.rand(64, generator=torch.Generator().manual_seed(0))
    global_state = torch.random.get_rng_state()
    layer = nn.Sequential(QuantizeActivations(levels=3))
    layer(x)
    resumed, copied = nn.Sequential(QuantizeActivations(levels=3)), copy.deepcopy(layer)
    resumed.load_state_dict(layer.state_dict())
    expected = layer(x)
    assert torch.equal(resumed(x), expected)
    assert torch.equal(copied(x), expected)
    assert torch.equal(torch.random.get_rng_state(), global_state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 1}, r"QuantizeActivations\(levels=1\): expected an integer of at least 2"),
        ({"limits": (1, -1)}, r"QuantizeActivations\(limits=\(1, -1\)\): expected a pair \(low, high\)"),
        ({"mode": "bins"}, r"QuantizeActivations\(mode='bins'\): expected one of 'stochastic', 'center'"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuantizeActivations(**options)


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match=r"quantize\(x\): got NaN"):
        quantize(torch.tensor([0.0, float("nan")]))
