import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_foresight.probes.gradient_examples import PerExampleObserver
from tests.reference.gradient_noise import per_example_gradients


class Tied(nn.Module):
    """Embedding tied to the head, a layer that is called twice, a normalisation."""

    def __init__(self):
        super().__init__()
        self.embedding, self.linear, self.norm = nn.Embedding(7, 6), nn.Linear(6, 6), nn.LayerNorm(6)
        self.head = nn.Linear(6, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.norm(self.linear(torch.tanh(self.linear(self.embedding(tokens)))))).transpose(1, 2)


def convolutional():
    return nn.Sequential(nn.Conv2d(2, 4, 3, groups=2, padding=1), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(64, 7))


def observe(model, inputs, targets):
    observer = PerExampleObserver(model, list(model.parameters()))
    observer.before_forward(len(inputs))
    loss = F.cross_entropy(model(inputs), targets)
    observer.before_backward(loss, len(inputs), seed=0)
    loss.backward()
    return observer


@pytest.mark.parametrize("name", ["tied", "convolutional"])
def test_norms_in_the_runs_own_pass_agree_with_one_backward_per_example(name):
    torch.manual_seed(0)
    if name == "tied":
        model, inputs = Tied(), torch.randint(0, 7, (5, 4))
        targets = inputs.roll(1, 1)
    else:
        model, inputs, targets = convolutional(), torch.randn(5, 2, 4, 4), torch.tensor([0, 1, 2, 3, 4])
    norms = observe(model, inputs, targets).collect()
    assert norms.indices == tuple(range(len(list(model.parameters()))))
    expected = (per_example_gradients(model, F.cross_entropy, inputs, targets) ** 2).sum(1).mean()
    assert abs(norms.norms.double().square().sum() / expected - 1) < 1e-5


def test_nothing_of_a_layer_is_held_once_its_last_use_is_known():
    torch.manual_seed(0)
    tokens = torch.randint(0, 7, (5, 4))
    observer = observe(Tied(), tokens, tokens)
    assert len(observer._uses) == 5
    assert all(not use.outer and use.vector is None for use in observer._uses.values())


def step(observer, model, inputs, targets):
    observer.before_forward(len(inputs))
    loss = F.cross_entropy(model(inputs), targets)
    observer.before_backward(loss, len(inputs), seed=0)
    loss.backward()
    return observer.collect()


def test_hooks_of_the_first_step_measure_those_that_follow():
    torch.manual_seed(0)
    model, inputs, targets = (
        nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5)),
        torch.randn(6, 3),
        torch.randint(0, 5, (6,)),
    )
    model[0].requires_grad_(False)
    observer = PerExampleObserver(model, list(model.parameters()))
    assert step(observer, model, inputs, targets).indices == (2, 3)
    model[0].requires_grad_(True)  # as when a backbone is unfrozen
    norms = step(observer, model, inputs[:4], targets[:4])
    expected = (per_example_gradients(model, F.cross_entropy, inputs[:4], targets[:4]) ** 2).sum(1).mean()
    assert abs(norms.norms.double().square().sum() / expected - 1) < 1e-5
    assert [len(layer._forward_hooks) for layer in model] == [1, 1]
    observer.remove()
    assert not any(layer._forward_hooks for layer in model)


def test_a_layer_put_in_between_steps_is_measured_from_the_second_step_on():
    model, inputs, targets = nn.Sequential(nn.Linear(3, 5)), torch.randn(6, 3), torch.randint(0, 5, (6,))
    observer = PerExampleObserver(model, list(model.parameters()))
    before = step(observer, model, inputs, targets)
    old, model[0] = model[0], nn.Linear(3, 5)
    model[0].weight, model[0].bias = old.weight, old.bias
    with pytest.raises(ValueError, match=r"no outer products for 0.weight, 0.bias"):
        step(observer, model, inputs, targets)
    assert torch.equal(step(observer, model, inputs, targets).norms, before.norms)


@pytest.mark.parametrize("unfrozen", [False, True])
def test_batch_norm_in_training_mode_is_refused_at_any_step(unfrozen):
    model, inputs = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), torch.randn(6, 3)
    model[1].eval().requires_grad_(unfrozen)
    observer = PerExampleObserver(model, list(model.parameters()))
    step(observer, model, inputs, torch.zeros(6, dtype=torch.long))
    model[1].train().requires_grad_(True)
    with pytest.raises(ValueError, match=r"BatchNorm1d '1' is in training mode and couples"):
        observer.before_forward(6)
    assert not model[0]._forward_hooks


def test_parameters_used_outside_of_supported_layers_are_named():
    model = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    inputs = torch.randn(3, 5, 4)
    observer = PerExampleObserver(model, list(model.parameters()))
    observer.before_forward(3)
    loss = model(inputs).square().mean()
    observer.before_backward(loss, 3, seed=0)
    loss.backward()
    with pytest.raises(
        ValueError, match=r"no outer products for self_attn.in_proj_weight, .*Measured are calls of Lin"
    ):
        observer.collect()


def test_an_embedding_scaled_by_frequency_is_refused():
    model = nn.Sequential(nn.Embedding(5, 3, scale_grad_by_freq=True), nn.Flatten(), nn.Linear(6, 5))
    observer = PerExampleObserver(model, list(model.parameters()))
    with pytest.raises(ValueError, match=r"per_example: Embedding '0' has scale_grad_by_freq=True.*layers="):
        observer.before_forward(4)
    only_linear = PerExampleObserver(model, list(model[2].parameters()))
    only_linear.before_forward(4)  # what is not measured does not matter
    only_linear.remove()


class Recurrent(nn.Module):
    """Linear layers around an LSTM with time on the first axis; only the linear ones are measured."""

    def __init__(self):
        super().__init__()
        self.before, self.after = nn.Linear(2, 3), nn.Linear(3, 4)
        self.lstm = nn.LSTM(3, 3).requires_grad_(False)

    def forward(self, x):
        return self.after(self.lstm(self.before(x))[0]).movedim(2, 1)


@pytest.mark.parametrize("batch", [4, 5])
def test_sequences_as_long_as_the_batch_are_refused_where_a_layer_has_time_first(batch):
    model, inputs = Recurrent(), torch.randn(5, batch, 2)  # five steps in time
    targets = torch.zeros(5, batch, dtype=torch.long)
    observer = PerExampleObserver(model, [*model.before.parameters(), *model.after.parameters()])
    observer.before_forward(batch)
    loss = F.cross_entropy(model(inputs), targets)
    observer.before_backward(loss, batch, seed=0)
    loss.backward()
    refused = r"both first axes of \(5, 5, 2\).*lstm has batch_first=False" if batch == 5 else "no outer products for"
    with pytest.raises(ValueError, match=refused):
        observer.collect()


def test_sequences_as_long_as_the_batch_are_measured_where_the_batch_is_first():
    torch.manual_seed(0)
    model, inputs = Tied(), torch.randint(0, 7, (5, 5))
    norms = observe(model, inputs, inputs.roll(1, 1)).collect()
    expected = (per_example_gradients(model, F.cross_entropy, inputs, inputs.roll(1, 1)) ** 2).sum(1).mean()
    assert abs(norms.norms.double().square().sum() / expected - 1) < 1e-5
