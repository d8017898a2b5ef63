from typing import NamedTuple

import pytest
import torch
from torch import nn

from lightning_foresight.functional import effective_information, ei_parts
from lightning_foresight.probes.span import LayerSpan


def stack():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Sigmoid(), nn.Linear(3, 2))


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.outer = nn.Linear(2, 1)

    def forward(self, x, scale=None):
        x = x + self.inner(x)
        return self.outer(x if scale is None else x * scale)


def test_a_span_is_what_its_layers_do_one_after_the_other():
    model = stack().eval()
    span = LayerSpan(model, "1", "4", torch.zeros(2, 4))
    noise = torch.rand(50, 3)
    assert (span.in_shape, span.out_shape) == ((3,), (3,))
    assert torch.equal(span(noise), model[1:5](noise))


def test_its_information_is_that_of_the_span_and_not_of_its_parts():
    model = stack().eval()
    options = {"in_range": (-1, 1), "out_range": (0, 1), "in_bins": 8, "out_bins": 8, "in_shape": (3,)}
    span = LayerSpan(model, "2", "4", torch.zeros(1, 4))
    assert torch.equal(ei_parts(span, **options), ei_parts(model[2:5], **options))
    assert effective_information(span, **options).value == effective_information(model[2:5], **options).value


def test_what_goes_past_the_first_layer_stays_as_in_the_example():
    model, example = Skip(), torch.tensor([[1.0, -2.0], [5.0, 5.0]])
    noise = torch.rand(6, 2)
    inside = LayerSpan(model, "inner", "outer", example)
    assert torch.allclose(inside(noise), model.outer(example[:1] + model.inner(noise)))
    scaled = LayerSpan(model, "inner", "outer", (example, torch.full((2, 2), 3.0)))
    assert torch.allclose(scaled(noise), model.outer(3 * (example[:1] + model.inner(noise))))


def test_the_model_is_left_as_it_was():
    model = stack()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    LayerSpan(model, "0", "5", torch.rand(8, 4))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("9", "4"), r"LayerSpan\(in_layer='9'\).*expected the name of a module of the model: 0, 1, 2"),
        (("4", "1"), r"does not come through '4' before '1'\. Pass the one that runs first as in_layer"),
    ],
)
def test_layers_that_do_not_fit_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        LayerSpan(stack(), *arguments, torch.rand(2, 4))


def test_a_layer_that_never_runs_is_refused():
    model = Skip()
    model.spare = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="'spare' never ran as a module in the forward pass"):
        LayerSpan(model, "inner", "spare", torch.rand(2, 2))


def test_an_example_without_a_tensor_is_refused():
    with pytest.raises(ValueError, match=r"LayerSpan\(example_input=None\).*expected a tensor"):
        LayerSpan(stack(), "0", "1", None)


def test_self_attention_reads_the_noise_in_all_its_places():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, key=x, value=x)[0]

    model = Block().eval()
    noise = torch.rand(5, 3, 4)
    span = LayerSpan(model, "attention", "attention", torch.rand(2, 3, 4))
    assert torch.allclose(span(noise), model(noise), atol=1e-6)


def test_what_works_in_place_changes_neither_the_example_nor_the_noise():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
    example = torch.randn(4, 3)
    before = example.clone()
    span = LayerSpan(model, "1", "3", example)
    assert span(torch.rand(6, 3)).shape == (6, 2)
    assert torch.equal(example, before)


def test_measuring_it_in_training_mode_leaves_running_statistics_alone():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    span = LayerSpan(model, "0", "3", torch.randn(8, 3))
    ei_parts(span, in_range=(-1, 1), in_bins=4, out_bins=4, in_shape=span.in_shape, num_samples=64)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


def test_an_example_may_be_a_named_tuple():
    class Pair(NamedTuple):
        left: torch.Tensor
        right: torch.Tensor

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, pair):
            return self.layer(pair.left) * pair.right

    span = LayerSpan(Model(), "layer", "layer", (Pair(torch.rand(2, 3), torch.rand(2, 2)),))
    assert span(torch.rand(5, 3)).shape == (5, 2)


def test_what_is_no_module_or_no_batch_is_refused():
    with pytest.raises(TypeError, match=r"LayerSpan\(model=<function.*expected a module"):
        LayerSpan(lambda x: x, "0", "1", torch.rand(2, 4))
    with pytest.raises(ValueError, match=r"LayerSpan\(example_input=\(0, 4\)\): expected a batch of at least one row"):
        LayerSpan(stack(), "0", "1", torch.rand(0, 4))
