import pytest
import torch
from torch import nn

from lightning_foresight.probes.positions import shape_of_one_input


class Causal(nn.Module):
    """Every token reads those before it, whole."""

    def forward(self, x):
        return x.cumsum(1) + x.flip(-1)


class ZeroResidual(nn.Module):
    """Mixes tokens, but not at the start of training."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(5, 5)
        nn.init.zeros_(self.mix.weight)

    def forward(self, x):
        return x.flip(-1) + self.mix(x.mT).mT


class OneTokenReadsAnother(nn.Module):
    """Leaves all tokens alone but one in the middle, as a block that updates a token of its own does."""

    def forward(self, x):
        x = x.flip(-1)
        x[:, 17] += 0.1 * x[:, 3]
        return x


TOKENS, IMAGE = (3, 5, 8), (2, 4, 6, 6)


@pytest.mark.parametrize(
    ("module", "activation", "source", "expected"),
    [
        (nn.LayerNorm(8), None, TOKENS, (1, 8)),
        (nn.Sequential(nn.Linear(8, 16), nn.Dropout(), nn.GELU(), nn.Linear(16, 2)), nn.Softmax(-1), TOKENS, (1, 8)),
        (nn.LayerNorm(8, dtype=torch.bfloat16), None, TOKENS, (1, 8)),
        (nn.BatchNorm1d(5), None, TOKENS, (5, 1)),
        (nn.BatchNorm2d(4), nn.ReLU(), IMAGE, (4, 1, 1)),
        (nn.LayerNorm(8), None, (3, 2, 5, 8), (1, 1, 8)),
        # Features after the batch, positions last.
        (nn.Conv1d(5, 4, 1).to(torch.float64), None, TOKENS, (5, 1)),
        # Those that mix stay whole.
        (nn.LayerNorm(8), nn.Softmax(1), TOKENS, (5, 8)),
        (nn.LayerNorm([5, 8]), None, TOKENS, (5, 8)),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), None, TOKENS, (5, 8)),
        (Causal(), None, TOKENS, (5, 8)),
        (ZeroResidual(), None, TOKENS, (5, 8)),
        (OneTokenReadsAnother(), None, (3, 40, 8), (40, 8)),
        (nn.GroupNorm(2, 4), None, IMAGE, IMAGE[1:]),
        (nn.AvgPool2d(2), None, IMAGE, IMAGE[1:]),
        (nn.Flatten(), None, TOKENS, (5, 8)),
        (nn.LayerNorm(8), None, (3, 8), (8,)),
    ],
    ids=str,
)
def test_one_input_is_one_position_where_positions_are_not_mixed(module, activation, source, expected):
    dtype = next((parameter.dtype for parameter in module.parameters()), torch.float32)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    module.train()
    assert shape_of_one_input(module, activation, torch.zeros(source, dtype=dtype)) == expected
    assert torch.equal(torch.get_rng_state(), state)
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_token_numbers_are_not_tried_out():
    assert shape_of_one_input(nn.Identity(), None, torch.zeros(2, 4, 3, dtype=torch.long)) == (4, 3)
