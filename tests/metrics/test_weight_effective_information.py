import copy
import math
import pickle

import pytest
import torch
from torch import nn

from lightning_foresight.functional import trace_weight_layers, weight_effective_information
from lightning_foresight.metrics import WeightEffectiveInformation

PARTS = ("ei", "determinism", "degeneracy", "effectiveness")


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


EXAMPLE = torch.zeros(1, 4)


@pytest.mark.parametrize("norm", ["lin", "soft", "sig"])
def test_one_update_gives_the_value_of_the_function(norm):
    metric = WeightEffectiveInformation(norm=norm, base=math.e)
    metric.update(network(), EXAMPLE)
    expected = weight_effective_information(network(), EXAMPLE, norm=norm, base=math.e)
    values = metric.compute()
    assert tuple(values) == PARTS
    for part in PARTS:
        torch.testing.assert_close(values[part], getattr(expected, part))


def test_several_updates_are_averaged_and_a_reset_starts_anew():
    metric = WeightEffectiveInformation()
    first, second = (weight_effective_information(network(seed), EXAMPLE) for seed in (0, 1))
    metric.update(network(0), EXAMPLE)
    metric.update(network(1), EXAMPLE)
    torch.testing.assert_close(metric.compute()["ei"], (first.ei + second.ei) / 2)
    metric.reset()
    metric.update(network(1), EXAMPLE)
    torch.testing.assert_close(metric.compute()["ei"], second.ei)


def test_traced_layers_give_the_same_as_the_model():
    model = network()
    calls = trace_weight_layers(model, lambda: model(EXAMPLE))
    metric = WeightEffectiveInformation(validate_args=False)
    metric.update(calls)
    torch.testing.assert_close(metric.compute()["ei"], weight_effective_information(model, EXAMPLE).ei)


def test_layers_are_returned_under_their_names_on_request():
    metric = WeightEffectiveInformation(per_layer=True)
    values = metric(network(), EXAMPLE)
    assert list(values) == [f"{layer}{part}" for layer in ("", "0/", "2/") for part in PARTS]
    expected = weight_effective_information(network(), EXAMPLE).layers["2"]
    for part in PARTS:
        torch.testing.assert_close(metric.compute()[f"2/{part}"], getattr(expected, part))


def test_forward_returns_the_last_value_and_accumulates():
    metric = WeightEffectiveInformation(per_layer=True)
    first, second = metric(network(0), EXAMPLE), metric(network(1), EXAMPLE)
    torch.testing.assert_close(metric.compute()["0/ei"], (first["0/ei"] + second["0/ei"]) / 2)


def test_states_of_two_ranks_add_up():
    ranks = [WeightEffectiveInformation(per_layer=True) for _ in range(2)]
    whole = WeightEffectiveInformation(per_layer=True)
    for seed, rank in enumerate(ranks):
        rank.update(network(seed), EXAMPLE)
        whole.update(network(seed), EXAMPLE)
    for state, reduction in ranks[0]._reductions.items():
        setattr(ranks[0], state, reduction(torch.stack([getattr(rank, state) for rank in ranks])))
    for name, value in whole.compute().items():
        torch.testing.assert_close(ranks[0].compute()[name], value)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: m.clone(), lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_goes_on_where_the_original_was(duplicate):
    metric = WeightEffectiveInformation(per_layer=True)
    metric.update(network(), EXAMPLE)
    again = duplicate(metric)
    for name, value in metric.compute().items():
        assert torch.equal(again.compute()[name], value)


def test_other_layers_than_before_are_refused():
    metric = WeightEffectiveInformation(per_layer=True)
    metric.update(network(), EXAMPLE)
    with pytest.raises(ValueError, match=r"got the layers 0; expected those of the updates before, 0, 2"):
        metric.update(nn.Sequential(nn.Linear(4, 3)), EXAMPLE)
    metric.reset()
    metric.update(nn.Sequential(nn.Linear(4, 3)), EXAMPLE)
    assert "2/ei" not in metric.compute()


def test_a_model_without_an_example_input_is_refused():
    with pytest.raises(ValueError, match=r"update\(example_input=None\): expected one batch"):
        WeightEffectiveInformation().update(network())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "max"}, r"norm='max'\): expected one of 'lin'"),
        ({"base": 0.5}, r"base=0.5\): expected a number above"),
    ],
)
def test_an_argument_out_of_range_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        WeightEffectiveInformation(**arguments)
