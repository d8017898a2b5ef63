"""The dense map behind a weighted layer: one receptive field of a convolution is a small dense layer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_foresight.functional.effective_information.composites import LinearPart

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
AFFINE_LAYERS = (nn.Linear, LinearPart, *_CONVOLUTIONS, *_TRANSPOSED)


class Affine(NamedTuple):
    """Weights ``(outputs, inputs)`` and biases ``(outputs,)`` of ``z = weight @ x + bias``."""

    weight: Tensor
    bias: Tensor


def as_affine(layer: object) -> Affine | None:
    """Return the dense map of a Linear layer or of one receptive field of a convolution; ``None`` for all else.

    The receptive field of a convolution has ``in_channels / groups * kernel`` inputs, in the order of its flattened
    weight, and ``out_channels`` outputs; outputs of different groups read inputs of their own. With stride, the outputs
    of a transposed convolution differ in the taps that reach them: taken is one that the first tap reaches, which has
    the most.
    """
    if not isinstance(layer, AFFINE_LAYERS):
        return None
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


def work_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on devices that have no float64 (Apple's MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64
