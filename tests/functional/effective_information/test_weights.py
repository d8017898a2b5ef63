import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_foresight.functional import trace_weight_layers, weight_effective_information, weight_ei
from lightning_foresight.functional.effective_information import _layer_sums
from tests.reference.dense_connectivity import dense_matrix, dense_weight_ei

NORMS = ("lin", "soft", "sig")
PARTS = ("ei", "determinism", "degeneracy", "effectiveness")
# Values that torch-foresight's code gives on these networks, in float32.
PUBLISHED = json.loads((Path(__file__).parent / "weight_cases.json").read_text())["cases"]


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2), nn.Dropout(0.5), nn.AvgPool2d(2)),
        nn.Flatten(),
        nn.Linear(16, 5),
    )


def dense_matrices(model: nn.Module, example: torch.Tensor) -> list:
    calls = trace_weight_layers(model, lambda: model(example))
    return [dense_matrix(call.module, tuple(call.in_shape)) for call in calls]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case["name"])
def test_values_of_torch_foresight_are_met(case, norm):
    model = nn.Sequential(*(getattr(nn, kind)(*arguments) for kind, *arguments in case["layers"]))
    model.load_state_dict({name: torch.tensor(values) for name, values in case["state"].items()})
    result = weight_effective_information(model, torch.zeros(case["input_shape"]), norm=norm)
    for part, value in case["values"][f"{norm}_norm"].items():
        assert float(getattr(result, part)) == pytest.approx(value, abs=1e-5)  # theirs are float32


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 5e-6)])
def test_a_network_agrees_with_its_dense_matrices(norm, dtype, tolerance):
    # float32: a result of 8 bits is stored to 5e-7, sums over a kernel are good to some 1e-7 of that.
    model, example = small_network(), torch.zeros(2, 2, 8, 8)
    expected = dense_weight_ei(dense_matrices(model, example), norm)
    result = weight_effective_information(model.to(dtype), example.to(dtype), norm=norm)
    for part in PARTS:
        assert float(getattr(result, part)) == pytest.approx(expected[part], abs=tolerance)
        assert getattr(result, part).dtype == dtype


@pytest.mark.parametrize("norm", NORMS)
def test_each_layer_is_also_measured_on_its_own(norm):
    model, example = small_network().double(), torch.zeros(2, 2, 8, 8, dtype=torch.float64)
    result = weight_effective_information(model, example, norm=norm)
    assert list(result.layers) == ["0", "3.0", "3.2", "5"]
    for layer, matrix in zip(result.layers.values(), dense_matrices(model, example), strict=True):
        expected = dense_weight_ei([matrix], norm)
        for part in PARTS:
            assert float(getattr(layer, part)) == pytest.approx(expected[part], abs=1e-10)


def test_one_to_one_connections_have_the_largest_ei():
    layer = nn.Linear(8, 8)
    nn.init.eye_(layer.weight)
    result = weight_effective_information(layer, torch.zeros(1, 8))
    assert [float(value) for value in result[:4]] == pytest.approx([3.0, 0.0, 3.0, 1.0])


@pytest.mark.parametrize("norm", NORMS)
def test_uniform_connections_have_none(norm):
    layer = nn.Linear(6, 8)
    nn.init.constant_(layer.weight, 0.3)
    result = weight_effective_information(layer, torch.zeros(1, 6), norm=norm)
    assert [float(value) for value in result[:4]] == pytest.approx([0.0, 3.0, 3.0, 0.0], abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(NORMS), st.integers(0, 10**6), st.sampled_from([0.01, 1.0, 20.0]), st.integers(1, 5))
def test_ei_is_never_negative_and_effectiveness_at_most_one(norm, seed, scale, width):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, width), nn.Linear(width, 3)).double()
    for weight in model.parameters():
        weight.data *= scale
    result = weight_effective_information(model, torch.zeros(1, 4, dtype=torch.float64), norm=norm)
    assert result.ei >= 0
    # Networks without a positive out-weight somewhere have empty rows, which count in N but carry nothing.
    if norm != "lin":
        assert result.effectiveness <= 1 + 1e-12


@pytest.mark.parametrize("norm", ["soft", "sig"])
def test_the_networks_ei_is_the_mean_of_its_layers_plus_the_entropy_of_their_sizes(norm):
    # A target tells its layer, so that I(source; target) = H(layer) + I(source; target | layer).
    model, example = small_network().double(), torch.zeros(2, 2, 8, 8, dtype=torch.float64)
    result = weight_effective_information(model, example, norm=norm)
    sizes = torch.tensor([len(matrix) for matrix in dense_matrices(model, example)], dtype=torch.float64)
    shares = sizes / sizes.sum()
    of_layers = torch.stack([layer.ei for layer in result.layers.values()])
    expected = shares @ of_layers - (shares * shares.log2()).sum()
    torch.testing.assert_close(result.ei, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_the_order_of_hidden_units_does_not_matter(norm):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    before = weight_effective_information(model, torch.zeros(1, 4, dtype=torch.float64), norm=norm)
    order = torch.randperm(6)
    model[0].weight.data = model[0].weight.data[order]
    model[2].weight.data = model[2].weight.data[:, order]
    after = weight_effective_information(model, torch.zeros(1, 4, dtype=torch.float64), norm=norm)
    torch.testing.assert_close(after[:4], before[:4], rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_a_linear_layer_over_tokens_is_a_convolution_of_kernel_one(norm):
    linear, conv = nn.Linear(3, 4), nn.Conv1d(3, 4, 1)
    conv.weight.data = linear.weight.data[..., None]
    over_tokens = weight_effective_information(linear, torch.zeros(1, 7, 3), norm=norm)
    over_positions = weight_effective_information(conv, torch.zeros(1, 3, 7), norm=norm)
    torch.testing.assert_close(over_tokens[:4], over_positions[:4])


@pytest.mark.parametrize("norm", NORMS)
def test_a_base_of_e_gives_nats(norm):
    model, example = nn.Linear(4, 3), torch.zeros(1, 4)
    bits = weight_effective_information(model, example, norm=norm)
    nats = weight_effective_information(model, example, norm=norm, base=math.e)
    for part in PARTS[:3]:
        assert float(getattr(nats, part)) == pytest.approx(float(getattr(bits, part)) * math.log(2))
    assert float(nats.effectiveness) == pytest.approx(float(bits.effectiveness))


def test_inputs_that_nothing_reads_count_with_entropy_zero():
    conv = nn.Conv1d(1, 1, 1, stride=2)
    nn.init.ones_(conv.weight)
    result = weight_effective_information(conv, torch.zeros(1, 1, 8))
    # Four inputs feed an output each, four feed none: degeneracy log2 4, and N is 8.
    assert [float(value) for value in result[:4]] == pytest.approx([2.0, 0.0, 2.0, 2 / 3])


def test_a_network_without_a_positive_weight_has_no_ei_under_lin_norm():
    layer = nn.Linear(3, 3)
    nn.init.constant_(layer.weight, -1.0)
    assert [float(value) for value in weight_effective_information(layer, torch.zeros(1, 3))[:4]] == [0.0] * 4


def test_a_single_input_node_has_effectiveness_zero():
    assert float(weight_effective_information(nn.Linear(1, 4), torch.zeros(1, 1)).effectiveness) == 0.0


@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.Conv1d(1, 3, 1)])
def test_weights_whose_exponential_overflows_are_measured_all_the_same(layer):
    # float32 ends at exp(88).
    layer.weight.data = torch.linspace(-200, 200, layer.weight.numel()).view_as(layer.weight)
    example = torch.zeros(1, 1, 4)
    expected = dense_weight_ei(dense_matrices(layer, example), "soft")
    assert float(weight_effective_information(layer, example, norm="soft").ei) == pytest.approx(
        expected["ei"], abs=1e-5
    )


def test_half_precision_weights_are_measured_in_single_precision():
    model = nn.Linear(6, 4).bfloat16()
    half = weight_effective_information(model, torch.zeros(1, 6, dtype=torch.bfloat16))
    single = weight_effective_information(model.float(), torch.zeros(1, 6))
    assert half.ei.dtype == torch.float32
    assert torch.equal(half.ei, single.ei)


def test_autocast_leaves_the_value_alone():
    model, example = nn.Conv2d(8, 8, 3), torch.zeros(1, 8, 6, 6)
    expected = weight_effective_information(model, example)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(weight_effective_information(model, example).ei, expected.ei)


@pytest.mark.parametrize("norm", NORMS)
def test_products_in_tf32_cost_no_more_than_the_fifth_digit(norm, monkeypatch):
    def to_tf32(tensor: torch.Tensor) -> torch.Tensor:
        mantissa, exponent = torch.frexp(tensor)  # ten bits of fraction behind the leading one
        return torch.ldexp((mantissa * 2**11).round() / 2**11, exponent)

    def rounded(function):
        def wrapped(*arguments):
            result = function(*arguments)
            return (to_tf32(result[0]), *result[1:]) if isinstance(result, tuple) else to_tf32(result)

        return wrapped

    model, example = nn.Sequential(nn.Conv2d(16, 32, 3), nn.Flatten(), nn.Linear(1152, 64)), torch.zeros(1, 16, 8, 8)
    expected = weight_effective_information(model, example, norm=norm)
    for factor in ("_share_sums", "_behind_taps"):
        monkeypatch.setattr(_layer_sums, factor, rounded(getattr(_layer_sums, factor)))
    # Roundings of single weights average out over the sums.
    assert float(weight_effective_information(model, example, norm=norm).ei) == pytest.approx(
        float(expected.ei), abs=1e-5
    )


def test_the_current_weights_are_measured_each_time():
    model = nn.Linear(4, 4)
    calls = trace_weight_layers(model, lambda: model(torch.zeros(1, 4)))
    before = weight_ei(calls).ei
    nn.init.eye_(model.weight)
    assert float(weight_ei(calls).ei) == pytest.approx(2.0)
    assert float(before) < 2.0


def test_inference_mode_and_training_share_what_is_cached():
    model = nn.Sequential(nn.Conv1d(2, 3, 4), nn.Linear(14, 2))  # a geometry of this test alone
    calls = trace_weight_layers(model, lambda: model(torch.zeros(1, 2, 17)))
    with torch.inference_mode():
        inside = weight_ei(calls).ei
    assert float(weight_ei(calls).ei) == float(inside)


def test_parametrised_weights_are_those_that_act():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(5, 4))
    plain = nn.Linear(5, 4)
    plain.weight.data = model.weight.data
    example = torch.zeros(1, 5)
    assert torch.equal(weight_effective_information(model, example).ei, weight_effective_information(plain, example).ei)


class CountReads(TorchDispatchMode):
    """Counts the operations that wait for the device."""

    def __init__(self):
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.reads += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("norm", NORMS)
def test_without_validation_nothing_waits_for_the_device(norm):
    model = small_network()
    calls = trace_weight_layers(model, lambda: model(torch.zeros(2, 2, 8, 8)))
    with CountReads() as validated:
        weight_ei(calls, norm=norm)
    with CountReads() as count:
        result = weight_ei(calls, norm=norm, validate=False)
    assert count.reads == 0 < validated.reads
    assert not result.ei.requires_grad


def test_measuring_leaves_modes_buffers_weights_and_random_state_alone():
    model = small_network()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    weight_effective_information(model, torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random_state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])
