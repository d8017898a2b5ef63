"""All ways of seeing the noise of a gradient keep the same promises."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_foresight.callbacks._noise_methods import make_observer

BATCH = 4


class Network(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(3, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 2))


def make(method):
    torch.manual_seed(0)
    model = Network()
    return model, make_observer(method, model, list(model.parameters()), torch.device("cpu"), None)


def one_pass(model, observer, *, look, size=BATCH):
    inputs = torch.randn(size, 3, generator=torch.Generator().manual_seed(1))
    if look:
        observer.before_forward(size)
    loss = model(inputs).square().sum(1).mean()
    if look:
        observer.before_backward(loss, size, seed=2)
    loss.backward()
    return observer.collect()


def num_hooks(model):
    on_modules = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
    return on_modules + sum(len(parameter._backward_hooks or {}) for parameter in model.parameters())


every_method = pytest.mark.parametrize("method", ["micro_batches", "split", "per_example"])


@every_method
def test_a_pass_that_was_announced_is_seen_and_leaves_its_gradients_alone(method):
    model, observer = make(method)
    assert observer.kind == method
    seen = one_pass(model, observer, look=True)
    assert sorted(seen.indices) == list(range(6))
    assert torch.isfinite(seen.norms).all()
    twin, idle = make(method)
    one_pass(twin, idle, look=False)
    for first, second in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(first.grad, second.grad)


@every_method
def test_a_pass_that_was_not_announced_is_not_seen(method):
    model, observer = make(method)
    assert one_pass(model, observer, look=False) is None
    one_pass(model, observer, look=True)
    assert one_pass(model, observer, look=False) is None
    assert one_pass(model, observer, look=True) is not None


@every_method
def test_nothing_is_left_behind_after_removal(method):
    model, observer = make(method)
    one_pass(model, observer, look=True)
    observer.remove()
    assert num_hooks(model) == 0
    assert observer.collect() is None


@every_method
def test_what_a_failed_pass_showed_is_forgotten(method):
    model, observer = make(method)
    observer.before_forward(BATCH)
    loss = model(torch.ones(BATCH, 3)).sum(1).mean()
    observer.before_backward(loss, BATCH, seed=0)  # and then the run's own backward pass fails
    observer.remove()
    assert one_pass(model, observer, look=False) is None
