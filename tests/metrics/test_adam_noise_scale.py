import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_foresight.functional import adam_preconditioner
from lightning_foresight.metrics import AdamNoiseScale, GradientNoiseScale
from tests.reference.gradient_noise import discounted_means, per_example_gradients

SIZES = (6, 3, 3)  # micro-batches of a step


def network_and_data():
    torch.manual_seed(0)
    inputs = torch.randn(240, 4)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)), inputs, (inputs[:, 0] > 0).long()


def train(metric, decay=1.0):
    """Train with Adam and return the means of noise and signal from per-example gradients, in float64, by definition.

    A micro-batch's gradient is the mean of its examples' gradients; all are scaled by the root of the preconditioner.
    """
    network, inputs, targets = network_and_data()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    noise, signal = [], []
    for rows in torch.arange(240).view(20, 12):
        parts = rows.split(SIZES)
        gradients = [
            torch.autograd.grad(F.cross_entropy(network(inputs[part]), targets[part]), list(network.parameters()))
            for part in parts
        ]
        scales = adam_preconditioner(optimizer, network.parameters())
        metric.update(gradients, SIZES, scales)
        if optimizer.state:
            beta, eps = 0.999, 1e-8
            state = [optimizer.state[p] for p in network.parameters()]
            v = np.concatenate([s["exp_avg_sq"].double().flatten() / (1 - beta ** float(s["step"])) for s in state])
            examples = per_example_gradients(network, F.cross_entropy, inputs[rows], targets[rows])
            examples = examples / np.sqrt(np.sqrt(v) + eps)
            means = np.stack([examples[:6].mean(0), examples[6:9].mean(0), examples[9:].mean(0)])
            mean = means.mean(0)
            # E|mean of three|^2 = |G|^2 + tr Sigma (1/6 + 1/3 + 1/3) / 9
            spread = ((means - mean) ** 2).sum() / 2 / np.mean([1 / 6, 1 / 3, 1 / 3])
            noise.append(spread)
            signal.append((mean**2).sum() - spread * (1 / 6 + 1 / 3 + 1 / 3) / 9)
        for p, *pieces in zip(network.parameters(), *gradients):
            p.grad = torch.stack(pieces).mean(0)
        optimizer.step()
    return discounted_means(noise, signal, decay)


@pytest.mark.parametrize("decay", [1.0, 0.9])
def test_the_metric_agrees_with_per_example_gradients_rescaled_by_hand(decay):
    metric = AdamNoiseScale(decay=decay)
    expected = train(metric, decay)
    result = metric.compute()
    # Gradients are float32, and differences of micro-batches' gradients lose a digit or two.
    np.testing.assert_allclose(result.trace_sigma.value, expected[0], rtol=1e-4)
    np.testing.assert_allclose(result.grad_sq_norm.value, expected[1], rtol=1e-4)
    np.testing.assert_allclose(result.b_simple.value, expected[0] / expected[1], rtol=1e-4)
    np.testing.assert_allclose(result.trace_sigma.std_error, expected[2] ** 0.5, rtol=1e-3)


def test_without_a_second_moment_nothing_is_observed():
    metric = AdamNoiseScale()
    metric.update([[torch.ones(2)], [torch.zeros(2)]], 4, [None])
    assert metric.compute().b_simple.value.isnan()


def test_with_the_identity_it_is_the_simple_noise_scale():
    draw = torch.Generator().manual_seed(0)
    adam, plain = AdamNoiseScale(), GradientNoiseScale()
    for _ in range(5):
        first, second = torch.randn(2, 7, generator=draw) + 0.5
        adam.update([[first], [second]], 4, [torch.ones(7)])
        plain.update((first @ first + second @ second) / 2, ((first + second) / 2).square().sum(), 4, 8)
    for mine, other in zip(adam.compute(), plain.compute()):
        torch.testing.assert_close(mine.value, other.value)
        torch.testing.assert_close(mine.std_error, other.std_error, rtol=1e-4, atol=0)


def test_a_micro_batch_that_does_not_reach_a_parameter_counts_as_zero():
    some, zero = AdamNoiseScale(), AdamNoiseScale()
    scales = [torch.ones(2), torch.tensor([0.5])]
    first, second = [torch.tensor([1.0, 2.0]), torch.tensor([3.0])], [torch.tensor([0.0, 1.0]), None]
    some.update([first, second], 4, scales)
    zero.update([first, [second[0], torch.zeros(1)]], 4, scales)
    assert some.sums[0] == 1
    torch.testing.assert_close(some.sums, zero.sums)


def test_steps_that_are_not_finite_are_left_out():
    metric = AdamNoiseScale()
    metric.update([[torch.tensor([torch.inf])], [torch.ones(1)]], 4, [torch.ones(1)])
    assert metric.compute().b_simple.num_samples == 0


def test_reset_pickle_and_clone_keep_or_clear_the_state():
    metric = AdamNoiseScale(decay=0.9)
    train(metric)
    value = metric.compute().b_simple.value
    for twin in (pickle.loads(pickle.dumps(metric)), copy.deepcopy(metric), metric.clone()):
        assert twin.compute().b_simple.value == value
    metric.reset()
    assert metric.compute().b_simple.value.isnan()


@pytest.mark.parametrize(
    ("gradients", "batch_size", "text"),
    [
        ([[torch.ones(2)]], 4, r"len\(gradients\)=1\): expected at least two micro-batches"),
        ([[torch.ones(2)]] * 2, 0, r"batch_size=0\): expected a positive number of examples"),
        ([[torch.ones(2)]] * 2, torch.tensor(8), r"batch_size=tensor\(8\)\): expected a positive number of examples"),
        ([[torch.ones(2)]] * 2, ["8", "8"], r"batch_size=.*expected a positive number of examples"),
        ([[torch.ones(2)]] * 2, (4, 4, 4), r"expected a positive number of examples, or one for each of the 2"),
    ],
)
def test_micro_batches_that_say_nothing_are_refused(gradients, batch_size, text):
    with pytest.raises(ValueError, match=text):
        AdamNoiseScale().update(gradients, batch_size, [torch.ones(2)])


def test_a_preconditioner_of_other_parameters_is_refused():
    with pytest.raises(ValueError, match=r"got \[2, 2\] gradients .* a preconditioner of 1; expected one entry per"):
        AdamNoiseScale().update([[torch.ones(2), torch.ones(2)]] * 2, 8, [torch.ones(2)])


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"AdamNoiseScale\(decay=0\): expected a factor in \(0, 1\]"):
        AdamNoiseScale(decay=0)
