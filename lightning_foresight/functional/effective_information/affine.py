"""The dense map behind a weighted layer: one receptive field of a convolution is a small dense layer."""

from __future__ import annotations

from typing import Any, NamedTuple

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


def some_outputs(layer: Any, max_pairs: int | None, generator: torch.Generator | None = None) -> tuple[Any, float]:
    """Return an affine layer with a random choice of its outputs, and their share of all; other layers as they are.

    A pair's bits depend on all inputs of the layer, but on no other output.

    Args:
        layer: The layer.
        max_pairs: Largest number of (input, output) pairs, no limit when ``None``; two outputs are kept in any case,
            for a standard error.
        generator: Draws the outputs; the first ones are taken when ``None``.
    """
    affine = None if max_pairs is None else as_affine(layer)
    if max_pairs is None or affine is None:
        return layer, 1.0
    weight, bias = affine
    outputs, inputs = weight.shape
    kept = max(2, max_pairs // max(1, inputs))
    if kept >= outputs:
        return layer, 1.0
    chosen = torch.arange(kept, device=weight.device)
    if generator is not None:
        chosen = torch.randperm(outputs, generator=generator, device=generator.device)[:kept].to(weight.device)
    # A dense layer has the same pairs as the receptive field of a convolution.
    fewer = nn.utils.skip_init(nn.Linear, inputs, kept)
    fewer.weight = nn.Parameter(weight[chosen], requires_grad=False)
    fewer.bias = nn.Parameter(bias[chosen], requires_grad=False)
    return fewer, kept / outputs


def work_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on devices that have no float64 (Apple's MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64
