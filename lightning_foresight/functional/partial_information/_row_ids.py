"""Dense numbers for equal rows of integer codes."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunks

MAX_EXACT_COLUMNS = 64
_MAX_CODE = 2**62
_PART_BITS = 21  # a product of a 16-bit code and a 21-bit multiplier, summed over 2^16 columns, is exact in float64


def row_ids(columns: Tensor) -> tuple[Tensor, int]:
    """Number equal rows from 0, in lexicographic order (in order of a fingerprint above 64 columns).

    Returns:
        ``(m,)`` numbers and how many distinct rows there are.
    """
    if columns.shape[1] > MAX_EXACT_COLUMNS:
        return relabel(fingerprints(columns, row_multipliers(columns.shape[1], columns.device)))
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


def row_multipliers(num_columns: int, device: torch.device) -> Tensor:
    """Fixed random multipliers of the fingerprint, ``(num_columns, 3)``, each of 21 bits."""
    generator = torch.Generator().manual_seed(0x5EED)
    return torch.randint(1, 2**_PART_BITS, (num_columns, 3), generator=generator).to(device)


def join_parts(parts: Tensor) -> Tensor:
    """Join the three 21-bit parts of a fingerprint, modulo 2^64."""
    return parts[..., 0] + (parts[..., 1] << _PART_BITS) + (parts[..., 2] << 2 * _PART_BITS)


def fingerprints(columns: Tensor, multipliers: Tensor) -> Tensor:
    """Fingerprints of rows, linear in the codes modulo 2^64, so that a column can be taken out by subtraction.

    Products of small codes with 21-bit multipliers are exact in float64, where a matrix product is far faster than
    one of 64-bit integers.
    """
    parts = multipliers.double()
    result = torch.empty(len(columns), dtype=torch.long, device=columns.device)
    for rows in chunks(len(columns), columns.shape[1] * 8, budget=2**23):
        result[rows] = join_parts((columns[rows].double() @ parts).long())
    return result
