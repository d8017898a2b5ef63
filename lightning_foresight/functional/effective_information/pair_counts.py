"""Joint histograms of all (input, output) pairs, counted together."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunk_length, chunks

# Sizes for the cache of a CPU's core: cells of the tables of one chunk, and codes that are counted at once.
CPU_CELLS, CPU_CODES = 2**16, 2**18
# Narrow codes are a matter of memory traffic: counting is little else.
NARROW = torch.iinfo(torch.int16).max


def count_pairs(
    in_codes: Tensor, out_codes: Tensor, in_bins: int, out_bins: int, blocks: int = 1, *, dropped: bool = True
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Count the joint histograms of all pairs, a chunk of pairs at a time.

    Args:
        in_codes: Bins of the inputs ``(inputs, samples)``, any integers.
        out_codes: Bins of the outputs ``(outputs, samples)``, any integers; ``out_bins`` marks outputs to be dropped.
        in_bins: Number of input bins.
        out_bins: Number of output bins.
        blocks: The samples are counted apart in so many equal blocks.
        dropped: Whether some outputs are marked as dropped.

    Yields:
        The chunk's inputs, its outputs, and counts ``(inputs, outputs, blocks, in_bins, out_bins)``, integers; where
        outputs were dropped, with one more column, which is empty.
    """
    inputs, samples = in_codes.shape
    outputs, on_cpu = len(out_codes), in_codes.device.type == "cpu"
    width = out_bins + dropped
    cells = in_bins * width
    narrow = on_cpu and cells <= NARROW
    in_codes, out_codes = (codes.to(torch.int16 if narrow else torch.int64) for codes in (in_codes, out_codes))
    fused = _fused(outputs, -(-samples // blocks), cells) if narrow else (1, 1)
    fit = chunk_length(inputs * outputs, 16 * blocks * cells, 16 * CPU_CELLS if on_cpu else None)
    out_step = min(outputs, max(1, fit // fused[1]) * fused[1])
    in_step = max(1, fit // out_step // fused[0]) * fused[0]
    ends = [-(-samples * block // blocks) for block in range(blocks + 1)]
    # Every row of codes has a place of its own among those that are counted together.
    columns, rows = _shifted(out_codes, fused[1], cells), _shifted(in_codes * width, fused[0], cells * fused[1])
    scratch = columns.new_empty(fused[0] * fused[1] * max(b - a for a, b in pairwise(ends)) if narrow else 0)
    for out_part in _slices(outputs, out_step):
        for in_part in _slices(inputs, in_step):
            tables = [
                _count_narrow(rows[in_part, a:b], columns[out_part, a:b], cells, fused, scratch)
                if narrow
                else _count_by_scatter(rows[in_part, a:b], columns[out_part, a:b], cells)
                for a, b in pairwise(ends)
            ]
            counts = (tables[0].unsqueeze(2) if blocks == 1 else torch.stack(tables, 2)).unflatten(3, (in_bins, width))
            if dropped:
                counts[..., -1] = 0
            yield in_part, out_part, counts


def _fused(outputs: int, samples: int, cells: int) -> tuple[int, int]:
    """Return how many inputs and outputs are counted at once: as many as 16-bit codes tell apart and a cache holds."""
    most = max(1, min(NARROW // cells, CPU_CODES // samples))
    groups = -(-outputs // most)
    across = -(-outputs // groups)
    return most // across, across


def _slices(total: int, step: int) -> Iterator[slice]:
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))


def _shifted(codes: Tensor, period: int, step: int) -> Tensor:
    place = torch.arange(len(codes), device=codes.device, dtype=codes.dtype) % period
    return codes if period == 1 else codes + (place * step).unsqueeze(1)


def _count_narrow(rows: Tensor, columns: Tensor, cells: int, fused: tuple[int, int], scratch: Tensor) -> Tensor:
    """Count as many pairs at once as are fused; ``(rows, columns, cells)``, int64.

    A loop over pairs that pays: tables in a core's nearest cache are counted several times faster than all at once.
    """
    most, column_groups = fused[0] * fused[1] * cells, columns.split(fused[1])
    counts = []
    for some_rows in rows.unsqueeze(1).split(fused[0]):
        tables = []
        for some_columns in column_groups:
            table = torch.bincount(_added(some_rows, some_columns, scratch), minlength=most).view(*fused, cells)
            tables.append(table[: some_rows.shape[0], : some_columns.shape[0]])
        counts.append(torch.cat(tables, 1) if len(tables) > 1 else tables[0])
    return torch.cat(counts) if len(counts) > 1 else counts[0]


def _added(rows: Tensor, columns: Tensor, scratch: Tensor) -> Tensor:
    """Return the codes of rows ``(rows, 1, samples)`` with columns ``(columns, samples)``, in memory used again."""
    shape = rows.shape[0], *columns.shape
    codes = scratch[: shape[0] * shape[1] * shape[2]]
    torch.add(rows, columns, out=codes.view(shape))
    return codes


def _count_by_scatter(rows: Tensor, columns: Tensor, cells: int) -> Tensor:
    """Count all pairs of rows and columns, one fused scatter a chunk of samples; ``(rows, columns, cells)``, int32."""
    pairs, device = len(rows) * len(columns), rows.device
    table = torch.zeros(pairs * cells, dtype=torch.int32, device=device)
    start = torch.arange(pairs, device=device).view(len(rows), len(columns), 1) * cells
    one = torch.ones((), dtype=torch.int32, device=device)
    budget = 8 * 2**18 if device.type == "cpu" else None
    for part in chunks(rows.shape[1], 12 * pairs, budget):
        codes = (rows[:, None, part] + columns[:, part] + start).flatten()
        table.scatter_add_(0, codes, one.expand(len(codes)))
    return table.view(len(rows), len(columns), cells)
