"""Modules that treat every position of a sequence or image alone, as Linear does over tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lightning_foresight.functional._swap import call_with
from lightning_foresight.probes.isolation import undisturbed


def shape_of_one_input(module: nn.Module, activation: nn.Module | None, source: Tensor) -> tuple[int, ...]:
    """Return the shape of one input of a module, without the batch axis: one position's, if no other plays a part.

    Whether positions are mixed is tried out on noise, with weights moved a little: a block that starts at zero would
    seem to mix nothing; and at every position, since a block may mix some of them only (that of a class token, those of
    a prompt), which takes about the time of one more forward pass. Features are looked for along the last axis (tokens)
    and the one after the batch (images).

    Args:
        module: The module.
        activation: What is applied to its output, if anything.
        source: What it reads in the model, ``(batch, ...)``.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lightning_foresight.probes.positions import shape_of_one_input
        >>> shape_of_one_input(nn.LayerNorm(8), None, torch.zeros(2, 5, 8))
        (1, 8)
        >>> shape_of_one_input(nn.LayerNorm([5, 8]), None, torch.zeros(2, 5, 8))
        (5, 8)
    """
    shape = tuple(source.shape[1:])
    if len(shape) < 2 or not source.is_floating_point():
        return shape
    wide = torch.float64 if source.dtype == torch.float64 else torch.float32
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, *shape, generator=generator).to(source.device, wide)
    state: dict[str, Tensor] = {}
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if value.is_floating_point():
            moved = isinstance(value, nn.Parameter)
            state[name] = value.detach().to(wide, copy=True)
            state[name] += 0.1 * moved * torch.randn(value.shape, generator=generator).to(state[name])

    def answer(values: Tensor) -> Tensor:
        result = call_with(module, state, values.clone())
        return result if activation is None else activation(result)

    with undisturbed(module):
        for axis in (-1, 1) if len(shape) == 2 else (1, -1):
            if _alone(answer, noise, axis):
                ones = [1] * (len(shape) - 1)
                return (*ones, shape[-1]) if axis == -1 else (shape[0], *ones)
    return shape


def _alone(answer: Callable[[Tensor], Tensor], noise: Tensor, axis: int) -> bool:
    """Say whether single positions get the answers that they get among all others."""
    features = noise.movedim(axis, -1)
    single = features.flatten(0, -2)
    ones = (1,) * (noise.dim() - 2)
    try:
        among_others = answer(noise)
        alone = answer(single.reshape(-1, *ones, single.shape[1]).movedim(-1, axis))
    except (RuntimeError, TypeError, ValueError, IndexError, AssertionError):
        return False  # it wants all positions, or more than one tensor
    if not isinstance(among_others, Tensor) or among_others.dim() != noise.dim():
        return False
    expected = among_others.movedim(axis, -1)
    if expected.shape[:-1] != features.shape[:-1] or not isinstance(alone, Tensor):
        return False
    expected = expected.flatten(0, -2)
    if alone.numel() != expected.numel():
        return False
    error = (alone.reshape(expected.shape) - expected).abs().amax()
    return bool(error <= 1e-5 * expected.abs().amax().clamp_min(1))
