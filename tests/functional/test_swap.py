"""Modules called with other tensors end with their own parameters, however often they are held."""

import pytest
import torch
from torch import nn

from lightning_foresight.functional import ei_parts, exact_noise_scale, hessian_noise_scale, per_example_sq_norms
from lightning_foresight.functional._swap import call_with
from lightning_foresight.probes import probe_noise_scale
from lightning_foresight.probes.positions import shape_of_one_input


class TwoNames(nn.Module):
    """Holds its layers by themselves and in a Sequential, as many models do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.head = nn.Linear(3, 4), nn.Linear(4, 2)
        self.net = nn.Sequential(self.encoder, nn.Tanh(), self.head)

    def forward(self, x):
        return self.net(x)


def held(module):
    tensors = [tensor for part in module.modules() for tensor in part._parameters.values() if tensor is not None]
    return [(id(tensor), tensor.clone()) for tensor in tensors]


def same(module, before):
    now = held(module)
    return all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in zip(now, before, strict=True))


def test_all_places_of_a_tensor_get_the_replacement():
    tied = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    tied[1].weight = tied[0].weight
    before = held(tied)
    assert torch.equal(call_with(tied, {"0.weight": 2 * torch.eye(3)}, torch.ones(1, 3)), torch.full((1, 3), 4.0))
    assert same(tied, before)


def test_buffers_that_a_forward_pass_changes_are_put_back():
    norm = nn.BatchNorm1d(3)
    copies = {name: value.clone() for name, value in norm.named_buffers()}
    call_with(norm, copies, torch.randn(8, 3))
    assert torch.equal(norm.running_mean, torch.zeros(3))
    assert norm.num_batches_tracked == 0
    assert copies["num_batches_tracked"] == 1


def test_parameters_are_put_back_after_an_error():
    model = TwoNames()
    before = held(model)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        call_with(model, {"encoder.weight": torch.zeros(4, 3)}, torch.ones(1, 5))
    assert same(model, before)


def measure_pairs(model):
    ei_parts(nn.Sequential(model.encoder, nn.Flatten(), model.head), in_range=(0, 1), in_shape=(3,))
    square = nn.Linear(3, 3)
    model.twice = nn.Sequential(square, square)
    before = held(model)
    ei_parts(model.twice, in_range=(0, 1), in_shape=(3,))
    assert same(model, before)
    del model.twice


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(32, 3, generator=generator), torch.randint(0, 2, (32,), generator=generator)


@pytest.mark.parametrize(
    "measure",
    [
        measure_pairs,
        lambda model: exact_noise_scale(model, nn.functional.cross_entropy, *data()),
        lambda model: hessian_noise_scale(model, nn.functional.cross_entropy, *data()),
        lambda model: per_example_sq_norms(model, nn.functional.cross_entropy, *data(), method="func"),
        lambda model: probe_noise_scale(model, nn.functional.cross_entropy, [data()] * 4),
        lambda model: shape_of_one_input(model, None, torch.zeros(2, 5, 3)),
    ],
    ids=["ei_parts", "exact_noise_scale", "hessian", "per_example", "probe", "positions"],
)
def test_a_model_that_holds_layers_under_two_names_keeps_its_parameters(measure):
    model = TwoNames()
    before = held(model)
    measure(model)
    assert same(model, before)
    assert all(isinstance(tensor, nn.Parameter) for part in model.modules() for tensor in part._parameters.values())
