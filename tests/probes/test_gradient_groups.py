import pytest
import torch
from torch import nn

from lightning_foresight.probes.gradient_groups import parameter_groups, select_parameters


def network():
    encoder = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    return nn.ModuleDict({"encoder": encoder, "head": nn.Linear(3, 2)})


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (
            None,
            ["encoder.0.weight", "encoder.0.bias", "encoder.1.weight", "encoder.1.bias", "head.weight", "head.bias"],
        ),
        ("head", ["head.weight", "head.bias"]),
        ("encoder.*", ["encoder.0.weight", "encoder.0.bias", "encoder.1.weight", "encoder.1.bias"]),
        ("*.weight", ["encoder.0.weight", "encoder.1.weight", "head.weight"]),
        (nn.LayerNorm, ["encoder.1.weight", "encoder.1.bias"]),
        (["head", nn.LayerNorm], ["encoder.1.weight", "encoder.1.bias", "head.weight", "head.bias"]),
        (lambda name, module: name == "head", ["head.weight", "head.bias"]),
    ],
    ids=["all", "name", "glob", "parameters", "type", "list", "rule"],
)
def test_parameters_are_chosen_by_layer(layers, expected):
    assert list(select_parameters(network(), layers, owner="test")) == expected


def test_a_shared_parameter_is_measured_once():
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    model["b"].weight = model["a"].weight
    assert list(select_parameters(model, None, owner="test")) == ["a.weight", "a.bias", "b.bias"]


def groups(spec, model=None, optimizers=()):
    model = model or network()
    return parameter_groups(model, dict(model.named_parameters()), spec, optimizers, owner="Callback")


def test_groups_by_layer_and_by_type():
    assert list(groups("layers")) == ["encoder.0", "encoder.1", "head"]
    assert groups("types")["Linear"] == ["encoder.0.weight", "encoder.0.bias", "head.weight", "head.bias"]
    assert groups(None) == {}


def test_groups_of_the_optimizer_take_their_names():
    model = network()
    optimizer = torch.optim.SGD(
        [{"params": model["encoder"].parameters(), "name": "slow"}, {"params": model["head"].parameters()}], lr=0.1
    )
    found = groups("param_groups", model, [optimizer])
    assert {name: len(members) for name, members in found.items()} == {"slow": 4, "group_1": 2}


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        (
            "modules",
            ValueError,
            r"Callback\(groups='modules'\): expected 'layers', 'types', 'param_groups' or",
        ),
        ({"a": "fc9"}, ValueError, r"group 'a'='fc9'\): no parameter matches. Layers with parameters: encoder.0, enc"),
        ({"a": [3]}, TypeError, r"group 'a'=3\): expected a name, a glob, a module type or a rule.*got int"),
    ],
)
def test_groups_that_match_nothing_are_refused(spec, error, text):
    with pytest.raises(error, match=text):
        groups(spec)


def test_a_model_without_parameters_is_refused():
    with pytest.raises(ValueError, match="the model has no parameters"):
        select_parameters(nn.ReLU(), None, owner="test")


def test_a_module_is_no_rule_for_choosing_layers():
    with pytest.raises(
        TypeError, match=r"test\(layers=Linear.*expected a name, a glob, a module type or a rule.*Linear"
    ):
        select_parameters(network(), nn.Linear(2, 2), owner="test")
