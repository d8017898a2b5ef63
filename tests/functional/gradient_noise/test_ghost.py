"""Outer-product norms against one backward pass per example, layer by layer."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from lightning_foresight.functional import per_example_sq_norms
from lightning_foresight.functional.gradient_noise.ghost_pass import ghost_pass
from tests.functional.gradient_noise.test_per_example import TinyTransformer
from tests.reference.gradient_noise import per_example_gradients

EXAMPLES = 5


class Tokens(nn.Module):
    """Embedding, whatever comes between, and a head; tied or not, through the module or around it."""

    def __init__(self, *between, tied=False, functional=False, padding_idx=None):
        super().__init__()
        self.embedding, self.between = nn.Embedding(7, 6, padding_idx=padding_idx), nn.Sequential(*between)
        self.head, self.functional = nn.Linear(6, 7, bias=False), functional
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens):
        hidden = self.between(self.embedding(tokens))
        logits = F.linear(hidden, self.embedding.weight) if self.functional else self.head(hidden)
        return logits.transpose(1, 2)


class Twice(nn.Module):
    """One linear layer and one normalisation, each called twice."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)

    def forward(self, x):
        return self.norm(self.linear(torch.tanh(self.norm(self.linear(x)))))


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.used(x)


def conv(dimensions, **kwargs):
    layer = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
    return nn.Sequential(layer(4, 6, 3, **kwargs), nn.Flatten())


def weight_normed():
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 3))


def frozen():
    return nn.Sequential(nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, 3))


def flat_norm(layer):
    return nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(3))


MODELS = {  # model, shape of an example (None: tokens), number of parameters that torch.func has to measure
    "linear": (lambda: nn.Linear(4, 3), (4,), 0),
    "linear_few_tokens": (lambda: nn.Sequential(nn.Linear(4, 8), nn.Flatten()), (2, 4), 0),
    "linear_many_tokens": (lambda: nn.Sequential(nn.Linear(4, 2), nn.Flatten()), (3, 5, 4), 0),
    "no_bias": (lambda: nn.Linear(4, 3, bias=False), (4,), 0),
    "conv1d": (lambda: conv(1), (4, 9), 0),
    "conv1d_circular": (lambda: conv(1, padding=2, padding_mode="circular"), (4, 9), 0),
    "conv2d_strided_dilated": (lambda: conv(2, stride=2, dilation=2, padding=(1, 2)), (4, 8, 7), 0),
    "conv2d_groups": (lambda: conv(2, groups=2, padding="same"), (4, 5, 5), 0),
    "conv2d_reflect": (lambda: conv(2, padding=1, padding_mode="reflect", bias=False), (4, 5, 5), 0),
    "conv3d": (lambda: conv(3), (4, 4, 4, 3), 0),
    "transposed_convolution": (lambda: nn.Sequential(nn.ConvTranspose1d(4, 2, 3), nn.Flatten()), (4, 5), 2),
    "layer_norm": (lambda: flat_norm(nn.LayerNorm(4)), (3, 4), 0),
    "layer_norm_of_two_axes": (lambda: flat_norm(nn.LayerNorm((3, 4))), (2, 3, 4), 0),
    "rms_norm": (lambda: flat_norm(nn.RMSNorm(4)), (3, 4), 0),
    "group_norm": (lambda: flat_norm(nn.GroupNorm(2, 4)), (4, 3, 2), 0),
    "batch_norm_in_eval": (lambda: flat_norm(nn.BatchNorm2d(4)).eval(), (4, 3, 2), 0),
    "called_twice": (Twice, (3, 4), 0),
    "unused_parameters": (Unused, (4,), 0),
    "frozen_parameters": (frozen, (4,), 0),
    "parametrization": (weight_normed, (4,), 3),
    "embedding": (Tokens, None, 0),
    "embedding_with_padding": (lambda: Tokens(padding_idx=1), None, 0),
    "tied_embedding_and_head": (lambda: Tokens(nn.LayerNorm(6), nn.Linear(6, 6), nn.GELU(), tied=True), None, 0),
    "tied_around_the_module": (lambda: Tokens(functional=True), None, 1),
    "attention": (TinyTransformer, None, 4),
}


@pytest.mark.parametrize("name", MODELS)
def test_norms_agree_with_one_backward_per_example(name):
    make, shape, num_left_over = MODELS[name]
    torch.manual_seed(0)
    model = make()
    if shape is None:
        inputs = torch.randint(0, 7, (EXAMPLES, 6))
        targets, loss_fn = inputs.roll(1, 1), F.cross_entropy
    else:
        inputs = torch.randn(EXAMPLES, *shape)
        targets = torch.randn_like(model(inputs))
        loss_fn = F.mse_loss
    for parameter in model.parameters():  # normalisation layers begin with ones and zeros
        parameter.data += 0.1 * torch.randn_like(parameter)
    expected = (per_example_gradients(model, loss_fn, inputs, targets) ** 2).sum(1)
    for chunk_size in (None, 2):
        norms = per_example_sq_norms(model, loss_fn, inputs, targets, chunk_size=chunk_size)
        np.testing.assert_allclose(norms, expected, rtol=2e-5)
    assert len(ghost_pass(model, loss_fn, inputs, targets)[1]) == num_left_over


def test_leaving_out_the_cross_term_of_a_tied_parameter_would_show():
    torch.manual_seed(0)
    tied = Tokens(tied=True)
    tokens = torch.randint(0, 7, (EXAMPLES, 6))
    norms = per_example_sq_norms(tied, F.cross_entropy, tokens, tokens.roll(1, 1))
    untied = Tokens()
    untied.load_state_dict(tied.state_dict())
    apart = per_example_sq_norms(untied, F.cross_entropy, tokens, tokens.roll(1, 1))
    assert ((norms - apart).abs() > 0.01 * apart).all()


def test_no_gradient_graph_or_hook_is_left():
    model = Tokens(tied=True)
    tokens = torch.randint(0, 7, (EXAMPLES, 6))
    norms = per_example_sq_norms(model, F.cross_entropy, tokens, tokens)
    assert not norms.requires_grad
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match=r"method='vmap'\): expected one of 'ghost', 'func'"):
        per_example_sq_norms(nn.Linear(2, 2), F.mse_loss, torch.ones(3, 2), torch.ones(3, 2), method="vmap")
