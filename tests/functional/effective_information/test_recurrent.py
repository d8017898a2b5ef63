import pytest
import torch
from torch import nn

from lightning_foresight.functional import ei_parts
from lightning_foresight.functional.effective_information.recurrent import RecurrentStep, state_maps


def noise_of(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_a_step_is_that_of_the_layer(kind, bias):
    torch.manual_seed(0)
    layer = kind(3, 4, bias=bias, bidirectional=True)
    forward, backward = state_maps(layer)
    assert (forward.name, backward.name) == ("l0", "l0_reverse")
    source = noise_of(5, forward.num_inputs)
    given, *states = source.split([3, *[4] * (2 if kind is nn.LSTM else 1)], 1)
    both = [torch.stack([state, state]) for state in states]
    output = layer(given.unsqueeze(0), tuple(both) if kind is nn.LSTM else both[0])[0][0]
    assert torch.allclose(forward.module(source), output[:, :4], atol=1e-6)
    assert torch.allclose(backward.module(source), output[:, 4:], atol=1e-6)


@pytest.mark.parametrize("kind", [nn.GRUCell, nn.LSTMCell])
def test_a_step_is_that_of_the_cell(kind):
    torch.manual_seed(0)
    cell = kind(2, 3)
    (found,) = state_maps(cell)
    source = noise_of(6, found.num_inputs)
    if kind is nn.LSTMCell:
        expected = cell(source[:, :2], (source[:, 2:5], source[:, 5:]))[0]
    else:
        expected = cell(source[:, :2], source[:, 2:])
    assert torch.allclose(found.module(source), expected, atol=1e-6)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_a_plain_recurrent_layer_is_exact_and_comes_to_what_sampling_finds(nonlinearity):
    torch.manual_seed(0)
    cell = nn.RNNCell(2, 3, nonlinearity=nonlinearity)
    (found,) = state_maps(cell)
    options = {"in_range": found.in_range, "in_bins": 8, "out_bins": 8}
    exact = ei_parts(found.module, found.activation, method="exact", **options)
    out_range = (-1, 1) if nonlinearity == "tanh" else (0, 10)
    sampled = ei_parts(
        lambda both: cell(both[:, :2], both[:, 2:]), out_range=out_range, in_shape=(5,), num_samples=60_000, **options
    )
    # Five standard errors of a pair at 60,000 samples, sqrt(2 I / N) / ln 2 for pairs below 0.5 bits.
    assert torch.allclose(exact, sampled, atol=0.03)
    assert exact.shape == (5, 3)


def test_a_step_has_the_current_weights():
    gru = nn.GRUCell(1, 2)
    step = RecurrentStep(gru)
    before = step(torch.ones(1, 3))
    gru.weight_hh.data.mul_(-2)
    assert not torch.equal(step(torch.ones(1, 3)), before)
