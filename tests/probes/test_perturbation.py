import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_foresight.probes.perturbation import perturbation_plan


def plan_of(model, *shape, **options):
    return perturbation_plan(model, lambda: model(torch.rand(2, *shape)), **options)


class Functional(nn.Module):
    """Activations as functions, as in half of the models out there."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc1 = nn.Linear(16, 5)
        self.fc2 = nn.Linear(5, 3)

    def forward(self, x):
        x = functional.max_pool2d(torch.relu(self.conv(x)), 2)
        x = torch.sigmoid(self.fc1(functional.dropout(x.flatten(1), 0.5, self.training)))
        return functional.log_softmax(self.fc2(x), dim=1)


def test_activations_and_ranges_come_from_the_neighbours():
    model = nn.Sequential(
        nn.Linear(4, 3), nn.Sigmoid(), nn.Dropout(), nn.Linear(3, 3), nn.Dropout(), nn.ReLU(), nn.Linear(3, 2)
    )
    first, second, third = plan_of(model, 4, in_range=(-2, 2))
    assert (first.name, first.in_range, first.out_range) == ("0", (-2.0, 2.0), (0.0, 1.0))
    assert (second.activation, second.in_range, second.out_range) == (model[5], (0.0, 1.0), (0.0, 10.0))
    assert (third.activation, third.in_range, third.out_range) == (None, (0.0, 10.0), (-10.0, 10.0))


def test_activations_called_as_functions_are_found_through_pooling_and_flattening():
    conv, fc1, fc2 = plan_of(Functional(), 1, 6, 6, in_range=(0, 1))
    assert [type(layer.activation) for layer in (conv, fc1, fc2)] == [nn.ReLU, nn.Sigmoid, nn.LogSoftmax]
    assert [layer.in_range for layer in (conv, fc1, fc2)] == [(0, 1), (0, 10), (0, 1)]
    assert conv.in_shape == ()  # one receptive field, whatever it reads


def test_activations_in_place_are_found():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
    first, second = plan_of(model, 4, in_range=(0, 1))
    assert first.activation is model[1]
    assert second.in_range == (0, 10)


class Pooled(nn.Sequential):
    def __init__(self, pool):
        super().__init__(nn.Conv2d(1, 4, 3), nn.ReLU(), pool, nn.Flatten(), nn.LazyLinear(5))


POOLS = [
    (nn.AvgPool2d(2, divisor_override=3), nn.AvgPool2d, (), (2, 2)),
    # Of 5 x 4 numbers, windows for 2 x 3 outputs hold 3 x 2 at most.
    (nn.AdaptiveAvgPool2d((2, 3)), nn.AvgPool2d, (), (3, 2)),
    (nn.MaxPool2d(2, stride=1, padding=1), nn.MaxPool2d, (1, 2, 2), (2, 2)),
    (nn.AdaptiveMaxPool2d((2, 3)), nn.MaxPool2d, (1, 3, 2), (3, 2)),
]


@pytest.mark.parametrize(("pool", "kind", "shape", "kernel"), POOLS, ids=lambda value: str(value)[:20])
def test_pooling_is_listed_as_one_window_and_keeps_the_range(pool, kind, shape, kernel):
    window, head = plan_of(Pooled(pool), 1, 7, 6, layers=lambda name, module: name in ("2", "4"))
    assert isinstance(window.module, kind)
    assert (window.in_range, window.out_range, window.in_shape) == ((0, 10), (0, 10), shape)
    assert window.module(torch.rand(1, 1, *kernel)).shape == (1, 1, 1, 1)
    assert window.module(torch.rand(1, 1, kernel[0], 2 * kernel[1])).shape == (1, 1, 1, 2)
    # It is looked through, whether it is measured or not.
    assert head.in_range == (0, 10)


class Largest(nn.AvgPool2d):
    def forward(self, x):
        return functional.max_pool2d(x, 2)


class Squared(nn.Linear):
    def forward(self, x):
        return super().forward(x).square()


def test_subclasses_that_override_forward_are_asked_as_they_are():
    model = nn.Sequential(Largest(2), nn.Flatten(), Squared(4, 3))
    pool, head = plan_of(model, 1, 4, 4, in_range=(0, 1), layers=lambda name, _: name in ("0", "2"))
    assert (pool.module, pool.in_shape) == (model[0], (1, 4, 4))
    assert (head.module, head.in_shape) == (model[2], (4,))


def test_hooks_of_layers_known_by_their_weights_are_left_out_and_named():
    model = nn.Sequential(nn.Linear(4, 3), nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [layer.in_shape for layer in plan_of(model, 4, in_range=(0, 1))] == [(), ()]
    model[0].register_forward_hook(lambda module, args, answer: answer.square())
    with pytest.warns(UserWarning, match=r"0 has forward hooks. It is measured by its weights, without them"):
        assert [layer.in_shape for layer in plan_of(model, 4, in_range=(0, 1))] == [(), ()]


def test_what_passes_values_on_is_looked_through_even_where_it_is_measured():
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.Sigmoid(), nn.Identity(), nn.Linear(3, 2))
    every = plan_of(model, 4, in_range=(-2, 2), layers=lambda name, module: name in "0134" and name != "")
    ranges = [(layer.name, layer.in_range, layer.out_range) for layer in every]
    assert ranges == [
        ("0", (-2, 2), (0, 1)),
        ("1", (-10, 10), (0, 1)),
        ("3", (0, 1), (0, 1)),
        ("4", (0, 1), (-10, 10)),
    ]
    assert every[0].activation is model[2]


def test_normalisation_between_layers_leaves_the_default_range():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.LayerNorm(3), nn.Linear(3, 2))
    first, second = plan_of(model, 4, in_range=(0, 1))
    assert first.activation is None
    assert second.in_range == (-10, 10)


def test_a_shared_layer_is_listed_per_call():
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.Tanh(), shared)
    assert [(layer.name, layer.in_range) for layer in plan_of(model, 3, in_range=(0, 1))] == [
        ("0", (0, 1)),
        ("0:2", (-1, 1)),
    ]


def test_only_chosen_layers_need_a_range():
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    (only,) = plan_of(model, 4, layers=lambda name, module: name == "2")
    assert only.in_range == (-1, 1)


def test_first_layer_without_a_range_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"perturbation_plan\(in_range=None\): 0 reads the model's input.*\(0, 1\)"):
        plan_of(nn.Sequential(nn.Linear(4, 3)), 4)


def test_a_layer_that_never_runs_is_named_in_a_warning():
    model = nn.Sequential(nn.Linear(4, 3))
    model.spare = nn.Linear(2, 2)
    with pytest.warns(UserWarning, match=r"spare never ran.*not only its weights\.$"):
        perturbation_plan(model, lambda: model[0](torch.rand(1, 4)), in_range=(0, 1))
    with pytest.warns(UserWarning, match=r"spare never ran.*or leave it out of layers=\.$"):
        perturbation_plan(model, lambda: model[0](torch.rand(1, 4)), lambda *_: True, in_range=(0, 1))


class Sentence(nn.Module):
    """A little of everything that language models are made of."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.plain = nn.RNN(8, 5, batch_first=True)
        self.gated = nn.LSTM(5, 4, batch_first=True)

    def forward(self, tokens):
        words = self.words(tokens)
        words = self.norm(words + self.attention(words, words, words)[0])
        return self.gated(self.plain(words)[0])[0]


def test_embeddings_projections_and_plain_recurrent_layers_are_listed():
    model, tokens = Sentence(), torch.zeros(2, 6, dtype=torch.long)
    plan = {layer.name: layer for layer in perturbation_plan(model, lambda: model(tokens))}
    attention = [f"attention.{part}_proj" for part in ("q", "k", "v", "out")]
    assert list(plan) == ["words", *attention, "plain.l0"]
    assert plan["attention.k_proj"].in_range == (-10, 10)
    weight = plan["attention.k_proj"].module.weight
    assert torch.equal(weight, model.attention.in_proj_weight[8:16])
    plain = plan["plain.l0"]
    assert (plain.in_range, plain.out_range, plain.in_shape) == ((-1, 1), (-1, 1), (13,))
    assert isinstance(plain.activation, nn.Tanh)


def test_what_is_asked_for_is_listed_as_it_is():
    model, tokens = Sentence(), torch.zeros(2, 6, dtype=torch.long)
    plan = perturbation_plan(model, lambda: model(tokens), lambda name, module: name in ("gated", "norm"))
    assert [(layer.name, layer.in_shape, layer.in_range) for layer in plan] == [
        ("norm", (1, 8), (-10, 10)),
        ("gated.l0", (13,), (-1, 1)),
    ]


def test_hooks_are_removed_even_when_the_model_fails():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with pytest.raises(RuntimeError):
        plan_of(model, 5, in_range=(0, 1))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
