import pytest
from torch import nn

from lightning_foresight.probes.layers import select_layers

MODEL = nn.ModuleDict(
    {
        "body": nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)),
        "head": nn.Linear(3, 2),
    }
)


def is_linear(name, module):
    return isinstance(module, nn.Linear)


@pytest.mark.parametrize(
    ("layers", "chosen"),
    [
        (None, ["body.0", "body.2", "head"]),
        ("head", ["head"]),
        (["head", "body.0"], ["body.0", "head"]),  # in the order of the model
        ("body.*", ["body.0", "body.2"]),
        (nn.Linear, ["body.0", "body.2", "head"]),
        (lambda name, module: getattr(module, "out_features", 0) == 2, ["head"]),
        (["head", lambda name, module: name == "body.2"], ["body.2", "head"]),
    ],
)
def test_layers_are_chosen_by_name_glob_type_or_rule(layers, chosen):
    assert list(select_layers(MODEL, layers, measurable=is_linear)) == chosen


def test_wrappers_of_compiled_children_are_not_part_of_a_name():
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self._orig_mod = nn.Linear(2, 2)

    model = nn.ModuleDict({"fc": Wrapper()})
    assert "fc" in select_layers(model, "fc", measurable=is_linear)


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        (
            "fc9",
            ValueError,
            r"X\(layers=\['fc9'\]\): no layer of the model has that name. Layers that can be measured: "
            r"body.0, body.2, head. Globs work: 'fc\*'.",
        ),
        ("body.1", ValueError, r"X\(layers=\['body.1'\]\): body.1 of type Tanh cannot be measured"),
        (nn.Conv2d, ValueError, r"X\(layers=\['Conv2d'\]\)"),
        (["head", "nope"], ValueError, r"X\(layers=\['nope'\]\)"),
        ([3], TypeError, r"expected a name, a glob, a module type or a rule"),
        (MODEL["head"], TypeError, r"expected a name, a glob, a module type or a rule .* got Linear"),
    ],
)
def test_a_choice_that_matches_nothing_is_refused_with_what_would_do(layers, error, message):
    with pytest.raises(error, match=message):
        select_layers(MODEL, layers, measurable=is_linear, owner="X")


def test_a_model_without_measurable_layers_is_refused():
    with pytest.raises(
        ValueError, match="X: no layer of the model can be measured. The model's modules are of types Tanh"
    ):
        select_layers(nn.Tanh(), None, measurable=is_linear, owner="X")
