"""Dense numbers for equal rows of integer codes."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunk_length

MAX_EXACT_COLUMNS = 64
_MAX_CODE = 2**62
BLOCK = 64
_PART_BITS = 21  # a product of a 26-bit code and a 21-bit multiplier, summed over 64 columns, is exact in float64


def row_ids(columns: Tensor) -> tuple[Tensor, int]:
    """Number equal rows from 0, in lexicographic order (in order of a fingerprint above 64 columns).

    Returns:
        ``(m,)`` numbers and how many distinct rows there are.
    """
    if columns.shape[1] > MAX_EXACT_COLUMNS:
        return relabel(block_fingerprints(columns).sum(1))
    low = columns.amin(0)
    spans = (columns.amax(0).long() - low.long() + 1).tolist()
    code = torch.zeros(len(columns), dtype=torch.long, device=columns.device)
    size = 1
    for column, start, span in zip(columns.unbind(1), low.unbind(), spans, strict=True):
        if size * span >= _MAX_CODE:
            code, size = relabel(code)
        code = code * span + (column.long() - start.long())
        size *= span
    return relabel(code)


def relabel(codes: Tensor) -> tuple[Tensor, int]:
    """Number equal codes from 0 in their order; also return how many there are."""
    distinct, ids = torch.unique(codes, return_inverse=True)
    return ids, len(distinct)


def group_sum(ids: Tensor, num_groups: int, weights: Tensor) -> Tensor:
    """Sum weights over equal ids; exact for counts, differentiable for probabilities."""
    return weights.new_zeros(num_groups).index_add(0, ids, weights)


def _multipliers(num_blocks: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Fixed random numbers: three 21-bit parts for the columns of a block, and an odd factor for each block."""
    generator = torch.Generator().manual_seed(0x5EED)
    parts = torch.randint(1, 2**_PART_BITS, (BLOCK, 3), generator=generator)
    factors = 2 * torch.randint(-(2**62), 2**62, (num_blocks,), generator=generator) + 1
    return parts.to(device), factors.to(device)


def _join(parts: Tensor) -> Tensor:
    return parts[..., 0] + (parts[..., 1] << _PART_BITS) + (parts[..., 2] << 2 * _PART_BITS)


def column_multipliers(num_columns: int, device: torch.device) -> Tensor:
    """What a code of each column is multiplied with in the fingerprint of its row, modulo 2^64."""
    parts, factors = _multipliers(-(-num_columns // BLOCK), device)
    return (factors[:, None] * _join(parts)).flatten()[:num_columns]


def block_fingerprints(columns: Tensor) -> Tensor:
    """Fingerprints of each 64 columns of rows, ``(m, blocks)``; those of whole rows are their sums modulo 2^64.

    They are linear in the codes, so that columns can be taken out by subtraction. Products of codes with 21-bit
    numbers are exact in float64, where a matrix product is far faster than one of 64-bit integers.
    """
    num_rows, num_columns = columns.shape
    num_blocks = -(-num_columns // BLOCK)
    parts, factors = _multipliers(num_blocks, columns.device)
    result = torch.empty(num_rows, num_blocks, dtype=torch.long, device=columns.device)
    chunk = chunk_length(num_rows, num_blocks * BLOCK * 8, budget=2**22)
    codes = torch.zeros(chunk, num_blocks * BLOCK, dtype=torch.float64, device=columns.device)
    for start in range(0, num_rows, chunk):
        part = codes[: min(chunk, num_rows - start)]
        part[:, :num_columns] = columns[start : start + chunk]
        result[start : start + chunk] = _join((part.view(-1, num_blocks, BLOCK) @ parts.double()).long()) * factors
    return result
