"""Squared norms of per-example gradients from a layer's inputs and output gradients, without forming any gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_foresight.functional.gradient_noise.outer_products import Dense, Indexed, inner_products, sq_norms

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
SCALINGS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, *BATCH_NORMS)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
SUPPORTED = (nn.Linear, nn.Embedding, *CONVOLUTIONS, *SCALINGS)


class Uses:
    """All that one backward pass showed of one parameter.

    Args:
        total: Sum over the examples, which passes over memory less often than norms of single ones take.
    """

    def __init__(self, *, total: bool = False) -> None:
        self.total = total
        self.outer: list[Dense | Indexed] = []
        self.vector: Tensor | None = None  # (examples, elements)
        self.count = 0
        self._parts: list[Tensor] = []  # of the squared norms

    def add_outer(self, value: Dense | Indexed) -> None:
        """Add outer products, and measure them while they are in the caches."""
        self._parts.append(sq_norms(value, total=self.total))
        for earlier in self.outer:  # a tied parameter: its gradients add up before squaring
            if earlier.block == value.block:
                self._parts.append(2 * inner_products(earlier, value, total=self.total))
        self.outer.append(value)

    def add_vector(self, value: Tensor) -> None:
        """Add to the gradient itself, for parameters as small as a bias."""
        self.vector = value if self.vector is None else self.vector + value

    def settle(self) -> None:
        """Let go of everything but the squared norms, since no other use will follow."""
        self._parts = [self.sq_norms()]
        self.outer, self.vector = [], None

    def sq_norms(self) -> Tensor:
        """Return the squared norms of the examples' gradients, shape (examples,), or () for their sum."""
        parts = self._parts
        if self.vector is not None:
            parts = [*parts, torch.linalg.vector_norm(self.vector, dim=None if self.total else 1).square()]
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


def record_uses(module: nn.Module, x: Tensor, d: Tensor, uses: dict[int, Uses], *, total: bool = False) -> None:
    """Add one call of a supported module, with input ``x`` and output gradient ``d``, to its parameters' uses."""
    weight, bias = _use(module, "weight", uses, total), _use(module, "bias", uses, total)
    if isinstance(module, SCALINGS):
        if weight is not None:
            weight.add_vector(_sum_to_features(module, _normalised(module, x).mul_(d)))
        if bias is not None:
            bias.add_vector(_sum_to_features(module, d))
        return
    if isinstance(module, nn.Embedding):
        if weight is not None:
            tokens = d.flatten(1, -2) if d.ndim > 2 else d.unsqueeze(1)
            rows = x.reshape(len(x), -1)
            if module.padding_idx is not None:
                tokens = tokens * (rows != module.padding_idx).unsqueeze(2)
            weight.add_outer(Indexed(rows, tokens))
        return
    if isinstance(module, nn.Linear):
        left = d.flatten(1, -2) if d.ndim > 2 else d.unsqueeze(1)
        if weight is not None:
            weight.add_outer(Dense(left, x.flatten(1, -2) if x.ndim > 2 else x.unsqueeze(1)))
    else:
        left = d.flatten(2).mT
        if weight is not None:
            groups, axis = module.groups, -1 - len(module.kernel_size)  # type: ignore[arg-type]
            pairs = zip(left.chunk(groups, 2), _patches(module, x).chunk(groups, axis), strict=True)  # type: ignore[arg-type]
            for block, (a, b) in enumerate(pairs):
                weight.add_outer(Dense(a, b, block))
    if bias is not None:
        bias.add_vector(left.sum(1))


def _use(module: nn.Module, name: str, uses: dict[int, Uses], total: bool) -> Uses | None:
    """Count a use of a parameter that requires a gradient."""
    parameter = module._parameters.get(name)
    if parameter is None or not parameter.requires_grad:
        return None
    use = uses.get(id(parameter))
    if use is None:
        use = uses[id(parameter)] = Uses(total=total)
    use.count += 1
    return use


def _patches(module: Any, x: Tensor) -> Tensor:
    """Return a view of what the kernel of a convolution sees, shape (examples, places..., channels, taps...)."""
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = F.pad(x, module._reversed_padding_repeated_twice, mode=mode)
    axes = len(module.kernel_size)
    for axis, (size, stride, dilation) in enumerate(
        zip(module.kernel_size, module.stride, module.dilation, strict=True), start=2
    ):
        x = x.unfold(axis, (size - 1) * dilation + 1, stride)[..., ::dilation]
    return x.movedim(1, 1 + axes)


def _normalised(module: nn.Module, x: Tensor) -> Tensor:
    """Return what a normalisation layer multiplies by its weight."""
    if isinstance(module, nn.LayerNorm):
        # The same as layer_norm, which takes twice as long on a CPU where it has no weight.
        return torch.group_norm(x.reshape(-1, _size(module.normalized_shape)), 1, eps=module.eps).view_as(x)
    if isinstance(module, nn.RMSNorm):
        return F.rms_norm(x, module.normalized_shape, eps=module.eps)
    if isinstance(module, nn.GroupNorm):
        return F.group_norm(x, module.num_groups, eps=module.eps)
    assert isinstance(module, BATCH_NORMS)
    return F.batch_norm(x, module.running_mean, module.running_var, eps=module.eps)


def _sum_to_features(module: nn.Module, value: Tensor) -> Tensor:
    """Sum over all places that share a feature's weight, shape (examples, features)."""
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        return value.reshape(len(value), -1, _size(module.normalized_shape)).sum(1)
    return value.flatten(2).sum(2) if value.ndim > 2 else value


def _size(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()
