"""The dense map behind a weighted layer: one receptive field of a convolution is a small dense layer."""

from __future__ import annotations

from typing import Any, NamedTuple

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


def some_outputs(layer: Any, max_pairs: int | None, generator: torch.Generator | None = None) -> tuple[Any, float]:
    """Return an affine layer with a random choice of its outputs, and their share of all; other layers as they are.

    A pair's bits depend on all inputs of the layer, but on no other output.

    Args:
        layer: The layer.
        max_pairs: Largest number of (input, output) pairs, no limit when ``None``; two outputs are kept in any case,
            for a standard error.
        generator: Draws the outputs; the first ones are taken when ``None``.
    """
    if max_pairs is None or not isinstance(layer, AFFINE_LAYERS):
        return layer, 1.0
    weight = layer.weight.detach().flatten(1)
    outputs, inputs = weight.shape
    kept = max(2, max_pairs // max(1, inputs))
    if kept >= outputs:
        return layer, 1.0
    chosen = torch.arange(kept, device=weight.device)
    if generator is not None:
        chosen = torch.randperm(outputs, generator=generator, device=generator.device)[:kept].to(weight.device)
    # A dense layer has the same pairs as the receptive field of a convolution.
    fewer = nn.utils.skip_init(nn.Linear, inputs, kept, bias=layer.bias is not None)
    fewer.weight = nn.Parameter(weight[chosen], requires_grad=False)
    if layer.bias is not None:
        fewer.bias = nn.Parameter(layer.bias.detach()[chosen], requires_grad=False)
    return fewer, kept / outputs


def work_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on devices that have no float64 (Apple's MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64
