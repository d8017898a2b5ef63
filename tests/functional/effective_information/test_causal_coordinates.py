import pytest
import torch
from torch import nn

from lightning_foresight.functional import causal_coordinates, ei_parts, sensitivity
from lightning_foresight.functional.effective_information.causal_coordinates import has_exact_method


def _layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(5, 4).double()


QUESTION = {"in_range": (-1, 1), "in_bins": 8, "out_bins": 8}


def test_exact_totals_are_the_sums_over_pairs():
    layer, tanh = _layer(), nn.Tanh()
    point = causal_coordinates(layer, tanh, **QUESTION)
    parts, alone = ei_parts(layer, tanh, **QUESTION).sum(), sensitivity(layer, tanh, **QUESTION).sum()
    assert float(point.parts.value) == pytest.approx(float(parts), rel=1e-12)
    assert float(point.sensitivity.value) == pytest.approx(float(alone), rel=1e-12)
    assert float(point.degeneracy.value) == pytest.approx(float(alone - parts), rel=1e-12)
    assert [total.kind for total in point] == ["exact"] * 3


def test_sampled_totals_agree_with_exact_ones_within_their_error():
    layer, tanh = _layer(), nn.Tanh()
    exact = causal_coordinates(layer, tanh, **QUESTION)
    errors = []
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        sampled = causal_coordinates(layer, tanh, **QUESTION, method="sampled", num_samples=2**14, generator=generator)
        assert sampled.parts.kind == "estimate"
        errors.append(float((sampled.parts.value - exact.parts.value) / sampled.parts.std_error))
        assert float(sampled.sensitivity.value) == pytest.approx(float(exact.sensitivity.value), rel=2e-3)
    # Standard errors from 8 blocks have 7 degrees of freedom: 10 such ratios stay below 5.4 with probability 0.99.
    assert max(abs(error) for error in errors) < 5.4


def test_exactness_is_told_before_measuring():
    assert has_exact_method(nn.Linear(2, 2), nn.Tanh())
    assert has_exact_method(nn.Conv2d(1, 2, 3), None)
    assert not has_exact_method(nn.Linear(2, 2), nn.GELU())
    assert not has_exact_method(nn.Bilinear(2, 2, 2), None)
