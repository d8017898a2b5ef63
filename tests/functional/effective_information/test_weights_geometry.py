"""Random layers against dense float64 matrices from autograd: another path to every row and column."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_foresight.functional import LayerCall, weight_effective_information, weight_ei
from lightning_foresight.functional.effective_information import _layer_sums
from lightning_foresight.functional.effective_information._axes import conv_axis, transposed_conv_axis
from lightning_foresight.functional.effective_information._geometry import combine_axes
from tests.reference.dense_connectivity import dense_matrix, dense_weight_ei

# Rounding in float64, times a few thousand terms.
TOLERANCE = 1e-10
NORMS = ("lin", "soft", "sig")
MAX_LENGTH = {1: 14, 2: 7, 3: 4}


def assert_agrees_with_dense_twin(layer: nn.Module, in_shape: tuple[int, ...]) -> None:
    layer = layer.double()
    matrix = dense_matrix(layer, in_shape)
    for norm in NORMS:
        result = weight_effective_information(layer, torch.zeros(1, *in_shape, dtype=torch.float64), norm=norm)
        for key, value in dense_weight_ei([matrix], norm).items():
            assert abs(float(getattr(result, key)) - value) < TOLERANCE, (norm, key)


def fits(layer: nn.Module, in_shape: tuple[int, ...]) -> bool:
    """Whether PyTorch itself accepts the layer on that shape."""
    try:
        return layer(torch.zeros(1, *in_shape)).numel() > 0
    except RuntimeError:
        return False


@st.composite
def per_axis(draw: st.DrawFn, dims: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(draw(st.integers(low, high)) for _ in range(dims))


@st.composite
def images(draw: st.DrawFn, channels: int, dims: int) -> tuple[int, ...]:
    return (channels, *draw(per_axis(dims, 2, MAX_LENGTH[dims])))


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1, 3), st.integers(1, 3), st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
def test_convolutions_of_any_geometry(data, dims, groups, mode):
    in_channels, out_channels = (groups * data.draw(st.integers(1, 2)) for _ in range(2))
    padding = data.draw(st.sampled_from(["same", "valid"]) | per_axis(dims, 0, 3))
    stride = (1,) * dims if padding == "same" else data.draw(per_axis(dims, 1, 3))
    kernel, dilation = data.draw(per_axis(dims, 1, 4)), data.draw(per_axis(dims, 1, 2))
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    layer = kind(in_channels, out_channels, kernel, stride, padding, dilation, groups, padding_mode=mode)
    in_shape = data.draw(images(in_channels, dims))
    assume(fits(layer, in_shape))
    assert_agrees_with_dense_twin(layer, in_shape)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(["zeros", "reflect", "replicate", "circular", "transposed"]))
def test_long_axes_whose_middle_is_cut_out(data, mode):
    kernel, stride, dilation = (data.draw(st.integers(1, high)) for high in (3, 3, 2))
    padding, length = data.draw(st.integers(0, 2)), data.draw(st.integers(30, 90))
    if mode == "transposed":
        layer = nn.ConvTranspose1d(1, 2, kernel, stride, padding, dilation=dilation)
    else:
        layer = nn.Conv1d(1, 2, kernel, stride, padding, dilation, padding_mode=mode)
    assert_agrees_with_dense_twin(layer, (1, length))


@pytest.mark.parametrize("transposed", [False, True])
def test_a_second_of_sound_is_no_larger_than_its_ends(transposed):
    axis = (transposed_conv_axis if transposed else conv_axis)(16000, 16000, 9, 1, 4, 1, *["zeros"][transposed:])
    assert len(axis.sources) < 9 * 100
    sizes = combine_axes((axis,))
    assert (sizes.num_sources, sizes.num_targets) == (16000, 16000)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 3), st.integers(1, 3))
def test_transposed_convolutions_of_any_geometry(data, dims, groups):
    in_channels, out_channels = (groups * data.draw(st.integers(1, 2)) for _ in range(2))
    kernel, stride, dilation = (data.draw(per_axis(dims, 1, high)) for high in (4, 3, 2))
    output_padding = tuple(data.draw(st.integers(0, max(pair) - 1)) for pair in zip(stride, dilation, strict=True))
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[dims - 1]
    padding = data.draw(per_axis(dims, 0, 2))
    layer = kind(in_channels, out_channels, kernel, stride, padding, output_padding, groups, True, dilation)
    in_shape = data.draw(images(in_channels, dims))
    assume(fits(layer, in_shape))
    assert_agrees_with_dense_twin(layer, in_shape)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 3), st.booleans(), st.booleans(), st.sampled_from([None, 3]))
def test_average_pools_of_any_geometry(data, dims, ceil_mode, count_include_pad, divisor):
    kernel, stride = data.draw(per_axis(dims, 1, 4)), data.draw(per_axis(dims, 1, 3))
    padding = tuple(data.draw(st.integers(0, size // 2)) for size in kernel)
    kind = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)[dims - 1]
    extra = {} if dims == 1 else {"divisor_override": divisor}
    layer = kind(kernel, stride, padding, ceil_mode, count_include_pad, **extra)
    in_shape = data.draw(images(data.draw(st.integers(1, 3)), dims))
    assume(fits(layer, in_shape))
    assert_agrees_with_dense_twin(layer, in_shape)


@settings(max_examples=20, deadline=None)
@given(st.data(), st.integers(1, 3))
def test_adaptive_average_pools_of_any_geometry(data, dims):
    kind = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[dims - 1]
    in_shape = data.draw(images(data.draw(st.integers(1, 3)), dims))
    assert_agrees_with_dense_twin(kind(data.draw(per_axis(dims, 1, 5))), in_shape)


@pytest.mark.parametrize("in_shape", [(6,), (3, 6), (2, 3, 6)])
def test_linear_layers_apply_to_every_position(in_shape):
    assert_agrees_with_dense_twin(nn.Linear(6, 4), in_shape)


@pytest.mark.parametrize("in_shape", [(), (3,)])
def test_embeddings_apply_to_every_position(in_shape):
    embedding = nn.Embedding(7, 4).double()
    call = LayerCall("embedding", embedding, torch.Size(in_shape), torch.Size((*in_shape, 4)))
    matrix = dense_matrix(embedding, in_shape)
    for norm in NORMS:
        result = weight_ei([call], norm=norm)
        for key, value in dense_weight_ei([matrix], norm).items():
            assert abs(float(getattr(result, key)) - value) < TOLERANCE, (norm, key)


@pytest.mark.parametrize("norm", NORMS)
def test_work_in_chunks_gives_the_same_as_work_in_one_go(norm, monkeypatch):
    layers = [nn.Conv2d(6, 8, 3), nn.Conv2d(6, 6, 3, groups=3), nn.ConvTranspose2d(6, 4, 3)]
    example = torch.zeros(1, 6, 7, 7)
    whole = [weight_effective_information(layer, example, norm=norm) for layer in layers]
    monkeypatch.setattr(_layer_sums, "MEMORY_BUDGET", 700)
    monkeypatch.setattr(_layer_sums, "CPU_BLOCK_BYTES", 500)
    for layer, expected in zip(layers, whole, strict=True):
        # Only the order of float32 sums differs.
        torch.testing.assert_close(weight_effective_information(layer, example, norm=norm)[:4], expected[:4])
