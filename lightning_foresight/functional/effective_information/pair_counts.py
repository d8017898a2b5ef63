"""Joint histograms of all (input, output) pairs, counted together."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunk_length, chunks

# Sizes for the cache of a CPU's core: cells of the tables of one chunk, and codes that are counted at once.
CPU_CELLS, CPU_CODES = 2**16, 2**19
# Bytes of codes that are scattered at once where tables are too large for narrow ones.
CPU_SCATTER = 2**21
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
    ends = [-(-samples * block // blocks) for block in range(blocks + 1)]
    together = _together(outputs, max(b - a for a, b in pairwise(ends)), cells) if narrow else 1
    fit = chunk_length(inputs * outputs, 16 * blocks * cells, 16 * CPU_CELLS if on_cpu else None)
    out_step = min(outputs, max(1, fit // together) * together)
    in_step = max(1, fit // out_step)
    columns = _in_places(out_codes, together, cells)
    for out_part in _slices(outputs, out_step):
        for in_part in _slices(inputs, in_step):
            tables = [
                _count_narrow(in_codes[in_part, a:b], columns[out_part, a:b], in_bins, width, together)
                if narrow
                else _count_by_scatter(in_codes[in_part, a:b] * width, columns[out_part, a:b], cells)
                for a, b in pairwise(ends)
            ]
            counts = (tables[0].unsqueeze(2) if blocks == 1 else torch.stack(tables, 2)).unflatten(3, (in_bins, width))
            if dropped:
                counts[..., -1] = 0
            yield in_part, out_part, counts


def _together(outputs: int, samples: int, cells: int) -> int:
    """Return how many outputs are counted at once: as many as 16-bit codes tell apart and a cache holds."""
    most = max(1, min(NARROW // cells, CPU_CODES // samples))
    return -(-outputs // -(-outputs // most))


def _slices(total: int, step: int) -> Iterator[slice]:
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))


def _in_places(codes: Tensor, together: int, cells: int) -> Tensor:
    """Give every row of codes a place of its own among those that are counted together."""
    if together == 1:
        return codes
    place = torch.arange(len(codes), device=codes.device, dtype=codes.dtype) % together
    return codes + (place * cells).unsqueeze(1)


def _count_narrow(rows: Tensor, columns: Tensor, in_bins: int, width: int, together: int) -> Tensor:
    """Count some columns at once against every row; ``(rows, columns, cells)``, int64.

    A loop over pairs that pays: tables in a core's nearest cache are counted several times faster than all at once.
    """
    cells = in_bins * width
    groups = columns.split(together) if together > 1 else columns.unbind()
    scratch = rows.new_empty(together * rows.shape[1])
    flat = [scratch[: group.numel()] for group in groups]
    jobs = [
        (group, codes.view(group.shape), codes, group.numel() // rows.shape[1] * cells)
        for group, codes in zip(groups, flat, strict=True)
    ]
    tables = []
    for row in rows.unbind():
        for group, shaped, codes, length in jobs:
            torch.add(group, row, alpha=width, out=shaped)
            tables.append(torch.bincount(codes, minlength=length))
    return torch.cat(tables).view(len(rows), len(columns), cells)


def _count_by_scatter(rows: Tensor, columns: Tensor, cells: int) -> Tensor:
    """Count all pairs of rows and columns, one fused scatter a chunk of samples; ``(rows, columns, cells)``, int32."""
    pairs, device = len(rows) * len(columns), rows.device
    table = torch.zeros(pairs * cells, dtype=torch.int32, device=device)
    start = torch.arange(pairs, device=device).view(len(rows), len(columns), 1) * cells
    one = torch.ones((), dtype=torch.int32, device=device)
    budget = CPU_SCATTER if device.type == "cpu" else None
    for part in chunks(rows.shape[1], 12 * pairs, budget):
        codes = (rows[:, None, part] + columns[:, part] + start).flatten()
        table.scatter_add_(0, codes, one.expand(len(codes)))
    return table.view(len(rows), len(columns), cells)
