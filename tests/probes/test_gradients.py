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


def test_a_gradient_is_measured_before_a_later_hook_or_a_reused_buffer_overwrites_it():
    buffer = torch.empty(3)

    class Reuses(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, scale):
            ctx.scale = scale
            return x * scale

        @staticmethod
        def backward(ctx, gradient):
            return buffer.copy_(gradient * ctx.scale), None

    first, second = (nn.Parameter(torch.ones(3)) for _ in range(2))
    probe = listening([first, second])
    first.register_hook(lambda gradient: gradient.zero_())
    (Reuses.apply(first, 2.0) + Reuses.apply(second, 5.0)).sum().backward()
    seen = probe.collect()
    norms = dict(zip(seen.indices, seen.norms.tolist(), strict=True))
    assert norms == pytest.approx({0: 2 * 3**0.5, 1: 5 * 3**0.5})


def test_watching_changes_neither_layout_nor_storage_of_gradients():
    def layouts(watch):
        parts = nn.ParameterList([nn.Parameter(torch.ones(100)), nn.Parameter(torch.ones(9))])
        weights = [nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(3, 4))]
        everything = [*parts, *weights]
        probe = listening(everything) if watch else None
        (torch.cat(list(parts)).square().sum() + (weights[0] @ weights[1]).square().sum()).backward()
        found = [(p.grad.stride(), p.grad.storage_offset(), p.grad.untyped_storage().nbytes()) for p in everything]
        assert probe is None or len(probe.collect().indices) == 4
        return found

    assert layouts(watch=True) == layouts(watch=False)


def test_norms_hold_no_graph_when_the_backward_pass_creates_one(layer):
    probe = listening(layer.parameters())
    layer(torch.ones(1, 4)).square().sum().backward(create_graph=True)
    assert not probe.collect().norms.requires_grad
    assert not accumulated_norms(list(layer.parameters()), range(2)).norms.requires_grad
    for parameter in layer.parameters():
        parameter.grad = None  # else it and the graph hold each other


def test_only_plain_gradients_are_discarded_for_an_expanded_zero():
    class Special(torch.Tensor):
        pass

    parameter = nn.Parameter(torch.ones(3))
    probe = listening([parameter], discard=True)
    assert probe._hook(0)(torch.ones(3).as_subclass(Special)) is None
    assert type(probe._hook(0)(torch.ones(3))) is torch.Tensor
    assert probe.collect().norms.tolist() == pytest.approx([3**0.5] * 2)


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


def test_removed_hooks_leave_a_parameter_as_it_was(layer):
    others = layer.bias.register_hook(lambda gradient: None)
    probe = listening(layer.parameters())
    probe.remove()
    assert layer.weight._backward_hooks is None  # an empty table would send every later gradient through Python
    assert list(layer.bias._backward_hooks) == [others.id]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_last_of_several_probes_leaves_no_empty_table_whichever_came_first(layer, order):
    probes = [listening(layer.parameters()) for _ in order]
    first, last = (probes[position] for position in order)
    first.remove()
    assert len(layer.weight._backward_hooks) == 1
    layer(torch.ones(1, 4)).sum().backward()
    assert last.collect() is not None
    last.remove()
    assert layer.weight._backward_hooks is None


def test_a_handle_of_the_users_that_outlives_the_table_can_still_be_removed(layer):
    others = layer.weight.register_hook(lambda gradient: None)
    probe = listening(layer.parameters())
    others.remove()
    probe.remove()
    assert layer.weight._backward_hooks is None
    others.remove()
    layer.weight.register_hook(lambda gradient: gradient * 2)
    layer(torch.ones(1, 4)).sum().backward()
    assert torch.equal(layer.weight.grad, torch.full_like(layer.weight, 2.0))
