import pytest
import torch
from torch import nn

from lightning_foresight.probes.gradients import GradientNormProbe, accumulated_norms, gradient_norm


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def listening(parameters, **kwargs):
    probe = GradientNormProbe(parameters, **kwargs)
    probe.attach()
    probe.listening = True
    return probe


def test_each_backward_pass_shows_its_own_gradient_and_not_the_sum(layer):
    probe = listening(layer.parameters())
    for scale in (1.0, 2.0):
        (scale * layer(torch.ones(2, 4))).sum().backward()
        seen = probe.collect()
        assert seen.norms[list(seen.indices).index(0)] == pytest.approx(scale * 2 * 12**0.5)
    assert layer.weight.grad.norm() == pytest.approx(3 * 2 * 12**0.5)


def test_a_parameter_used_twice_shows_the_sum_once(layer):
    square = nn.Linear(3, 3, bias=False)
    probe = listening(square.parameters())
    x = torch.randn(5, 3)
    square(square(x)).sum().backward()
    seen = probe.collect()
    assert seen.indices == (0,)
    torch.testing.assert_close(seen.norms[0], square.weight.grad.norm())


def test_nothing_is_seen_while_not_listening_or_after_removal(layer):
    probe = listening(layer.parameters())
    probe.listening = False
    layer(torch.ones(1, 4)).sum().backward()
    assert probe.collect() is None
    probe.listening = True
    probe.remove()
    layer(torch.ones(1, 4)).sum().backward()
    assert probe.collect() is None
    assert not layer.weight._backward_hooks


def test_a_parameter_that_is_unfrozen_later_is_taken_up(layer):
    layer.bias.requires_grad_(False)
    probe = listening(layer.parameters())
    layer.bias.requires_grad_(True)
    probe.attach()
    layer(torch.ones(1, 4)).sum().backward()
    assert sorted(probe.collect().indices) == [0, 1]


def test_discarded_gradients_take_no_memory(layer):
    probe = listening(layer.parameters(), discard=True)
    gradients = torch.autograd.grad(layer(torch.ones(1, 4)).sum(), list(layer.parameters()))
    assert [gradient.shape for gradient in gradients] == [(3, 4), (3,)]
    assert all(gradient.untyped_storage().nbytes() == 4 for gradient in gradients)
    assert probe.collect().norms.max() == pytest.approx(12**0.5)


def test_a_gradient_that_cannot_be_measured_is_reported_by_collect_and_not_raised_in_the_backward_pass(layer):
    probe = listening(layer.parameters())
    assert probe._hook(0)(torch.ones(2, dtype=torch.int64)) is None
    with pytest.raises(RuntimeError, match="Expected a floating point"):
        probe.collect()
    assert probe.collect() is None


def test_repeated_rows_of_a_sparse_gradient_are_summed_before_squaring():
    sparse = torch.sparse_coo_tensor([[1, 1]], [[3.0], [4.0]], (5, 1))
    assert gradient_norm(sparse) == 7


def test_half_precision_does_not_overflow():
    assert gradient_norm(torch.full((10_000,), 1000.0, dtype=torch.float16)) == pytest.approx(1e5, rel=1e-3)


def test_accumulated_norms_are_those_of_grad_whatever_their_layout(layer):
    embedding = nn.Embedding(5, 2, sparse=True)
    unused = nn.Parameter(torch.ones(2))
    layer(torch.ones(1, 4)).sum().backward()
    embedding(torch.tensor([1, 1])).sum().backward()
    parameters = [layer.weight, unused, embedding.weight]
    seen = accumulated_norms(parameters, range(3))
    assert seen.indices == (0, 2)
    expected = [layer.weight.grad.norm(), embedding.weight.grad.to_dense().norm()]
    torch.testing.assert_close(seen.norms, torch.stack(expected))
    assert accumulated_norms([unused], [0]) is None
