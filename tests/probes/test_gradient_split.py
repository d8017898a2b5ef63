from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_foresight.probes.gradient_split import balanced_signs, batch_edges, signed_gradient_norms
from tests.reference.gradient_noise import noise_scale, per_example_gradients


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Auxiliary(nn.Module):
    """A hidden layer that has part in the loss directly as well as through the output."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        hidden = torch.tanh(self.first(x))
        return self.second(hidden), hidden


def auxiliary_loss(outputs, targets):
    return F.cross_entropy(outputs[0], targets) + 0.3 * outputs[1].mean()


class Sequence(nn.Module):
    """Flattens batch and time, as language models do before the loss."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 4), nn.Linear(4, 7)

    def forward(self, tokens):
        return self.head(torch.tanh(self.embedding(tokens)))


def sequence_loss(logits, targets):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def case(name, size=6):
    torch.manual_seed(0)
    inputs, labels = torch.randn(size, 5), torch.randint(0, 3, (size,))
    tokens = torch.randint(0, 7, (size, 4))
    linear = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    tau = nn.Parameter(torch.tensor(0.7))
    linear.register_parameter("tau", tau)
    return {
        "cross_entropy": (linear, F.cross_entropy, inputs, labels),
        "mean_of_losses": (linear, lambda z, y: F.cross_entropy(z, y, reduction="none").mean(), inputs, labels),
        "regression": (nn.Linear(5, 2), lambda z, y: F.mse_loss(z, y.float()[:, None].expand(-1, 2)), inputs, labels),
        "temperature": (linear, lambda z, y: F.cross_entropy(z / tau, y), inputs, labels),
        "auxiliary": (Auxiliary(), auxiliary_loss, inputs, labels),
        "sequence": (Sequence(), sequence_loss, tokens, tokens.roll(1, 1)),
        "convolution": (
            nn.Sequential(nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 3, 2), nn.Flatten(), nn.Linear(12, 3)),
            F.cross_entropy,
            inputs,
            labels,
        ),
    }[name]


CASES = ["cross_entropy", "mean_of_losses", "regression", "temperature", "auxiliary", "sequence", "convolution"]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [6, 7])
def test_norm_is_that_of_the_signed_sum_of_per_example_gradients(name, size):
    model, loss_fn, inputs, targets = case(name, size)
    signs = balanced_signs(size, generator(3))
    gradients = torch.from_numpy(per_example_gradients(model, loss_fn, inputs, targets))
    expected = (signs.double() @ gradients / size).norm().float()
    loss = loss_fn(model(inputs), targets)
    parameters = list(model.parameters())
    seen = signed_gradient_norms(loss, size, parameters, generator(3))
    torch.testing.assert_close(seen.norms.norm(), expected, rtol=1e-5, atol=0)


def test_over_all_sign_patterns_the_estimate_is_the_trace_of_the_covariance():
    size = 4
    model, loss_fn, inputs, targets = case("cross_entropy", size)
    gradients = torch.from_numpy(per_example_gradients(model, loss_fn, inputs, targets))
    for length, kept in ((4, 4), (3, 2)):  # an odd batch leaves one example out
        part = gradients[:length]
        pattern = [1.0] * (kept // 2) + [-1.0] * (kept // 2) + [0.0] * (length - kept)
        squares = [
            ((torch.tensor(signs, dtype=torch.float64) @ part) / length).square().sum()
            for signs in permutations(pattern)
        ]
        estimate = torch.stack(squares).mean() * length**2 / kept
        assert float(estimate) == pytest.approx(noise_scale(part.numpy())[0], rel=1e-9)


@pytest.mark.parametrize("size", [2, 3, 8, 33])
def test_signs_are_balanced(size):
    signs = balanced_signs(size, generator())
    assert signs.sum() == 0
    assert signs.abs().sum() == size // 2 * 2


def test_a_penalty_on_the_weights_has_no_part_in_the_noise():
    model, loss_fn, inputs, targets = case("cross_entropy")
    parameters = [p for p in model.parameters() if p.ndim]
    loss = loss_fn(model(inputs), targets)
    penalty = sum(p.square().sum() for p in parameters)
    plain = signed_gradient_norms(loss, 6, parameters, generator())
    penalised = signed_gradient_norms(loss + 0.1 * penalty, 6, parameters, generator())
    torch.testing.assert_close(penalised.norms, plain.norms)


def test_the_real_backward_pass_afterwards_is_unchanged_to_the_bit():
    gradients = []
    for split in (False, True):
        model, loss_fn, inputs, targets = case("convolution")
        loss = loss_fn(model(inputs), targets)
        state = torch.get_rng_state()
        if split:
            signed_gradient_norms(loss, 6, list(model.parameters()), generator())
            assert all(p.grad is None and not p._backward_hooks for p in model.parameters())
        assert torch.equal(torch.get_rng_state(), state)
        loss.backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


class TimeFirst(Sequence):
    def forward(self, tokens):
        return super().forward(tokens.T)


def test_a_model_with_the_batch_on_another_axis_is_refused():
    torch.manual_seed(0)
    model, tokens = TimeFirst(), torch.randint(0, 7, (6, 4))
    loss = sequence_loss(model(tokens), tokens.T)
    with pytest.raises(ValueError, match=r"tensors whose first axis is the batch of 6.*method=\"micro_batches\""):
        signed_gradient_norms(loss, 6, list(model.parameters()), generator())


def test_a_parameter_that_multiplies_the_mean_loss_is_refused():
    model, loss_fn, inputs, targets = case("cross_entropy")
    loss = model.tau * loss_fn(model(inputs), targets)
    assert batch_edges(loss, 6) == []


def test_a_batch_of_one_is_refused():
    model, loss_fn, inputs, targets = case("cross_entropy", 1)
    with pytest.raises(ValueError, match=r"batch of 1: the noise of a gradient takes at least two examples"):
        signed_gradient_norms(loss_fn(model(inputs), targets), 1, list(model.parameters()), generator())


def test_parameters_behind_the_loss_only_are_measured_as_zero_or_left_out():
    model, loss_fn, inputs, targets = case("cross_entropy")
    unused = nn.Parameter(torch.ones(3))
    seen = signed_gradient_norms(loss_fn(model(inputs), targets), 6, [unused, model[0].weight], generator())
    assert seen.indices == (1,)
    assert signed_gradient_norms(loss_fn(model(inputs), targets), 6, [unused], generator()) is None


@pytest.mark.parametrize("power", [lambda w: w * w, torch.abs, lambda w: (w - 1.0) ** 2, torch.sigmoid])
def test_a_penalty_on_weights_with_as_many_rows_as_the_batch_is_not_taken_for_examples(power):
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)), torch.randn(6, 5)
    targets, parameters = torch.arange(6) % 3, list(model.parameters())
    plain = signed_gradient_norms(F.cross_entropy(model(inputs), targets), 6, parameters, generator())
    penalised = F.cross_entropy(model(inputs), targets) + power(model[0].weight).sum()
    seen = signed_gradient_norms(penalised, 6, parameters, generator())
    torch.testing.assert_close(seen.norms, plain.norms)
