import warnings

import pytest
import torch
from torch import nn

from lightning_foresight.functional import effective_information, ei_between_groups, ei_parts, sensitivity
from lightning_foresight.functional.effective_information.problem import pose

MEASURES = [
    ei_parts,
    sensitivity,
    effective_information,
    lambda layer, activation=None, **options: ei_between_groups(layer, [([0], [0])], activation, **options),
]
NAMES = ["ei_parts", "sensitivity", "effective_information", "ei_between_groups"]

BAD = [
    ({"in_range": None}, ValueError, r"in_range=None\): inputs need a bounded range"),
    ({"in_range": (1, 0)}, ValueError, r"in_range=\(1, 0\)\): expected a pair \(low, high\)"),
    ({"in_range": (0, float("inf"))}, ValueError, r"in_range=\(0, inf\)\): expected a pair"),
    ({"out_range": (1, 1)}, ValueError, r"out_range=\(1, 1\)\): expected a pair"),
    ({"in_bins": 1}, ValueError, r"in_bins=1\): expected an integer of at least 2"),
    ({"out_bins": 2.5}, ValueError, r"out_bins=2.5\): expected an integer of at least 2"),
    ({"method": "magic"}, ValueError, r"method='magic'\): expected one of 'auto', 'exact', 'sampled'"),
    ({"num_samples": 3}, ValueError, r"num_samples=3\): expected an integer of at least 16"),
    ({"rtol": 2}, ValueError, r"rtol=2\): expected a relative error between 0 and 1"),
]


@pytest.mark.parametrize("measure", MEASURES, ids=NAMES)
@pytest.mark.parametrize(("options", "error", "text"), BAD, ids=lambda value: str(value)[:30])
def test_every_measure_names_the_argument_that_does_not_fit(measure, options, error, text):
    with pytest.raises(error, match=text):
        measure(nn.Linear(2, 2), **{"in_range": (0, 1), **options})


@pytest.mark.parametrize("measure", MEASURES, ids=NAMES)
def test_layers_that_cannot_be_measured_are_refused_in_words(measure):
    with pytest.raises(ValueError, match=r"in_shape=None\): a layer that is not Linear"):
        measure(nn.LayerNorm(3), in_range=(0, 1))
    with pytest.raises(TypeError, match=r"complex64; expected real floating-point weights"):
        measure(nn.Linear(2, 2, dtype=torch.complex64), in_range=(0, 1))
    with pytest.raises(TypeError, match=r"expected a module or a callable"):
        measure(torch.zeros(2, 2), in_range=(0, 1))
    broken = nn.Linear(2, 2)
    broken.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"NaN or infinite.*diverged layer"):
        measure(broken, in_range=(0, 1))


@pytest.mark.parametrize("measure", MEASURES, ids=NAMES)
def test_outputs_that_are_nan_are_an_error(measure):
    with pytest.raises(ValueError, match=r"<lambda>\): the layer gives NaN or infinite outputs"):
        measure(lambda x: x.log(), in_range=(-1, 1), in_shape=(2,))


@pytest.mark.parametrize("measure", MEASURES, ids=NAMES)
def test_outputs_without_a_batch_axis_are_an_error(measure):
    with pytest.raises(ValueError, match=r"one row of outputs for every row of inputs"):
        measure(lambda x: x.sum(0), in_range=(-1, 1), in_shape=(2,))


def test_exact_method_refuses_layers_that_are_not_affine():
    with pytest.raises(ValueError, match=r"method='exact'\): LayerNorm is not an affine layer.*method='sampled'"):
        ei_parts(nn.LayerNorm(3), in_range=(0, 1), method="exact", in_shape=(3,))


@pytest.mark.parametrize("measure", [ei_parts, effective_information, sensitivity])
def test_layers_that_work_in_place_are_measured_like_others(measure):
    options = {"in_range": (-3, 3), "out_range": (0, 3), "in_bins": 8, "out_bins": 8, "num_samples": 512}
    found = [measure(nn.ReLU(inplace), in_shape=(3,), **options) for inplace in (True, False)]
    inplace, plain = (getattr(one, "value", one) for one in found)
    assert torch.equal(inplace, plain)


def test_a_layer_in_training_mode_keeps_its_running_statistics():
    layer = nn.BatchNorm1d(3)
    ei_parts(layer, in_range=(-5, 5), in_shape=(3,), in_bins=4, out_bins=4, num_samples=64)
    assert layer.num_batches_tracked == 0
    assert torch.equal(layer.running_mean, torch.zeros(3))


def test_a_shape_that_the_layer_cannot_take_is_refused_in_words():
    with pytest.raises(
        ValueError, match=r"ei_parts\(layer=Sequential\): it cannot be called with noise.*check in_shape"
    ):
        ei_parts(nn.Sequential(nn.Linear(3, 2)), in_range=(0, 1), in_shape=(4,))
    with pytest.raises(ValueError, match=r"ei_parts\(layer=Bilinear\).*wrap the layer so that its other arguments"):
        ei_parts(nn.Bilinear(3, 3, 2), in_range=(0, 1), in_shape=(3,))


@pytest.mark.parametrize("method", ["exact", "sampled"])
def test_narrow_layers_get_results_that_are_not_rounded(method):
    torch.manual_seed(0)
    layer = nn.Linear(3, 2).bfloat16()
    options = {"in_range": (-1, 1), "in_bins": 4, "out_bins": 4, "method": method}
    assert ei_parts(layer, **options).dtype == torch.float32
    assert sensitivity(layer, **options).dtype == torch.float32


def test_an_activation_without_default_range_asks_for_one():
    with pytest.raises(ValueError, match=r"out_range=None\): Tanhshrink\(\) has no default"):
        ei_parts(nn.Linear(2, 2), nn.Tanhshrink(), in_range=(0, 1))


def test_dynamic_range_is_what_the_outputs_can_take():
    layer = nn.Linear(2, 2)
    layer.weight.data, layer.bias.data = torch.tensor([[1.0, -2.0], [0.5, 0.5]]), torch.tensor([0.0, 1.0])
    options = {"in_range": (0, 1), "in_bins": 8, "out_bins": 8}
    dynamic = ei_parts(layer, out_range="dynamic", **options)
    assert torch.equal(dynamic, ei_parts(layer, out_range=(-2, 2), **options))
    squashed = sensitivity(layer, nn.Tanh(), out_range="dynamic", **options)
    ends = torch.tanh(torch.tensor([-2.0, 2.0])).tolist()
    assert torch.equal(squashed, sensitivity(layer, nn.Tanh(), out_range=ends, **options))
    with pytest.raises(ValueError, match=r"out_range='auto'\): expected one of 'dynamic'"):
        ei_parts(layer, out_range="auto", **options)


def test_dynamic_range_holds_the_minimum_of_an_activation_and_all_outputs_of_a_callable():
    layer = nn.Linear(2, 2)
    layer.weight.data, layer.bias.data = torch.tensor([[1.0, -2.0], [0.5, 0.5]]), torch.tensor([0.0, 1.0])
    options = {"in_range": (0, 1), "in_bins": 8, "out_bins": 8}
    # Pre-activations in (-2, 2); the minimum of SiLU lies at -1.278.
    ends = torch.nn.functional.silu(torch.tensor([-1.2785, 2.0], dtype=torch.float64)).tolist()
    dynamic = ei_parts(layer, nn.SiLU(), out_range="dynamic", **options)
    assert torch.allclose(dynamic, ei_parts(layer, nn.SiLU(), out_range=ends, **options), rtol=0, atol=1e-4)
    # A few thousand samples come close to the ends (0, 3) of a callable's outputs.
    options |= {"in_shape": (2,), "num_samples": 20_000}
    dynamic = ei_parts(lambda x: 3 * x, out_range="dynamic", **options)
    assert torch.allclose(dynamic, ei_parts(lambda x: 3 * x, out_range=(0, 3), **options), rtol=0, atol=0.03)
    table = nn.Embedding.from_pretrained(torch.tensor([[0.0], [3.0], [5.0], [8.0]]))
    assert ei_parts(table, in_range=None, out_range="dynamic", out_bins=4) == 2


@pytest.mark.parametrize("measure", MEASURES, ids=NAMES)
def test_dynamic_bins_are_as_wide_as_those_of_the_inputs_even_where_these_do_not_divide_the_range(measure):
    layer = nn.Linear(1, 1)
    layer.weight.data, layer.bias.data = torch.tensor([[0.7]]), torch.tensor([0.1])
    options = {"in_range": (-1, 1), "in_bins": 4, "num_samples": 4_096}
    # Outputs in (-0.6, 0.8) take three bins of width 0.5, the last of which ends at 0.9.
    dynamic = measure(layer, out_range="dynamic", out_bins="dynamic", **options)
    given = measure(layer, out_range=(-0.6, 0.9), out_bins=3, **options)
    found = [one if isinstance(one, torch.Tensor) else getattr(one, "value", one) for one in (dynamic, given)]
    found = [one[0].value if isinstance(one, list) else one for one in found]
    assert torch.allclose(*found, rtol=0, atol=1e-5)
    # And a range that they divide takes no more of them.
    assert pose("test", layer, None, out_range=(0, 2), out_bins="dynamic", method="auto", **options).out_bins == 4


@pytest.mark.parametrize(
    ("layer", "options", "text"),
    [
        (nn.Linear(2, 2), {"out_bins": "auto"}, r"out_bins='auto'\): expected one of 'dynamic'"),
        (nn.Linear(2, 2), {"out_range": (0, 1e5)}, r"out_bins='dynamic'\): outputs in \(0, 100000\) take 6400000 bins"),
        (nn.Embedding(3, 2), {"in_range": None}, r"out_bins='dynamic'\): the input of an Embedding has no bins"),
    ],
    ids=["unknown", "too-many", "embedding"],
)
def test_dynamic_bins_that_cannot_be_are_refused(layer, options, text):
    with pytest.raises(ValueError, match=text):
        ei_parts(layer, **{"in_range": (0, 1), "out_bins": "dynamic", **options})


@pytest.mark.parametrize("in_shape", [3, "3", (0,), (3.0,)])
def test_a_shape_that_is_none_is_refused(in_shape):
    with pytest.raises(ValueError, match=r"in_shape=.*expected the sizes of one input without the batch axis"):
        ei_parts(nn.LayerNorm(3), in_range=(0, 1), in_shape=in_shape)


def test_a_tolerance_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"rtol='1%'\): expected a relative error between 0 and 1"):
        ei_parts(nn.Linear(3, 2), in_range=(0, 1), rtol="1%")


def test_a_callable_may_give_one_number_a_row():
    options = {"in_range": (0, 1), "out_range": (0, 3), "in_shape": (3,), "num_samples": 256}
    flat, column = (ei_parts(lambda x, keep=keep: x.sum(1, keepdim=keep), **options) for keep in (False, True))
    assert flat.shape == (3, 1)
    assert torch.equal(flat, column)


def test_layers_without_outputs_are_refused():
    with pytest.raises(ValueError, match=r"<lambda>'\): expected outputs, got none"):
        ei_parts(lambda x: x[:, :0], in_range=(0, 1), in_shape=(3,), num_samples=100)


def test_samples_too_few_for_an_interval_are_warned_of_where_samples_are_drawn():
    layer, options = nn.Linear(2, 2), {"in_range": (-1, 1), "in_bins": 4, "out_bins": 4}
    with pytest.warns(UserWarning, match=r"ei_parts\(num_samples=32\): too few for an error bar.* Take 128 or more"):
        ei_parts(layer, num_samples=32, method="sampled", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ei_parts(layer, num_samples=32, **options)  # exact
        ei_parts(layer, num_samples=64, method="sampled", **options)
