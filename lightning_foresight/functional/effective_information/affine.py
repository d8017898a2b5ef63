"""The dense map behind a layer: one receptive field of a convolution or of pooling is a small dense layer."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_foresight.functional.effective_information.composites import LinearPart

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
AFFINE_LAYERS = (nn.Linear, LinearPart, *_CONVOLUTIONS, *_TRANSPOSED)
AVERAGE_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
# Packages whose forward hooks leave inputs and outputs as they are.
_HARMLESS = ("torch", "lightning_foresight")


class Affine(NamedTuple):
    """Weights ``(outputs, inputs)`` and biases ``(outputs,)`` of ``z = weight @ x + bias``."""

    weight: Tensor
    bias: Tensor


def as_affine(layer: object) -> Affine | None:
    """Return the dense map of a Linear layer, or of one receptive field of a convolution or of average pooling.

    It is ``None`` for all else, subclasses that override ``forward`` among it. Forward hooks are not looked at.

    The receptive field of a convolution has ``in_channels / groups * kernel`` inputs, in the order of its flattened
    weight, and ``out_channels`` outputs; outputs of different groups read inputs of their own. With stride, the outputs
    of a transposed convolution differ in the taps that reach them: taken is one that the first tap reaches, which has
    the most. Pooling treats all channels alike: its window has one output.
    """
    if runs_as(layer, AVERAGE_POOLS):
        return _pooling_window(layer)  # type: ignore[arg-type]
    if not runs_as(layer, AFFINE_LAYERS):
        return None
    assert isinstance(layer, AFFINE_LAYERS)
    weight = layer.weight.detach()
    if isinstance(layer, _TRANSPOSED):
        for axis, (stride, dilation) in enumerate(zip(layer.stride, layer.dilation, strict=True), start=2):
            taps = [tap for tap in range(weight.shape[axis]) if tap * dilation % stride == 0]
            weight = weight.index_select(axis, torch.tensor(taps, device=weight.device))
        # (in, out / groups, taps) -> (out, in / groups, taps)
        weight = weight.flatten(2).unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1)
    weight = weight.flatten(1)
    bias = layer.offset if isinstance(layer, LinearPart) else layer.bias
    return Affine(weight, weight.new_zeros(weight.shape[0]) if bias is None else bias.detach())


def runs_as(layer: object, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Say whether a module is of such a kind and does what that kind does: a subclass may do something else."""
    return any(isinstance(layer, kind) and getattr(layer.forward, "__func__", None) is kind.forward for kind in kinds)


def has_foreign_hooks(layer: object) -> bool:
    """Say whether a module has forward hooks or forward pre-hooks that may change what it does.

    Those of PyTorch (weight norm, pruning, sharding) only keep its weights; our own only watch.
    """
    if not isinstance(layer, nn.Module):
        return False
    hooks = (*layer._forward_pre_hooks.values(), *layer._forward_hooks.values())
    return any(str(getattr(hook, "__module__", "")).partition(".")[0] not in _HARMLESS for hook in hooks)


def connected_inputs(weight: Tensor) -> Tensor:
    """Return the inputs that each output reads, ``(outputs, most that any reads)``, and others where it reads fewer.

    The inputs keep their order, those without weight come last.
    """
    most = int(weight.count_nonzero(1).amax()) if weight.numel() else 0
    # A sort of whole rows is needed only where something is left out.
    if most == weight.shape[1]:
        return torch.arange(most, device=weight.device).expand_as(weight)
    return (weight == 0).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]


def _pooling_window(layer: nn.Module) -> Affine:
    kernel = layer.kernel_size
    axes = next(axes for axes, kind in enumerate(AVERAGE_POOLS, start=1) if isinstance(layer, kind))
    inputs = kernel**axes if isinstance(kernel, int) else math.prod(kernel)  # type: ignore[arg-type]
    share = 1 / (getattr(layer, "divisor_override", None) or inputs)
    return Affine(torch.full((1, inputs), share, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))


def work_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on devices that have no float64 (Apple's MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64
