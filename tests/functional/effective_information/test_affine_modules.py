import math

import pytest
import torch
from torch import nn

from lightning_foresight.functional import causal_measures, effective_information, ei_parts, sensitivity
from lightning_foresight.functional.effective_information import affine_modules, exact
from lightning_foresight.functional.effective_information.activations import monotone_rule, preimage_edges
from lightning_foresight.functional.effective_information.affine import connected_inputs
from lightning_foresight.functional.effective_information.affine_modules import (
    NotAffineError,
    dense_map,
    find_affine,
    require_affine,
)
from lightning_foresight.functional.effective_information.causal import has_exact_method
from tests.reference.effective_information_dense import overlap_sensitivity, rational_parts

CPU = torch.device("cpu")


def settled(module, seed=0):
    """In evaluation mode, with running statistics and scales as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    for key, value in (*module.named_parameters(), *module.named_buffers()):
        if value.is_floating_point():
            drawn = torch.rand(value.shape, generator=generator)
            value.data.copy_(drawn + 0.5 if key.endswith("running_var") else 2 * drawn - 1)
    return module.eval()


MODULES = [
    (nn.Identity(), (3,)),
    (nn.Flatten(), (2, 3)),
    (nn.Unflatten(1, (2, 3)), (6,)),
    (nn.AvgPool1d(2), (2, 6)),
    (nn.AvgPool2d(3, stride=2, padding=1), (2, 5, 5)),
    (nn.AvgPool3d((1, 2, 2), divisor_override=3), (1, 2, 4, 2)),
    (nn.AdaptiveAvgPool2d((2, 3)), (1, 5, 5)),
    (nn.BatchNorm1d(4), (4,)),
    (nn.BatchNorm1d(3), (3, 2)),
    (nn.BatchNorm2d(2, affine=False), (2, 1, 2)),
    (nn.InstanceNorm1d(2, track_running_stats=True), (2, 3)),
    (nn.Dropout(0.3), (4,)),
    (nn.AlphaDropout(0.3), (4,)),
    (nn.ZeroPad2d(1), (1, 2, 2)),
    (nn.ConstantPad1d(1, 0.7), (1, 3)),
    (nn.ReflectionPad1d(1), (1, 3)),
    (nn.CircularPad1d(1), (1, 3)),
    (nn.PixelShuffle(2), (4, 1, 2)),
    (nn.Upsample(scale_factor=2, mode="bilinear"), (1, 2, 2)),
    (nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3)), nn.Flatten(), nn.Linear(6, 2)), (4,)),
    (
        nn.Sequential(
            nn.Conv2d(1, 2, (1, 2)), nn.BatchNorm2d(2), nn.Sequential(nn.AvgPool2d(2), nn.Flatten()), nn.Dropout()
        ),
        (1, 4, 5),
    ),
]
IDS = [f"{type(module).__name__}-{len(shape)}" for module, shape in MODULES]


@pytest.mark.parametrize(("module", "shape"), MODULES, ids=IDS)
def test_the_dense_map_is_the_jacobian_with_the_answer_to_nothing(module, shape):
    module = settled(module)
    found = dense_map(module, shape, CPU)
    module.double()
    zero = torch.zeros(1, *shape, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: module(x).flatten(), zero).reshape(found.weight.shape)
    assert torch.allclose(found.weight, jacobian, rtol=0, atol=1e-14)
    assert torch.equal(found.weight == 0, jacobian == 0)
    assert torch.allclose(found.bias, module(zero).flatten(), rtol=0, atol=1e-14)
    module.float()


@pytest.mark.parametrize(("module", "shape"), MODULES, ids=IDS)
@pytest.mark.parametrize("activation", [None, nn.Sigmoid()], ids=str)
def test_every_pair_equals_rational_arithmetic(module, shape, activation):
    module = settled(module)
    out_range = (0.0, 1.0) if activation else (-2.0, 2.0)
    options = {"in_range": (-1.0, 0.5), "out_range": out_range, "in_bins": 3, "out_bins": 4}
    affine = find_affine(module, shape)
    # Fractions of sums of many uniforms take minutes: outputs of few inputs.
    few = [b for b in range(len(affine.weight)) if (affine.weight[b] != 0).sum() <= 6][::2][:3]
    edges = preimage_edges(monotone_rule(activation), out_range, 4).tolist()
    question = affine.weight[few].tolist(), affine.bias[few].tolist(), edges, (-1.0, 0.5), 3
    truth = torch.from_numpy(rational_parts(*question))
    parts = ei_parts(module, activation, in_shape=shape, method="exact", **options)
    assert parts.shape == (math.prod(shape), len(affine.weight))
    # Results up to 2 bits are rounded to single precision; 12 cells err by 2e-12 each.
    assert torch.allclose(parts[:, few].double(), truth, rtol=0, atol=1e-6)
    alone = torch.from_numpy(overlap_sensitivity(*question))
    found = sensitivity(module, activation, in_shape=shape, method="exact", **options)
    assert torch.allclose(found[:, few].double(), alone, rtol=0, atol=1e-6)
    # Inputs that an output does not read tell nothing, to the last digit.
    silent = affine.weight.T == 0
    assert not parts[silent].any()
    assert not found[silent].any()


def test_samples_come_to_the_exact_parts_of_a_chain():
    chain = settled(
        nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2, 3))
    )
    options = {"in_shape": (1, 3, 3), "in_range": (-1, 1), "in_bins": 8, "out_bins": 8}
    truth = ei_parts(chain, nn.Tanh(), **options)
    sampled = ei_parts(chain, nn.Tanh(), method="sampled", num_samples=40_000, **options)
    assert ((sampled - truth).abs() < 5 * ((2 * truth / 40_000).sqrt() / math.log(2) + 1e-3)).all()


def test_a_chain_of_linear_layers_is_the_layer_of_their_product():
    torch.manual_seed(0)
    first, second = nn.Linear(5, 4).double(), nn.Linear(4, 3).double()
    product = nn.Linear(5, 3).double()
    product.weight.data, product.bias.data = second.weight @ first.weight, second(first.bias)
    options = {"in_range": (-1, 1), "in_bins": 8, "out_bins": 8}
    for measure in (ei_parts, sensitivity):
        chain = measure(nn.Sequential(first, nn.Identity(), second), nn.Tanh(), in_shape=(5,), **options)
        assert torch.allclose(chain, measure(product, nn.Tanh(), **options), rtol=0, atol=1e-9)


@pytest.mark.parametrize("bins", [4, 64])
def test_what_only_moves_numbers_has_one_whole_input_an_output(bins):
    options = {"in_range": (0, 1), "out_range": (0, 1), "in_bins": bins, "out_bins": bins}
    for measure in (ei_parts, sensitivity):
        bits = measure(nn.Flatten(), in_shape=(1, 28, 28), **options)
        assert torch.equal(bits, math.log2(bins) * torch.eye(784))
        padded = measure(nn.ZeroPad1d((0, 2)), in_shape=(1, 3), **options)
        assert torch.equal(padded, math.log2(bins) * torch.eye(3, 5))


def test_batch_norm_in_evaluation_mode_scales_every_feature_alone():
    norm = nn.BatchNorm1d(3, eps=0.0).eval()
    norm.running_mean.copy_(torch.tensor([0.0, 0.5, 0.0]))
    norm.running_var.copy_(torch.tensor([1.0, 1.0, 4.0]))
    # x, x - 1/2 and x / 2 for x in (0, 1): all, half and half of the four output bins, half the samples of the second.
    bits = ei_parts(norm, in_shape=(3,), in_range=(0, 1), out_range=(0, 1), in_bins=4, out_bins=4, method="exact")
    assert torch.allclose(bits, torch.diag(torch.tensor([2.0, 1.0, 1.0])), rtol=0, atol=1e-6)


def test_without_a_shape_pooling_is_one_window():
    options = {"in_range": (0, 1), "out_range": (0, 0.5), "in_bins": 4, "out_bins": 4}
    window = nn.Linear(6, 1, bias=False)
    nn.init.constant_(window.weight, 1 / 6)
    for measure in (ei_parts, sensitivity):
        expected = measure(window, **options)
        assert torch.allclose(measure(nn.AvgPool2d((2, 3)), **options), expected, rtol=0, atol=1e-6)
        whole = measure(nn.AvgPool2d((2, 3)), in_shape=(2, 2, 6), **options)
        assert whole.shape == (24, 4)
        assert (whole != 0).sum(0).tolist() == [6] * 4
        assert torch.allclose(whole[whole != 0], expected[0, 0], rtol=0, atol=1e-6)


def test_outputs_that_are_alike_are_worked_out_once(monkeypatch):
    worked_out = []

    def counting(layer, *arguments):
        worked_out.append(layer.weight.shape)
        return parts(layer, *arguments)

    parts = exact._parts
    monkeypatch.setattr(exact, "_parts", counting)
    ei_parts(nn.AvgPool2d(2), in_shape=(3, 8, 8), in_range=(0, 1), out_range=(0, 1), in_bins=4, out_bins=4)
    assert worked_out == [(1, 4)]


def test_the_inputs_that_outputs_read_come_first_in_their_order():
    weight = torch.tensor([[0.0, 2.0, 0.0, -1.0], [3.0, 0.0, 0.0, 0.0]])
    assert weight.gather(1, connected_inputs(weight)).tolist() == [[2.0, -1.0], [3.0, 0.0]]
    assert connected_inputs(torch.zeros(3, 4)).shape == (3, 0)
    dense = torch.ones(2, 3)
    assert torch.equal(dense.gather(1, connected_inputs(dense)), dense)


def test_only_connected_pairs_are_chosen_from():
    options = {"in_range": (0, 1), "out_range": (0, 1), "in_bins": 8, "out_bins": 8, "in_shape": (64,)}
    found = causal_measures(nn.Identity(), max_pairs=64, **options)
    assert (float(found.parts.value), found.parts.kind) == (64 * 3, "exact")
    assert (float(found.degeneracy.value), found.degeneracy.kind) == (0, "exact")
    some = causal_measures(nn.Identity(), max_pairs=32, **options)
    assert float(some.parts.value) == pytest.approx(64 * 3)
    assert some.parts.kind == "estimate"


def test_vectors_are_asked_of_the_module_and_not_of_its_map():
    calls = []
    module = nn.Identity()
    options = {"in_range": (0, 1), "out_range": (0, 1), "in_bins": 4, "out_bins": 4, "in_shape": (2,)}
    module.register_forward_hook(lambda _, args, answer: calls.append(len(answer)))
    effective_information(module, num_samples=5_000, **options)
    assert sum(calls) > 5_000


class Doubled(nn.Linear):
    def forward(self, x):
        return super().forward(x).square()


@pytest.mark.parametrize(
    ("module", "shape", "text"),
    [
        (
            nn.BatchNorm1d(3),
            (3,),
            r"BatchNorm1d in training mode takes mean and variance from its inputs. Call its eval",
        ),
        (nn.InstanceNorm1d(3).eval(), (3, 2), r"InstanceNorm1d without running statistics takes mean"),
        (nn.Sequential(nn.Linear(3, 3), nn.Dropout()), (3,), r"Dropout in training mode is random. Call its eval"),
        (
            nn.MaxPool1d(2),
            (1, 4),
            r"MaxPool1d is not an affine layer this method knows \(Linear, conv.*average pooling",
        ),
        (nn.Sequential(nn.Linear(3, 3), nn.ReLU()), (3,), r"ReLU is not an affine layer"),
        (nn.Sequential(Doubled(3, 3)), (3,), r"Doubled is not an affine layer"),
        (nn.Flatten(), None, r"what Flatten does depends on the shape of its input: pass in_shape="),
        (nn.Flatten(0), (3,), r"Flatten joins samples with each other"),
        (nn.Sequential(nn.Linear(3, 3)), (4,), r"Sequential cannot be called with in_shape=\(4,\): mat1 and mat2"),
    ],
    ids=lambda value: str(value)[:25],
)
def test_exact_method_says_why_a_module_has_no_map(module, shape, text):
    with pytest.raises(ValueError, match=rf"ei_parts\(method='exact'\): {text}"):
        ei_parts(module, in_shape=shape, in_range=(-1, 1), method="exact")
    assert not has_exact_method(module, None, shape)


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_a_module_with_hooks_has_no_map(register):
    inner = nn.Identity()
    getattr(inner, register)(lambda *seen: seen[-1][0].square())
    for module in (inner, nn.Sequential(inner)):
        with pytest.raises(NotAffineError, match=r"Identity has forward hooks, which may do anything"):
            dense_map(module, (3,), CPU)


class Clamped(nn.Conv1d):
    def _conv_forward(self, *args):
        return super()._conv_forward(*args).clamp(-6, 6)


def test_a_module_that_is_not_affine_over_the_range_of_its_inputs_has_no_map():
    module = nn.Sequential(Clamped(1, 1, 1, bias=False))
    module[0].weight.data.fill_(1)
    options = {"in_range": (-50, 50), "out_range": (-50, 50), "in_bins": 8, "out_bins": 8, "in_shape": (1, 2)}
    with pytest.raises(ValueError, match=r"Sequential does not answer as an affine map does"):
        ei_parts(module, method="exact", **options)
    assert torch.equal(ei_parts(module, **options), ei_parts(module, method="sampled", **options))


class Folded(nn.Conv1d):
    def _conv_forward(self, *args):
        large, small = super()._conv_forward(*args).unbind(1)
        return torch.stack([large, small.abs()], 1)


def test_every_output_is_tried_by_its_own_size():
    module = nn.Sequential(Folded(2, 2, 1, bias=False))
    module[0].weight.data = torch.diag(torch.tensor([1e6, 1.0])).unsqueeze(2)
    with pytest.raises(NotAffineError, match=r"does not answer as an affine map does"):
        dense_map(module, (2, 1), CPU)


class Adapted(nn.Linear):
    def __init__(self):
        super().__init__(3, 2)
        self.more = nn.Parameter(torch.full((2, 3), 9.0))

    def forward(self, x):
        return super().forward(x) + x @ self.more.T


class Largest(nn.AvgPool2d):
    def forward(self, x):
        return nn.functional.max_pool2d(x, 2)


def test_subclasses_that_override_forward_are_asked_and_not_taken_by_their_weights():
    torch.manual_seed(0)
    options = {"in_range": (0, 1), "out_range": (-5, 30), "in_bins": 4, "out_bins": 16}
    layer, plain = Adapted(), nn.Linear(3, 2)
    plain.weight.data, plain.bias.data = layer.weight.data + layer.more.data, layer.bias.data
    for measure in (ei_parts, sensitivity):
        found, truth = measure(layer, in_shape=(3,), **options), measure(plain, **options)
        # 32,768 samples, or 4,096 places: hundredths of a bit.
        assert torch.allclose(found, truth, rtol=0, atol=0.02)
    for module in (layer, Largest(2)):
        assert not has_exact_method(module, None)
        with pytest.raises(ValueError, match=r"in_shape=None\): \w+ has a forward of its own, so that its weights"):
            ei_parts(module, **options)


def test_a_forward_put_onto_a_layer_counts_as_its_own():
    layer = nn.Linear(3, 2)
    layer.forward = lambda x: x.square()
    assert find_affine(layer) is None


def test_hooks_on_a_layer_known_by_its_weights_ask_for_a_shape():
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    options = {"in_range": (0, 1), "out_range": (-2, 2), "in_bins": 4, "out_bins": 4}
    plain = ei_parts(layer, **options)
    layer.register_forward_hook(lambda module, args, answer: torch.zeros_like(answer))
    for method in ("auto", "exact", "sampled"):
        with pytest.raises(ValueError, match=r"in_shape=None\): Linear has forward hooks, which may change what it do"):
            ei_parts(layer, method=method, **options)
    assert torch.equal(ei_parts(layer, in_shape=(), **options), plain)
    assert ei_parts(layer, in_shape=(3,), **options).abs().amax() < 1e-3
    with pytest.raises(ValueError, match=r"method='exact'\): Linear has forward hooks, which may do anything"):
        ei_parts(layer, in_shape=(3,), method="exact", **options)


@pytest.mark.parametrize(
    "wrap", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm]
)
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_what_only_makes_the_weights_changes_nothing(wrap):
    layer = wrap(nn.Linear(3, 2)).eval()
    plain = nn.Linear(3, 2)
    plain.load_state_dict({"weight": layer.weight.detach(), "bias": layer.bias.detach()})
    options = {"in_range": (-1, 1), "in_bins": 4, "out_bins": 4}
    assert torch.equal(ei_parts(layer, **options), ei_parts(plain, **options))


@pytest.mark.parametrize("statistic", ["running_mean", "running_var"])
@pytest.mark.parametrize("method", ["auto", "sampled"])
def test_statistics_that_are_not_finite_are_named_as_outputs_are(statistic, method):
    norm = nn.BatchNorm1d(3).eval()
    getattr(norm, statistic)[0] = math.nan if statistic == "running_var" else math.inf
    with pytest.raises(ValueError, match=r"gives NaN or infinite outputs for inputs in \(0.0, 1.0\)"):
        ei_parts(norm, in_shape=(3,), in_range=(0, 1), method=method)
    with pytest.raises(ValueError, match=r"BatchNorm1d gives NaN or infinite outputs. Look for a diverged layer"):
        ei_parts(norm, in_shape=(3,), in_range=(0, 1), method="exact")


def test_modules_in_training_mode_and_those_with_maps_beyond_the_budget_are_sampled(monkeypatch):
    options = {"in_range": (-1, 1), "in_bins": 4, "out_bins": 4, "num_samples": 512, "in_shape": (3,)}
    norm = nn.BatchNorm1d(3)
    assert torch.equal(ei_parts(norm, **options), ei_parts(norm, method="sampled", **options))
    assert not torch.equal(ei_parts(norm.eval(), **options), ei_parts(norm, method="sampled", **options))
    monkeypatch.setattr(affine_modules, "MEMORY_BUDGET", 8 * 3 * 3 - 1)
    assert torch.equal(ei_parts(norm, **options), ei_parts(norm, method="sampled", **options))
    with pytest.raises(ValueError, match=r"maps 3 numbers to 3: a map of 0 MiB, more than the memory budget of"):
        ei_parts(norm, method="exact", **options)


def test_a_module_in_the_mode_that_it_is_in_is_judged_and_left_in_it():
    norm = nn.BatchNorm1d(3)
    with pytest.raises(NotAffineError):
        require_affine(norm)
    assert norm.training
    dense_map(norm.eval(), (3,), CPU)
    assert (norm.running_mean == 0).all()
    assert norm.weight.dtype == torch.float32
