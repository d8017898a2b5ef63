import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_foresight.functional import exact_noise_scale, per_example_sq_norms
from tests.reference.gradient_noise import noise_scale, per_example_gradients


class TinyTransformer(nn.Module):
    """Embedding tied to the head, attention, LayerNorm."""

    def __init__(self, vocabulary=11, width=8):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.block = nn.TransformerEncoderLayer(width, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.block(self.embedding(tokens))).transpose(1, 2)


def case(name):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 3, (9,), generator=generator)
    if name == "mlp":
        model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
        return model, torch.randn(9, 5, generator=generator), labels
    if name == "cnn":
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
        return model, torch.randn(9, 1, 6, 6, generator=generator), labels
    if name == "batch_norm_in_eval":
        model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Dropout(0.5), nn.Linear(7, 3)).eval()
        return model, torch.randn(9, 5, generator=generator), labels
    if name == "frozen_first_layer":
        model = nn.Sequential(nn.Linear(5, 7).requires_grad_(False), nn.Tanh(), nn.Linear(7, 3))
        return model, torch.randn(9, 5, generator=generator), labels
    tokens = torch.randint(0, 11, (9, 6), generator=generator)
    return TinyTransformer(), tokens, tokens.roll(1, 1)


CASES = ["mlp", "cnn", "transformer", "batch_norm_in_eval", "frozen_first_layer"]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("chunk_size", [None, 4])
def test_squared_norms_agree_with_one_backward_per_example(name, chunk_size):
    model, inputs, targets = case(name)
    expected = (per_example_gradients(model, F.cross_entropy, inputs, targets) ** 2).sum(1)
    norms = per_example_sq_norms(model, F.cross_entropy, inputs, targets, method="func", chunk_size=chunk_size)
    np.testing.assert_allclose(norms, expected, rtol=2e-5)  # float32 kernels batched differently


@pytest.mark.parametrize("name", CASES)
def test_noise_scale_agrees_with_the_sample_covariance(name):
    model, inputs, targets = case(name)
    trace_sigma, grad_sq_norm = noise_scale(per_example_gradients(model, F.cross_entropy, inputs, targets))
    scale = exact_noise_scale(model, F.cross_entropy, inputs, targets, chunk_size=4)
    np.testing.assert_allclose(scale.trace_sigma.value, trace_sigma, rtol=1e-5)
    np.testing.assert_allclose(scale.grad_sq_norm.value, grad_sq_norm, rtol=1e-4)  # a difference of larger numbers
    np.testing.assert_allclose(scale.b_simple.value, trace_sigma / grad_sq_norm, rtol=1e-4)


def test_errors_are_those_of_leaving_examples_out():
    model, inputs, targets = case("mlp")
    gradients = per_example_gradients(model, F.cross_entropy, inputs, targets)
    n = len(gradients)
    without = np.array([noise_scale(np.delete(gradients, j, 0)) for j in range(n)])
    errors = np.sqrt((n - 1) / n * ((without - without.mean(0)) ** 2).sum(0))
    scale = exact_noise_scale(model, F.cross_entropy, inputs, targets)
    np.testing.assert_allclose((scale.trace_sigma.std_error, scale.grad_sq_norm.std_error), errors, rtol=1e-4)


def test_parameters_and_their_gradients_are_left_alone():
    model, inputs, targets = case("transformer")
    before = [p.detach().clone() for p in model.parameters()]
    exact_noise_scale(model, F.cross_entropy, inputs, targets)
    assert all(torch.equal(p, old) and p.grad is None for p, old in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.BatchNorm1d(5), r"BatchNorm1d '0' is in training mode and couples the examples .* Call model.eval\(\)"),
        (nn.Dropout(0.5), r"Dropout '0' is in training mode and draws random numbers"),
    ],
)
def test_modules_that_make_an_example_depend_on_more_than_itself_are_refused(layer, text):
    model = nn.Sequential(layer, nn.Linear(5, 3)).train()
    with pytest.raises(ValueError, match=text):
        per_example_sq_norms(model, F.cross_entropy, torch.ones(4, 5), torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize(
    ("model", "count", "text"),
    [
        (nn.Linear(2, 2), 2, r"got a tensor of shape \(2, 2\).*expected at least 3 samples"),
        (nn.Linear(2, 2).requires_grad_(False), 4, "no parameter requires a gradient"),
    ],
)
def test_too_little_to_measure_is_refused(model, count, text):
    with pytest.raises(ValueError, match=text):
        exact_noise_scale(model, F.cross_entropy, torch.ones(count, 2), torch.zeros(count, dtype=torch.long))


@pytest.mark.parametrize("method", ["ghost", "func"])
def test_an_embedding_scaled_by_frequency_is_refused(method):
    model = nn.Sequential(nn.Embedding(5, 3, scale_grad_by_freq=True), nn.Flatten(), nn.Linear(6, 5))
    tokens = torch.tensor([[0, 0], [0, 1]])
    with pytest.raises(ValueError, match=r"Embedding '0' has scale_grad_by_freq=True.*Pass scale_grad_by_freq=False"):
        per_example_sq_norms(model, F.cross_entropy, tokens, tokens[:, 0], method=method)
    with pytest.raises(ValueError, match=r"exact_noise_scale\(model\): Embedding '0'"):
        exact_noise_scale(model, F.cross_entropy, tokens.repeat(2, 1), tokens.repeat(2, 1)[:, 0])
