import random

import numpy as np
import pytest
import torch
from torch import nn

from lightning_foresight.probes.isolation import preserved_random_state, undisturbed


def _draw():
    return torch.rand(1).item(), float(np.random.rand()), random.random()  # noqa: NPY002


def _seed():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)


def test_random_states_are_restored():
    _seed()
    expected = _draw()
    _seed()
    with preserved_random_state(seed=3):
        _draw()
    assert _draw() == expected


def test_random_states_and_modes_are_restored_after_an_error():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2))
    model[1].eval()
    _seed()
    expected = _draw()
    _seed()
    with pytest.raises(ZeroDivisionError), undisturbed(model):
        assert not model[0].training
        _draw()
        raise ZeroDivisionError
    assert _draw() == expected
    assert [module.training for module in model.modules()] == [True, True, False]


def test_the_same_is_drawn_at_every_measurement():
    model = nn.Linear(1, 1)
    draws = []
    for _ in range(2):
        with undisturbed(model, seed=5):
            draws.append(torch.rand(3))
        torch.rand(1)
    assert torch.equal(*draws)


def test_inference_mode_is_left_and_gradients_are_as_asked_for():
    model = nn.Linear(2, 1)
    with torch.inference_mode(), undisturbed(model, grad=True):
        output = model(torch.ones(1, 2))
        assert output.requires_grad
        assert not output.is_inference()
    with undisturbed(model):
        assert not model(torch.ones(1, 2)).requires_grad


class Doubtful(nn.Module):
    """Draws from generators of its own, one of which it makes on first use."""

    def __init__(self):
        super().__init__()
        self.held = torch.Generator().manual_seed(0)
        self.lazy = None

    def forward(self, x):
        self.lazy = self.lazy or torch.Generator().manual_seed(1)
        self.absent = torch.Generator()
        return x + torch.rand(1, generator=self.held) + torch.rand(1, generator=self.lazy)


def test_generators_that_modules_hold_are_restored():
    watched, alone = Doubtful(), Doubtful()
    with undisturbed(nn.Sequential(watched)):
        watched(torch.zeros(1))
    assert watched.lazy is None
    assert not hasattr(watched, "absent")
    assert torch.equal(watched(torch.zeros(1)), alone(torch.zeros(1)))
    with undisturbed(nn.Sequential(watched)):  # now both are there
        watched(torch.zeros(1))
    assert torch.equal(watched(torch.zeros(1)), alone(torch.zeros(1)))
