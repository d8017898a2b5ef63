"""Logarithms of the probabilities of unions of agreement events, summed over the rows of a table."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_EXACT_IN_FLOAT32 = 2**24
_ANTICHAINS = 1024  # few enough that a chunk stays near the core
_CPU_ROWS, _GPU_ROWS = 256, 8192


class RowPlan(NamedTuple):
    """Rows arranged so that those of equal weight share one logarithm, that of the product of their unions.

    Attributes:
        order: Row numbers, ``(columns, factors)``; the number past the last row stands for a union of 1.
        weights: What the logarithm of each column counts for in each output, ``(columns, outputs)``.
    """

    order: Tensor
    weights: Tensor


def plan_rows(weights: Tensor, outputs: Tensor, num_outputs: int, largest: float) -> RowPlan:
    """Arrange rows for :func:`sum_log_unions`.

    Args:
        weights: Weight of each row, ``(m,)``.
        outputs: To which output each row adds, ``(m,)``.
        num_outputs: Number of outputs.
        largest: Largest union, when the smallest is 1: bounds how many factors fit into one float64.
    """
    levels, level = torch.unique(weights, return_inverse=True)
    keys, ids, counts = torch.unique(outputs * len(levels) + level, return_inverse=True, return_counts=True)
    most = max(1.0, 1000 / max(1.0, math.log2(largest)))
    sizes = [2**k for k in range(6) if 2**k <= most]
    padded = [int((-(-counts // size) * size).sum()) for size in sizes]
    # A logarithm takes about as long as computing and multiplying one union.
    factors = min(zip(sizes, padded, strict=True), key=lambda pair: pair[1] * (1 + 1 / pair[0]))[0]
    columns_of = -(-counts // factors)
    by_key = torch.argsort(ids, stable=True)
    rank = torch.empty_like(ids)
    rank[by_key] = torch.arange(len(ids), device=ids.device) - (counts.cumsum(0) - counts)[ids[by_key]]
    order = torch.full((int(columns_of.sum()), factors), len(weights), dtype=torch.long, device=ids.device)
    order[(columns_of.cumsum(0) - columns_of)[ids] + rank // factors, rank % factors] = torch.arange(
        len(ids), device=ids.device
    )
    key = keys.repeat_interleave(columns_of)
    column_weights = torch.zeros(len(order), num_outputs, dtype=weights.dtype, device=ids.device)
    return RowPlan(order, column_weights.scatter_(1, (key // len(levels))[:, None], levels[key % len(levels)][:, None]))


def membership(codes: Tensor, num_sources: int, dtype: torch.dtype) -> Tensor:
    """Which sets each up-set holds, ``(2^n, antichains)`` of zeros and ones, the first axis by bit mask."""
    full = 2**num_sources - 1
    positions = full - torch.arange(full + 1, device=codes.device)
    return (codes >> positions[:, None] & 1).to(dtype)


def log_unions(agreement: Tensor, codes: Tensor) -> Tensor:
    """``log2`` of the unions of every row and antichain, ``(rows, antichains)``; differentiable.

    Args:
        agreement: From :func:`agreement_weights`, ``(2^n, rows)``.
        codes: Up-sets, ``(antichains,)``.
    """
    return torch.log2(agreement.T @ membership(codes, agreement.shape[0].bit_length() - 1, agreement.dtype))


def sum_log_unions(agreement: Tensor, codes: Tensor, plan: RowPlan) -> Tensor:
    """Sum ``weight * log2(union)`` over rows, ``(outputs, antichains)``, without holding rows times antichains.

    Args:
        agreement: From :func:`agreement_weights`, ``(2^n, rows)``; no union below 1.
        codes: Up-sets, ``(antichains,)``.
        plan: How rows are summed.
    """
    num_sources = agreement.shape[0].bit_length() - 1
    # Padding agrees on all sources with weight 1, so that its union with any antichain is 1.
    padding = torch.zeros_like(agreement[:, :1])
    padding[-1] = 1
    columns, factors = plan.order.shape
    length = max(1, (_CPU_ROWS if agreement.device.type == "cpu" else _GPU_ROWS) // factors)
    largest = float(agreement.sum(0).max())
    whole = largest < _EXACT_IN_FLOAT32 and bool((agreement == agreement.round()).all())
    # So many whole factors multiply without rounding in float32, which takes half the memory of float64.
    exact = 1
    while whole and 2 * exact <= factors and largest ** (2 * exact) < _EXACT_IN_FLOAT32:
        exact *= 2
    rows = torch.cat([agreement, padding], 1).T.to(torch.float32 if whole else agreement.dtype)
    # Within a chunk the rows come factor by factor, so that a product runs over whole contiguous blocks.
    chunks = [
        (rows[plan.order[start : start + length].T.flatten()], plan.weights[start : start + length].T.contiguous())
        for start in range(0, columns, length)
    ]
    result = torch.zeros(plan.weights.shape[1], len(codes), dtype=agreement.dtype, device=agreement.device)
    for start in range(0, len(codes), _ANTICHAINS):
        holds = membership(codes[start : start + _ANTICHAINS], num_sources, rows.dtype)
        total = torch.zeros(plan.weights.shape[1], holds.shape[1], dtype=agreement.dtype, device=agreement.device)
        for chunk, weights in chunks:
            union = (chunk @ holds).view(factors, -1)
            for halvings in range(exact.bit_length() - 1):
                first, second = union[: factors >> halvings].chunk(2)
                union = torch.mul(first, second, out=first)
            union = union.to(agreement.dtype)
            if len(union) > 1:
                union = union.prod(0)
            union = union.view(weights.shape[1], -1)
            total.addmm_(weights, union.log2_())
        result[:, start : start + _ANTICHAINS] = total
    return result
