"""Squared norms of per-example gradients from a layer's inputs and output gradients, without forming any gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_foresight.functional._memory import chunks

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
SCALINGS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, *BATCH_NORMS)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
SUPPORTED = (nn.Linear, nn.Embedding, *CONVOLUTIONS, *SCALINGS)


class Dense(NamedTuple):
    """A matrix parameter's gradient of one example, the sum over tokens of outer products ``left right^T``."""

    left: Tensor  # (examples, tokens, rows)
    right: Tensor  # (examples, tokens, columns), or a view of overlapping patches that flattens to it
    block: int = 0  # which block of the parameter: those of different blocks never meet

    def columns(self, part: slice) -> Tensor:
        """Return ``right`` of some examples; only now are patches copied."""
        return self.right[part].reshape(-1, self.left.shape[1], self.num_columns)

    @property
    def num_columns(self) -> int:
        """Length of a row of the gradient."""
        return self.right[0].numel() // self.left.shape[1]


class Indexed(NamedTuple):
    """The same where every ``left`` is a unit vector, given by the row that it points at."""

    rows: Tensor  # (examples, tokens)
    right: Tensor  # (examples, tokens, columns)
    block: int = 0


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
        self.settled: Tensor | None = None

    def add_vector(self, value: Tensor) -> None:
        """Add to the gradient itself, for parameters as small as a bias."""
        self.vector = value if self.vector is None else self.vector + value

    def settle(self) -> None:
        """Work out the squared norms, since no other use will follow, and let go of everything else."""
        self.settled = self.sq_norms()
        self.outer, self.vector = [], None

    def sq_norms(self) -> Tensor:
        """Return the squared norms of the examples' gradients, shape (examples,), or () for their sum."""
        if self.settled is not None:
            return self.settled
        parts = []
        if self.vector is not None:
            parts.append(torch.linalg.vector_norm(self.vector, dim=None if self.total else 1).square())
        for position, first in enumerate(self.outer):
            parts.append(inner_products(first, first, total=self.total))
            for second in self.outer[position + 1 :]:  # a tied parameter: its gradients add up before squaring
                if first.block == second.block:
                    parts.append(2 * inner_products(first, second, total=self.total))
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


def inner_products(first: Dense | Indexed, second: Dense | Indexed, *, total: bool = False) -> Tensor:
    r"""Inner product of two sums of outer products, per example or in total.

    .. math::
        \Big\langle \sum_t l_t r_t^\top, \sum_s l'_s r_s'^\top \Big\rangle
        = \sum_{t, s} (l_t \cdot l'_s)(r_t \cdot r'_s)

    Where there are more tokens than the gradient is worth, the gradient of each example is formed instead.
    """
    if isinstance(first, Indexed) and isinstance(second, Dense):
        first, second = second, first
    if isinstance(first, Dense) and isinstance(second, Dense):
        return _dense_products(first, second, total=total)

    def overlap(part: slice) -> Tensor:
        products = first.right[part] @ second.right[part].mT  # (examples, tokens, others)
        assert isinstance(second, Indexed)
        if isinstance(first, Indexed):
            alike = first.rows[part].unsqueeze(2) == second.rows[part].unsqueeze(1)
            return _products(products, alike.to(products.dtype), total=total)
        where = second.rows[part].unsqueeze(1).expand(-1, first.left.shape[1], -1)
        return _products(products, first.left[part].gather(2, where), total=total)

    return _by_chunks(overlap, len(first.right), 12 * first.right.shape[1] * second.right.shape[1], total=total)


def _dense_products(first: Dense, second: Dense, *, total: bool) -> Tensor:
    examples, tokens, rows = first.left.shape
    columns, others = first.num_columns, second.left.shape[1]
    itself = second is first
    if tokens == others == 1:
        lefts, rights = (first.left, second.left), (first.columns(slice(None)), second.columns(slice(None)))
        products = (torch.linalg.vecdot(*lefts) * torch.linalg.vecdot(*rights)).squeeze(1)
        return products.sum() if total else products

    def by_gradient(part: slice) -> Tensor:
        gradient = first.left[part].mT @ first.columns(part)
        other = gradient if itself else second.left[part].mT @ second.columns(part)
        return _products(gradient, other, total=total)

    def by_tokens(part: slice) -> Tensor:
        right = first.columns(part)
        lefts, rights = (first.left[part], second.left[part]), (right, right if itself else second.columns(part))
        # The shorter vectors give the weights in sum_ts w_ts (l_t . l'_s): a token by token matrix, and one product
        # with it, are twice as fast as two such matrices, whose products have a long inner and short outer axes.
        short, long = (lefts, rights) if rows < columns else (rights, lefts)
        return _products(short[0] @ short[1].mT @ long[1], long[0], total=total)

    multiplications = tokens * others * (rows + columns)
    if (tokens + (0 if itself else others)) * rows * columns < multiplications:
        return _by_chunks(by_gradient, examples, 8 * (rows * columns + tokens * columns), total=total)
    return _by_chunks(by_tokens, examples, 4 * tokens * (others + 2 * max(rows, columns)), total=total)


def _products(first: Tensor, second: Tensor, *, total: bool) -> Tensor:
    """Return the inner products of arrays of examples, or their sum in a single pass."""
    if total:
        return torch.dot(first.reshape(-1), second.reshape(-1))
    return (first * second).flatten(1).sum(1)


def _by_chunks(compute: Callable[[slice], Tensor], examples: int, bytes_per_example: int, *, total: bool) -> Tensor:
    parts = [compute(part) for part in chunks(examples, bytes_per_example)]
    if len(parts) == 1:
        return parts[0]
    return torch.stack(parts).sum() if total else torch.cat(parts)


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
            weight.outer.append(Indexed(rows, tokens))
        return
    if isinstance(module, nn.Linear):
        left = d.flatten(1, -2) if d.ndim > 2 else d.unsqueeze(1)
        if weight is not None:
            weight.outer.append(Dense(left, x.flatten(1, -2) if x.ndim > 2 else x.unsqueeze(1)))
    else:
        left = d.flatten(2).mT
        if weight is not None:
            groups, axis = module.groups, -1 - len(module.kernel_size)  # type: ignore[arg-type]
            pairs = zip(left.chunk(groups, 2), _patches(module, x).chunk(groups, axis), strict=True)  # type: ignore[arg-type]
            weight.outer.extend(Dense(a, b, block) for block, (a, b) in enumerate(pairs))
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
        return F.layer_norm(x, module.normalized_shape, eps=module.eps)
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
