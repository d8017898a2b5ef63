"""The dense map behind a weighted layer: one receptive field of a convolution is a small dense layer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

AFFINE_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Affine(NamedTuple):
    """Weights ``(outputs, inputs)`` and biases ``(outputs,)`` of ``z = weight @ x + bias``."""

    weight: Tensor
    bias: Tensor


def as_affine(layer: object) -> Affine | None:
    """Return the dense map of a Linear layer or of one receptive field of a convolution; ``None`` for all else.

    The receptive field of a convolution has ``in_channels / groups * kernel`` inputs, in the order of its flattened
    weight, and ``out_channels`` outputs; outputs of different groups read inputs of their own.
    """
    if not isinstance(layer, AFFINE_LAYERS):
        return None
    weight = layer.weight.detach().flatten(1)
    bias = weight.new_zeros(weight.shape[0]) if layer.bias is None else layer.bias.detach()
    return Affine(weight, bias)


def work_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on devices that have no float64 (Apple's MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64
