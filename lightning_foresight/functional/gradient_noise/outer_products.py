"""Squared norms and inner products of sums of outer products over tokens, without forming any sum where that costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunks

PANEL = 32  # tokens; matrices with fewer rows multiply more slowly than the pairs that they save are worth


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
        return math.prod(self.right.shape[1:]) // self.left.shape[1]


class Indexed(NamedTuple):
    """The same where every ``left`` is a unit vector, given by the row that it points at."""

    rows: Tensor  # (examples, tokens)
    right: Tensor  # (examples, tokens, columns)
    block: int = 0


def sq_norms(value: Dense | Indexed, *, total: bool = False) -> Tensor:
    r"""Squared norm of a sum of outer products, per example or in total.

    .. math::
        \Big| \sum_t l_t r_t^\top \Big|^2 = \sum_{t, s} (l_t \cdot l_s)(r_t \cdot r_s)

    Both factors are symmetric in the tokens, so little more than half of the pairs are worked out. Where there are more
    tokens than the gradient is worth, the gradient of each example is formed instead.
    """
    return _dense_sq_norms(value, total=total) if isinstance(value, Dense) else _indexed_sq_norms(value, total=total)


def _dense_sq_norms(value: Dense, *, total: bool) -> Tensor:
    examples, tokens, rows = value.left.shape
    columns = value.num_columns
    if tokens == 1:
        right = value.columns(slice(None))
        products = (torch.linalg.vecdot(value.left, value.left) * torch.linalg.vecdot(right, right)).squeeze(1)
        return products.sum() if total else products

    def by_gradient(part: slice) -> Tensor:
        gradient = value.left[part].mT @ value.columns(part)
        return _products(gradient, gradient, total=total)

    panel = max(PANEL, -(-tokens // 4))

    def panel_norms(left: Tensor, right: Tensor, start: int) -> Tensor:
        here, so_far = slice(start, start + panel), slice(0, start + panel)
        weights = left[:, here] @ left[:, so_far].mT
        if start:
            weights[..., :start] *= 2  # for the same pairs the other way round
        return _products(weights, right[:, here] @ right[:, so_far].mT, total=total)

    def by_tokens(part: slice) -> Tensor:
        left, right = value.left[part], value.columns(part)
        norms = panel_norms(left, right, 0)
        for start in range(panel, tokens, panel):
            norms += panel_norms(left, right, start)
        return norms

    # Panels of p tokens leave (tokens + p) / 2 partners a token. Multiplications alone tell which way is faster.
    if rows * columns < min(tokens, (tokens + panel) / 2) * (rows + columns):
        return _by_chunks(by_gradient, examples, 8 * (rows * columns + tokens * columns), total=total)
    return _by_chunks(by_tokens, examples, 4 * tokens * (3 * panel + columns), total=total)


def _indexed_sq_norms(value: Indexed, *, total: bool) -> Tensor:
    examples, tokens = value.rows.shape
    columns = value.right.shape[2]

    def by_row(part: slice) -> Tensor:
        sums = _sums_by_row(value.rows[part], value.right[part])
        return _products(sums, sums, total=total)

    return _by_chunks(by_row, examples, 8 * tokens * (columns + 4), total=total)


def _sums_by_row(rows: Tensor, right: Tensor) -> Tensor:
    """Add up what points at the same row, shape (examples, tokens, columns); where rows are fewer, zeros follow."""
    examples, tokens = rows.shape
    ordered, order = rows.sort(1)
    ranks = torch.zeros_like(order)  # of the rows of an example among those that occur in it
    ranks[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]).cumsum(1)
    places = torch.empty_like(order).scatter_(1, order, ranks)
    places += tokens * torch.arange(examples, device=rows.device).unsqueeze(1)
    sums = right.new_zeros(examples * tokens, right.shape[2])
    return sums.index_add_(0, places.flatten(), right.flatten(0, 1)).view_as(right)


def inner_products(first: Dense | Indexed, second: Dense | Indexed, *, total: bool = False) -> Tensor:
    r"""Inner product of two sums of outer products, per example or in total.

    .. math::
        \Big\langle \sum_t l_t r_t^\top, \sum_s l'_s r_s'^\top \Big\rangle
        = \sum_{t, s} (l_t \cdot l'_s)(r_t \cdot r'_s)
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

    def by_gradient(part: slice) -> Tensor:
        gradients = (use.left[part].mT @ use.columns(part) for use in (first, second))
        return _products(*gradients, total=total)

    def by_tokens(part: slice) -> Tensor:
        weights = first.left[part] @ second.left[part].mT
        return _products(weights, first.columns(part) @ second.columns(part).mT, total=total)

    if (tokens + others) * rows * columns < tokens * others * (rows + columns):
        return _by_chunks(by_gradient, examples, 12 * rows * columns + 4 * (tokens + others) * columns, total=total)
    return _by_chunks(by_tokens, examples, 12 * tokens * others + 4 * (tokens + others) * columns, total=total)


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
