"""Modules that are affine as a whole, for inputs of one shape: their dense map, found by asking them."""

from __future__ import annotations

import math
from itertools import chain

import torch
from torch import Tensor, nn

from lightning_foresight.functional._memory import MEMORY_BUDGET, chunks
from lightning_foresight.functional._swap import call_with
from lightning_foresight.functional.effective_information.affine import (
    AFFINE_LAYERS,
    AVERAGE_POOLS,
    Affine,
    as_affine,
    has_foreign_hooks,
    runs_as,
    work_dtype,
)

_ALWAYS = (
    *AFFINE_LAYERS, *AVERAGE_POOLS,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.Identity, nn.Flatten, nn.Unflatten, nn.Fold, nn.Unfold, nn.Upsample,
    nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle,
    nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d, nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d,
    nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d,
    nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d,
)  # fmt: skip
_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
KNOWN = (
    "Linear, convolutions, average pooling, Embedding; with in_shape= also BatchNorm and dropout in evaluation mode, "
    "Identity, Flatten, Unflatten, padding, PixelShuffle, Upsample, and nn.Sequential of these"
)
ADVICE = "Call its eval() if that is how it is meant, or use method='sampled'."
# Noise of this many inputs shows whether a map that was found is that of the module.
TRIALS = 4


class NotAffineError(ValueError):
    """Says why a layer has no dense map, and what to do."""


def affine_map(
    layer: object, in_shape: tuple[int, ...], device: torch.device, in_range: tuple[float, float] | None = None
) -> Affine:
    """Return the dense map by which a layer is measured exactly, in working precision.

    Args:
        layer: The layer, in the mode in which it is meant.
        in_shape: Shape of one input; ``()`` for one receptive field.
        device: Where the layer lies.
        in_range: Range of its inputs, over which it has to be affine.

    Raises:
        NotAffineError: If there is none.
    """
    field = None if in_shape else as_affine(layer)
    if field is not None:
        work = work_dtype(device)
        return Affine(field.weight.to(device, work), field.bias.to(device, work))
    require_affine(layer)
    assert isinstance(layer, nn.Module)
    if not in_shape:
        raise NotAffineError(f"what {type(layer).__name__} does depends on the shape of its input: pass in_shape=")
    return dense_map(layer, in_shape, device, in_range)


def find_affine(layer: object, in_shape: tuple[int, ...] | None = None) -> Affine | None:
    """Return the dense map by which a layer is measured exactly; ``None`` where there is none."""
    try:
        return affine_map(layer, shape_asked_for(layer, in_shape), place_of(layer)[1])
    except NotAffineError:
        return None


def shape_asked_for(layer: object, in_shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the shape of one input, ``()`` of what is known by its weights; average pooling may be either.

    What has hooks is asked as it is, unless ``in_shape`` is ``()``.
    """
    by_weights = isinstance(layer, nn.Embedding) or (runs_as(layer, AFFINE_LAYERS) and not has_foreign_hooks(layer))
    return () if by_weights or in_shape is None else tuple(in_shape)


def place_of(layer: object, generator: torch.Generator | None = None) -> tuple[torch.dtype, torch.device]:
    """Return type and device of a layer's weights or running statistics, the generator's device where it has none."""
    if isinstance(layer, nn.Module):
        for tensor in chain(layer.parameters(), layer.buffers()):
            if tensor.is_floating_point():
                return tensor.dtype, tensor.device
    return torch.get_default_dtype(), torch.device("cpu") if generator is None else generator.device


def require_affine(layer: object) -> None:
    """Require a module that is known to be affine in the mode that it is in.

    Raises:
        NotAffineError: If it is not.
    """
    name = type(layer).__name__
    if has_foreign_hooks(layer):
        raise NotAffineError(f"{name} has forward hooks, which may do anything. Remove them, or use method='sampled'.")
    if runs_as(layer, (nn.Sequential,)):
        for child in layer:  # type: ignore[attr-defined]
            require_affine(child)
    elif runs_as(layer, _NORMS):
        if layer.training or layer.running_mean is None:  # type: ignore[attr-defined]
            mode = "in training mode" if layer.training else "without running statistics"  # type: ignore[attr-defined]
            raise NotAffineError(f"{name} {mode} takes mean and variance from its inputs. {ADVICE}")
    elif runs_as(layer, _DROPOUT):
        if layer.training:  # type: ignore[attr-defined]
            raise NotAffineError(f"{name} in training mode is random. {ADVICE}")
    elif not runs_as(layer, _ALWAYS):
        raise NotAffineError(f"{name} is not an affine layer this method knows ({KNOWN}). Use method='sampled'.")


def dense_map(
    layer: nn.Module, in_shape: tuple[int, ...], device: torch.device, in_range: tuple[float, float] | None = None
) -> Affine:
    """Return the map of a module that is known to be affine, from its answers to 0 and to every unit vector.

    Weights that rounding cannot tell from 0 are 0: what an output does not read, it does not read at all.

    Args:
        layer: The module, in the mode in which it is meant.
        in_shape: Shape of one input, without the batch axis.
        device: Where its weights lie.
        in_range: Range of its inputs, in which the map is tried out; around 0 when ``None``.

    Raises:
        NotAffineError: If it is not known to be affine, does not take inputs of this shape, or its map does not fit
            into the memory budget.
    """
    require_affine(layer)
    name, inputs, dtype = type(layer).__name__, math.prod(in_shape), work_dtype(device)
    state = {
        key: value.detach().to(dtype, copy=True)
        for key, value in (*layer.named_parameters(), *layer.named_buffers())
        if value.is_floating_point()
    }

    def answer(rows: Tensor) -> Tensor:
        found = call_with(layer, state, rows.view(-1, *in_shape))
        if len(found) != len(rows):
            raise NotAffineError(f"{name} joins samples with each other. Use method='sampled'.")
        return found.reshape(len(rows), -1)

    with torch.no_grad():
        try:
            bias = answer(torch.zeros(1, inputs, dtype=dtype, device=device))[0]
        except (RuntimeError, TypeError, IndexError) as error:
            raise NotAffineError(f"{name} cannot be called with in_shape={in_shape}: {error}.") from error
        size = bias.element_size() * len(bias) * inputs
        if size > MEMORY_BUDGET:
            raise NotAffineError(
                f"{name} maps {inputs} numbers to {len(bias)}: a map of {size >> 20} MiB, more than the memory budget "
                f"of {MEMORY_BUDGET >> 20} MiB (LIGHTNING_FORESIGHT_MEMORY_MIB). Use method='sampled'."
            )
        weight = bias.new_empty(len(bias), inputs)
        for part in chunks(inputs, 4 * bias.element_size() * (inputs + len(bias))):
            rows = bias.new_zeros(part.stop - part.start, inputs)
            rows[:, part].fill_diagonal_(1)
            weight[:, part] = (answer(rows) - bias).T
        weight[weight.abs() <= 8 * torch.finfo(dtype).eps * bias.abs().unsqueeze(1)] = 0
        if not torch.stack([*weight.aminmax(), *bias.aminmax()]).isfinite().all():
            raise NotAffineError(f"{name} gives NaN or infinite outputs. Look for a diverged layer.")
        low, high = in_range or (-2.0, 2.0)
        noise = torch.rand(TRIALS, inputs, generator=torch.Generator().manual_seed(0), dtype=dtype).to(device)
        noise = noise * (high - low) + low
        expected = torch.addmm(bias, noise, weight.T)
        # Every output by its own size, but for what rounding leaves of the largest ones on the way to it.
        reach = torch.addmm(bias.abs(), noise.abs(), weight.abs().T)
        allowed = 1e-4 * reach + 1e3 * torch.finfo(dtype).eps * reach.amax()
        # A known module may call something of one's own.
        if not ((answer(noise.clone()) - expected).abs() <= allowed).all():
            raise NotAffineError(f"{name} does not answer as an affine map does. Use method='sampled'.")
    return Affine(weight, bias)
