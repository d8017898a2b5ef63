"""The linear map of a layer as a kernel and the positions that share it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lightning_foresight.functional._trace import LayerCall
from lightning_foresight.functional.effective_information._axes import (
    adaptive_windows,
    conv_axis,
    pool_axis,
    pool_windows,
    transposed_conv_axis,
)
from lightning_foresight.functional.effective_information._geometry import Geometry, combine_axes, move_geometry
from lightning_foresight.functional.effective_information.composites import COMPOSITES, LinearPart, is_composite


class KernelOperator(NamedTuple):
    """A linear map that applies one kernel at many positions.

    Attributes:
        kernel: Weights, ``(groups, outputs per group, inputs per group, taps)``.
        geometry: Where the taps lead.
        copies: How many times the whole block stands side by side, unconnected: tokens of a Linear, channels of a pool.
    """

    kernel: Tensor
    geometry: Geometry
    copies: int

    @property
    def num_inputs(self) -> int:
        """Input nodes: rows of the connectivity matrix."""
        groups, _, inputs, _ = self.kernel.shape
        return self.copies * groups * inputs * self.geometry.num_sources

    @property
    def num_outputs(self) -> int:
        """Output nodes: columns of the connectivity matrix."""
        groups, outputs, _, _ = self.kernel.shape
        return self.copies * groups * outputs * self.geometry.num_targets

    @property
    def fully_connected(self) -> bool:
        """Whether every input node feeds every output node."""
        return self.kernel.shape[1] * self.geometry.min_fan_out == self.num_outputs


def layer_operator(call: LayerCall, device: torch.device) -> KernelOperator:
    """Return the linear map of a traced layer, with its weights as they are now; on ``device`` if it has none."""
    for kind, rule in RULES.items():
        if isinstance(call.module, kind):
            return rule(call, device)
    raise TypeError(
        f"weight_ei(calls): layer {call.name!r} is a {type(call.module).__name__}; expected one of {rule_names()}, as "
        "trace_weight_layers lists them."
    )


def has_rule(module: nn.Module) -> bool:
    """Whether the connectivity of the module's kind is known."""
    return isinstance(module, tuple(RULES)) or is_composite(module)


def rule_names() -> str:
    """Return the kinds of modules whose connectivity is known, for error texts."""
    return ", ".join(kind.__name__ for kind in (*RULES, *COMPOSITES) if kind is not LinearPart)


def _weight(call: LayerCall) -> Tensor:
    weight: Any = call.module.weight
    if not isinstance(weight, Tensor) or weight.is_quantized or not weight.is_floating_point():
        passed = f"dtype {str(weight.dtype).removeprefix('torch.')}" if isinstance(weight, Tensor) else "packed"
        raise TypeError(
            f"weight_ei(calls): the weight of layer {call.name!r} ({type(call.module).__name__}) is {passed}; expected "
            "real floating-point weights. Leave the layer out with layers=, or measure the unconverted model."
        )
    weight = weight.detach()
    return weight.float() if weight.itemsize < 4 else weight


def sum_dtype(device: torch.device) -> torch.dtype:
    """Return the type in which short sums are kept: float64 wherever the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


@lru_cache(maxsize=1024)
def constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return numbers as a tensor that is sent to the device once: a transfer on every step would wait for it."""
    return torch.tensor(values, dtype=dtype, device=device)


@lru_cache(maxsize=1024)
def _moved(key: tuple[Any, ...], build: Callable[..., Geometry], device: torch.device, dtype: torch.dtype) -> Geometry:
    return move_geometry(build(*key), device, dtype, sum_dtype(device))


def _build_conv(
    sources: tuple[int, ...], targets: tuple[int, ...], settings: tuple[tuple[int, int, int, int], ...], mode: str
) -> Geometry:
    return combine_axes(
        tuple(conv_axis(p, q, *setting, mode) for p, q, setting in zip(sources, targets, settings, strict=True))
    )


def _build_transposed(
    sources: tuple[int, ...], targets: tuple[int, ...], settings: tuple[tuple[int, int, int, int], ...]
) -> Geometry:
    return combine_axes(
        tuple(transposed_conv_axis(p, q, *setting) for p, q, setting in zip(sources, targets, settings, strict=True))
    )


def _spatial(call: LayerCall, dims: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if len(call.in_shape) != dims + 1:
        raise ValueError(
            f"weight_ei(calls): layer {call.name!r} ({type(call.module).__name__}) was given an input of shape "
            f"(batch, {', '.join(map(str, call.in_shape))}); expected {dims + 2} axes. Trace with a batch axis."
        )
    return tuple(call.in_shape[1:]), tuple(call.out_shape[1:])


def _tuple(value: Any, dims: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * dims


def _conv(call: LayerCall, device: torch.device) -> KernelOperator:
    module: Any = call.module
    dims = len(module.kernel_size)
    sources, targets = _spatial(call, dims)
    if module.padding == "same":
        padding = tuple(d * (k - 1) // 2 for d, k in zip(module.dilation, module.kernel_size, strict=True))
    else:
        padding = (0,) * dims if module.padding == "valid" else module.padding
    settings = tuple(zip(module.kernel_size, module.stride, padding, module.dilation, strict=True))
    weight = _weight(call)
    geometry = _moved((sources, targets, settings, module.padding_mode), _build_conv, weight.device, weight.dtype)
    kernel = weight.reshape(module.groups, module.out_channels // module.groups, weight.shape[1], -1)
    if geometry.slots is not None:
        kernel = (kernel.to(geometry.slots.dtype) @ geometry.slots.T).to(kernel.dtype)
    return KernelOperator(kernel, geometry, 1)


def _transposed_conv(call: LayerCall, device: torch.device) -> KernelOperator:
    module: Any = call.module
    sources, targets = _spatial(call, len(module.kernel_size))
    settings = tuple(zip(module.kernel_size, module.stride, module.padding, module.dilation, strict=True))
    weight = _weight(call)
    geometry = _moved((sources, targets, settings), _build_transposed, weight.device, weight.dtype)
    kernel = weight.reshape(module.groups, module.in_channels // module.groups, weight.shape[1], -1)
    return KernelOperator(kernel.transpose(1, 2), geometry, 1)


def _no_positions(weight: Tensor) -> Geometry:
    return _moved((), _build_single, weight.device, weight.dtype)


def _build_single() -> Geometry:
    return combine_axes(())


def _linear(call: LayerCall, device: torch.device) -> KernelOperator:
    weight = _weight(call)
    if not call.in_shape:
        raise ValueError(
            f"weight_ei(calls): layer {call.name!r} (Linear) was given an input of one axis; expected "
            "(batch, ..., features). Trace with a batch axis."
        )
    return KernelOperator(weight[None, :, :, None], _no_positions(weight), math.prod(call.in_shape[:-1]))


def _embedding(call: LayerCall, device: torch.device) -> KernelOperator:
    # A Linear over one-hot codes: each entry of the vocabulary is an input node, at every position.
    weight = _weight(call)
    return KernelOperator(weight.T[None, :, :, None], _no_positions(weight), math.prod(call.in_shape))


def _build_pool(
    sources: tuple[int, ...],
    targets: tuple[int, ...],
    settings: tuple[tuple[int, int, int], ...],
    include_padding: bool,
    divisor: int | None,
) -> Geometry:
    axes = []
    for at, (p, q, setting) in enumerate(zip(sources, targets, settings, strict=True)):
        starts, stops, divisors = pool_windows(p, q, *setting, include_padding)
        if divisor is not None:
            divisors = np.full(q, divisor if at == 0 else 1)
        axes.append(pool_axis(starts, stops, divisors, p))
    return combine_axes(tuple(axes))


def _build_adaptive_pool(sources: tuple[int, ...], targets: tuple[int, ...]) -> Geometry:
    windows = (adaptive_windows(p, q) for p, q in zip(sources, targets, strict=True))
    return combine_axes(tuple(pool_axis(*window, p) for window, p in zip(windows, sources, strict=True)))


def _pool(
    call: LayerCall, key: tuple[Any, ...], build: Callable[..., Geometry], device: torch.device
) -> KernelOperator:
    geometry = _moved(key, build, device, sum_dtype(device))
    kernel = geometry.source_sizes.new_ones(1) if geometry.slots is None else geometry.slots[:, 0]
    return KernelOperator(kernel[None, None, None], geometry, call.in_shape[0])


def _avg_pool(call: LayerCall, device: torch.device) -> KernelOperator:
    module: Any = call.module
    dims = {nn.AvgPool1d: 1, nn.AvgPool2d: 2, nn.AvgPool3d: 3}[next(k for k in _POOLS if isinstance(module, k))]
    sources, targets = _spatial(call, dims)
    settings = tuple(
        zip(*(_tuple(value, dims) for value in (module.kernel_size, module.stride, module.padding)), strict=True)
    )
    key = (sources, targets, settings, module.count_include_pad, getattr(module, "divisor_override", None))
    return _pool(call, key, _build_pool, device)


def _adaptive_avg_pool(call: LayerCall, device: torch.device) -> KernelOperator:
    dims = next(n for n, kind in enumerate(_ADAPTIVE_POOLS, 1) if isinstance(call.module, kind))
    return _pool(call, _spatial(call, dims), _build_adaptive_pool, device)


_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_ADAPTIVE_POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)

RULES: dict[type[nn.Module], Callable[[LayerCall, torch.device], KernelOperator]] = {
    nn.Linear: _linear,
    LinearPart: _linear,
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), _conv),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), _transposed_conv),
    **dict.fromkeys(_POOLS, _avg_pool),
    **dict.fromkeys(_ADAPTIVE_POOLS, _adaptive_avg_pool),
    nn.Embedding: _embedding,
}
