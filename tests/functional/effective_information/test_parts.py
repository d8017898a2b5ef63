import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_foresight.functional import ei_parts, sensitivity
from lightning_foresight.functional.effective_information import exact
from lightning_foresight.functional.effective_information.activations import monotone_rule, preimage_edges
from tests.reference.effective_information_dense import monte_carlo_parts, overlap_sensitivity, rational_parts

CASES = json.loads((Path(__file__).parent / "perturbation_cases.json").read_text())["cases"]
ACTIVATIONS = {"sigmoid": nn.Sigmoid(), "tanh": nn.Tanh(), "relu": nn.ReLU(), "identity": None}


def linear(weight, bias=None, dtype=torch.float64):
    weight = torch.as_tensor(weight, dtype=dtype)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=dtype)
    layer.weight.data = weight
    if bias is not None:
        layer.bias.data = torch.as_tensor(bias, dtype=dtype)
    return layer


def random_layer(inputs, outputs, seed, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64) * spread
    return linear(weight, torch.randn(outputs, generator=generator, dtype=torch.float64) * 0.3)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['activation']}-{case['in_bins']}")
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 0.0), (torch.float32, 3e-6)])
def test_agrees_with_numerical_convolution(case, dtype, rounding):
    layer = linear(case["weight"], case["bias"], dtype)
    options = {key: case[key] for key in ("in_range", "out_range", "in_bins", "out_bins")}
    activation = ACTIVATIONS[case["activation"]]
    parts = ei_parts(layer, activation, **options)
    assert parts.dtype == dtype
    # 1e-6 is the reference's own error; float32 adds the rounding of the weights and of the results.
    assert torch.allclose(parts.double(), torch.tensor(case["ei_parts_bits"]).double(), rtol=0, atol=1e-6 + rounding)
    given = torch.tensor(case["sensitivity_bits"]).double()
    assert torch.allclose(sensitivity(layer, activation, **options).double(), given, rtol=0, atol=1e-6 + rounding)


# One to five inputs: closed form up to three, Fourier series above.
@pytest.mark.parametrize("inputs", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", ["sigmoid", "relu", "identity"])
def test_every_pair_equals_rational_arithmetic(inputs, name):
    layer = random_layer(inputs, 2, seed=inputs)
    out_range = (-2.0, 2.0) if name == "identity" else (0.0, 1.5) if name == "relu" else (0.0, 1.0)
    options = {"in_range": (-1.0, 0.5), "out_range": out_range, "in_bins": 5, "out_bins": 4}
    edges = preimage_edges(monotone_rule(ACTIVATIONS[name]), out_range, 4).tolist()
    exact_bits = rational_parts(layer.weight.tolist(), layer.bias.tolist(), edges, (-1.0, 0.5), 5)
    # Twenty cells whose probabilities err by 2e-12 at most.
    assert torch.allclose(ei_parts(layer, ACTIVATIONS[name], **options), torch.tensor(exact_bits), rtol=0, atol=1e-9)
    lengths = overlap_sensitivity(layer.weight.tolist(), layer.bias.tolist(), edges, (-1.0, 0.5), 5)
    assert torch.allclose(sensitivity(layer, ACTIVATIONS[name], **options), torch.tensor(lengths), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "weights",
    [
        [1.0, 1e-3, 1e-3, 1e-3],
        [1.0, 1.0, 1e-5, 1e-5],
        [1.0, 1e-7],
        [5.0, 1.0, 1e-2, 1e-4, 1e-6],
        [1.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, -2.0],
        [1.0, -1.0, 1.0, -1.0, 1.0],
        [1.0, *[1e-5] * 5],
        [1.0, 1.0, *[1e-6] * 4],
        [1.0, 1e-3, 1e-6, 1e-9, 1e-12, 1e-15],
        [1.0, 1e-2, 1e-4, 1e-6, 1e-6, 1e-8],
    ],
    ids=str,
)
def test_dominated_and_pruned_layers_equal_rational_arithmetic(weights):
    layer = linear([weights], [0.1])
    edges = torch.linspace(-2, 2, 5).tolist()
    exact_bits = torch.tensor(rational_parts([weights], [0.1], edges, (-1.0, 1.0), 3))
    parts = ei_parts(layer, in_range=(-1, 1), out_range=(-2, 2), in_bins=3, out_bins=4)
    assert torch.allclose(parts, exact_bits, rtol=0, atol=1e-7)


def test_wide_layer_lies_within_monte_carlo_error():
    layer = random_layer(40, 2, seed=3, spread=0.5)
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    samples = 100_000
    sampled = monte_carlo_parts(lambda x: 1 / (1 + math.e ** -(x @ weight.T + bias)), 40, (0, 1), (0, 1), 8, 8, samples)
    parts = ei_parts(layer, nn.Sigmoid(), in_range=(0, 1), in_bins=8, out_bins=8)
    # The plug-in estimate of a pair spreads by about sqrt(2 I / N) plus the chi-squared noise of 49 degrees of freedom.
    spread = (2 * parts / samples).sqrt() / math.log(2) + math.sqrt(2 * 49) / (2 * samples * math.log(2))
    assert (((parts - torch.tensor(sampled)) / spread).abs() < 5).all()


def test_series_and_closed_form_agree_where_both_hold(monkeypatch):
    layer = random_layer(5, 3, seed=9)
    options = {"in_range": (0, 1), "in_bins": 16, "out_bins": 16}
    series = ei_parts(layer, nn.Sigmoid(), **options)
    monkeypatch.setattr(exact, "CLOSED_FORM_TERMS", 5)
    assert torch.allclose(ei_parts(layer, nn.Sigmoid(), **options), series, rtol=0, atol=1e-9)


def test_memory_budget_and_chunks_do_not_change_the_result(monkeypatch):
    from lightning_foresight.functional.effective_information import exact_series

    layer = random_layer(30, 7, seed=4, spread=0.3)
    options = {"in_range": (0, 1), "in_bins": 8, "out_bins": 8}
    whole = ei_parts(layer, nn.Tanh(), **options)
    monkeypatch.setattr(exact_series, "CPU_CACHE_BYTES", 10_000)
    assert torch.allclose(ei_parts(layer, nn.Tanh(), **options), whole, rtol=0, atol=1e-12)


def test_single_precision_devices_stay_within_1e_5_bits(monkeypatch):
    from lightning_foresight.functional.effective_information import affine_modules

    layer = random_layer(20, 6, seed=5)
    small = random_layer(3, 6, seed=5)
    options = {"in_range": (-1, 1), "in_bins": 64, "out_bins": 64}
    exact_bits = [ei_parts(chosen, nn.Tanh(), **options) for chosen in (layer, small)]
    monkeypatch.setattr(affine_modules, "work_dtype", lambda device: torch.float32)
    for chosen, bits in zip((layer, small), exact_bits, strict=True):
        assert torch.allclose(ei_parts(chosen, nn.Tanh(), **options), bits, rtol=0, atol=1e-5)


def test_weak_connections_keep_their_small_information():
    weights = torch.ones(1, 12, dtype=torch.float64)
    weights[0, 0] = 1e-4
    parts = ei_parts(linear(weights), in_range=(-1, 1), out_range=(-8, 8), in_bins=16, out_bins=16).squeeze(1)
    weights[0, 0] = 2e-4
    doubled = ei_parts(linear(weights), in_range=(-1, 1), out_range=(-8, 8), in_bins=16, out_bins=16).squeeze(1)
    # For a weak signal the information grows as the square of the weight.
    assert 0 < parts[0] < 1e-7
    assert doubled[0] / parts[0] == pytest.approx(4, rel=1e-3)


def test_silent_inputs_and_dead_units_carry_nothing():
    layer = linear([[0.0, 1.0], [0.0, 0.0]], [0.0, 5.0])
    for measure in (ei_parts, sensitivity):
        bits = measure(layer, in_range=(0, 1), out_range=(0, 1), in_bins=4, out_bins=4)
        assert bits.tolist() == [[0.0, 0.0], [pytest.approx(2.0), 0.0]]


def test_outputs_outside_the_range_are_dropped_and_the_rest_renormalised():
    # y = 2x on (0, 1): only x < 1/2 lands in (0, 1), and there 4 of 8 input bins map onto 4 output bins.
    bits = ei_parts(linear([[2.0]]), in_range=(0, 1), out_range=(0, 1), in_bins=8, out_bins=4)
    assert bits.item() == pytest.approx(2.0, abs=1e-9)


def test_a_convolution_is_its_receptive_field():
    conv = nn.Conv2d(2, 3, 2, dtype=torch.float64)
    dense = linear(conv.weight.detach().flatten(1), conv.bias.detach())
    options = {"in_range": (0, 1), "in_bins": 8, "out_bins": 8}
    for measure in (ei_parts, sensitivity):
        assert torch.equal(measure(conv, nn.ReLU(), **options), measure(dense, nn.ReLU(), **options))


def test_information_is_bounded_by_the_coarser_binning():
    parts = ei_parts(random_layer(2, 4, seed=8), in_range=(-1, 1), in_bins=4, out_bins=32)
    assert (parts >= 0).all()
    assert (parts <= 2).all()


weights = st.lists(st.floats(-2, 2).map(lambda w: round(w, 3)), min_size=6, max_size=6)


@settings(deadline=None, max_examples=15)
@given(weights, st.permutations(range(6)))
def test_order_and_sign_of_inputs_do_not_matter(values, order):
    options = {"in_range": (-1, 1), "in_bins": 4, "out_bins": 6}
    bits = ei_parts(linear([values]), nn.Tanh(), **options)
    shuffled = ei_parts(linear([[values[i] for i in order]]), nn.Tanh(), **options)
    assert torch.allclose(shuffled, bits[list(order)], rtol=0, atol=1e-9)
    # Inputs are symmetric around 0: a mirrored one has the same bins in reverse.
    mirrored = ei_parts(linear([[-value for value in values]]), nn.Tanh(), **options)
    assert torch.allclose(mirrored, bits, rtol=0, atol=1e-9)


@settings(deadline=None, max_examples=15)
@given(weights)
def test_a_silent_input_changes_nothing_and_merged_bins_add_nothing(values):
    options = {"in_range": (-1, 1), "out_range": (-20, 20), "in_bins": 4, "out_bins": 6}
    bits = ei_parts(linear([values]), **options)
    silent = ei_parts(linear([[*values, 0.0]]), **options)
    assert torch.allclose(silent[:6], bits, rtol=0, atol=1e-9)
    assert silent[6] == 0
    # Merging bins never adds information.
    coarse = ei_parts(linear([values]), **{**options, "in_bins": 2, "out_bins": 3})
    assert (coarse <= bits + 1e-9).all()
