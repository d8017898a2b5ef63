import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_foresight.functional import adam_preconditioner, exact_noise_scale
from lightning_foresight.probes import probe_noise_scale
from tests.reference.gradient_noise import per_example_gradients


def network(*between):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), *between, nn.Tanh(), nn.Linear(6, 2))


def data(number=64):
    inputs = torch.randn(number, 4, generator=torch.Generator().manual_seed(1))
    return inputs, (inputs[:, 0] > 0).long()


def pairs(inputs, targets, size):
    return list(zip(inputs.split(size), targets.split(size), strict=True))


def test_batches_of_one_give_the_exact_noise_scale_of_the_data():
    model, (inputs, targets) = network(), data(40)
    exact = exact_noise_scale(model, F.cross_entropy, inputs, targets)
    probed = probe_noise_scale(model, F.cross_entropy, pairs(inputs, targets, 1), rtol=1e-9, num_folds=40)
    for mine, other in zip(probed, exact, strict=True):
        # Gradients are float32; the jackknife over 40 folds of one is the one over examples up to 40/39.
        torch.testing.assert_close(mine.value, other.value, rtol=1e-4, atol=0)
        torch.testing.assert_close(mine.std_error, other.std_error, rtol=0.05, atol=0)
    assert probed.b_simple.num_samples == 40


def test_uneven_batches_in_a_metric_agree_with_all_pairs_by_hand():
    model, (inputs, targets) = network(), data(50)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    F.cross_entropy(model(inputs), targets).backward()
    optimizer.step()
    scales = adam_preconditioner(optimizer, model.parameters())
    sizes = [7, 9, 3, 12, 4, 8, 7]
    batches = list(zip(inputs.split(sizes), targets.split(sizes), strict=True))
    roots = torch.cat([scale.flatten() for scale in scales]).double().sqrt().numpy()
    gradients = np.stack([per_example_gradients(model, F.cross_entropy, x, y).mean(0) * roots for x, y in batches])
    gram = gradients @ gradients.T
    signal = (gram.sum() - np.trace(gram)) / (7 * 6)
    noise = (np.trace(gram) / 7 - signal) / np.mean(1 / np.array(sizes))
    result = probe_noise_scale(model, F.cross_entropy, batches, rtol=1e-9, num_folds=3, preconditioner=scales)
    np.testing.assert_allclose([result.trace_sigma.value, result.grad_sq_norm.value], [noise, signal], rtol=1e-4)


def test_it_agrees_with_per_example_gradients_and_stops_when_precise_enough():
    model, (inputs, targets) = network(), data(4096)
    exact = exact_noise_scale(model, F.cross_entropy, inputs, targets).b_simple.value
    rough, fine = (
        probe_noise_scale(model, F.cross_entropy, pairs(inputs, targets, 16), rtol=rtol).b_simple
        for rtol in (0.2, 0.07)
    )
    assert rough.num_samples % 16 == 0
    assert rough.num_samples < fine.num_samples <= 256
    for result, rtol in ((rough, 0.2), (fine, 0.07)):
        assert result.std_error <= rtol * result.value
        assert abs(result.value - exact) < 3 * result.std_error


def test_tied_weights_are_measured_once():
    torch.manual_seed(0)
    tied = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    tied[2].weight = tied[0].weight
    inputs, targets = data(24)
    exact = exact_noise_scale(tied, F.cross_entropy, inputs, targets)
    probed = probe_noise_scale(tied, F.cross_entropy, pairs(inputs, targets, 1), num_folds=24)
    torch.testing.assert_close(probed.trace_sigma.value, exact.trace_sigma.value, rtol=1e-4, atol=0)


def test_frozen_and_unused_parameters_do_no_harm():
    model, (inputs, targets) = network(), data(24)
    model[0].requires_grad_(False)
    model.unused = nn.Parameter(torch.ones(3))
    model.forward = lambda x: model[2](model[1](model[0](x)))
    probed = probe_noise_scale(model, F.cross_entropy, pairs(inputs, targets, 1), num_folds=24)
    exact = exact_noise_scale(model, F.cross_entropy, inputs, targets)
    torch.testing.assert_close(probed.trace_sigma.value, exact.trace_sigma.value, rtol=1e-4, atol=0)


def test_sparse_embeddings_are_measured():
    torch.manual_seed(0)
    tokens, targets = torch.randint(0, 5, (24, 3)), torch.randn(24, 3, 2)
    results = []
    for sparse in (False, True):
        torch.manual_seed(0)
        embedding = nn.Embedding(5, 2, sparse=sparse)
        results.append(probe_noise_scale(embedding, F.mse_loss, pairs(tokens, targets, 4)).b_simple.value)
    torch.testing.assert_close(*results)


def test_model_gradients_hooks_buffers_and_random_states_are_left_alone():
    model, (inputs, targets) = network(nn.BatchNorm1d(6), nn.Dropout(0.5)), data()
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=8, shuffle=True)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    seen = []
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: seen.append(gradient))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    with torch.no_grad():
        probe_noise_scale(model, F.cross_entropy, loader)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert all(p.grad is None for p in model[1:].parameters())
    assert not seen
    assert all(module.training for module in model.modules())


def test_dropout_counts_as_noise_and_the_seed_repeats_it():
    model, alike = network(nn.Dropout(0.5)), pairs(torch.ones(64, 4), torch.ones(64).long(), 8)
    first, again, other = (
        probe_noise_scale(model, F.cross_entropy, alike, seed=seed).trace_sigma.value for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert first > 0.1
    assert probe_noise_scale(model.eval(), F.cross_entropy, alike).trace_sigma.value < 1e-5


def test_it_stops_at_max_batches_of_an_endless_loader():
    draw = torch.Generator().manual_seed(0)
    endless = iter(lambda: (torch.randn(8, 4, generator=draw), torch.ones(8).long()), None)
    with pytest.warns(UserWarning, match=r"rtol=1e-09\): not reached by 20 batches.*max_batches above 20"):
        result = probe_noise_scale(network(), F.cross_entropy, endless, rtol=1e-9, max_batches=20)
    assert result.b_simple.num_samples == 20


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"rtol": 0}, r"probe_noise_scale\(rtol=0\): expected a positive relative error"),
        ({"max_batches": 2}, r"max_batches=2\): expected an integer of at least 3"),
        ({"num_folds": 2}, r"num_folds=2\): expected an integer of at least 3"),
        ({"batches": []}, r"batches=0\): expected at least 3 batches"),
        ({"batches": [torch.ones(2, 4)] * 3}, r"got a batch of type Tensor; expected pairs \(inputs, targets\)"),
        ({"batches": [(None, torch.ones(2))] * 3}, "got inputs without a tensor of examples"),
        ({"batches": [(torch.full((2, 4), torch.nan), torch.ones(2).long())] * 3}, "is NaN or infinite"),
        ({"preconditioner": [torch.ones(2)]}, r"preconditioner\): got shapes \[\(2,\)\]; expected one tensor"),
    ],
)
def test_bad_input_is_refused_in_words(arguments, text):
    defaults = {"batches": pairs(*data(), 8)}
    with pytest.raises(ValueError, match=text):
        probe_noise_scale(network(), F.cross_entropy, **(defaults | arguments))


def test_a_model_without_gradients_is_refused():
    with pytest.raises(ValueError, match="no parameter requires a gradient; nothing to measure"):
        probe_noise_scale(network().requires_grad_(False), F.cross_entropy, pairs(*data(), 8))
