"""A default type of double, as that of a script for small problems, changes nothing for data in single precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lightning_foresight.functional as F

OPTIONS = {"in_range": (0, 1), "in_bins": 8, "out_bins": 8, "num_samples": 512}
QUICK = {"hidden": 8, "max_steps": 3}


def _layer() -> nn.Module:
    layer = nn.Linear(3, 3, dtype=torch.float32)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-2, 2, 9).view(3, 3))
        layer.bias.zero_()
    return layer


def _pair() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(60, 2, dtype=torch.float32, generator=torch.Generator().manual_seed(0))
    return x, x.abs()


@pytest.fixture
def double_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


MEASURES = {
    "vector": lambda: F.effective_information(_layer(), nn.Tanh(), **OPTIONS).value,
    "parts": lambda: F.ei_parts(_layer(), nn.Tanh(), method="sampled", **OPTIONS),
    "chosen pairs": lambda: F.causal_measures(_layer(), in_range=(0, 1), max_pairs=4).parts.value,
    "probe": lambda: (
        F.label_information(_pair()[0], (_pair()[0][:, 0] > 0).long(), estimator="probe", max_steps=3).value
    ),
    "critic": lambda: F.mutual_information(*_pair(), estimator="infonce", **QUICK).value,
}


@pytest.fixture(scope="module")
def as_ever():
    return {name: measure() for name, measure in MEASURES.items()}


@pytest.mark.parametrize("name", MEASURES)
def test_a_default_type_of_double_changes_no_value(name, as_ever, double_by_default):
    found = MEASURES[name]()
    assert found.dtype == as_ever[name].dtype
    assert torch.allclose(found, as_ever[name], rtol=0, atol=1e-6)  # rounding of single precision
