"""Joint histograms of all (input, output) pairs, counted together."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunk_length, chunks

# On a CPU, tables and codes that stay in its cache are counted several times faster.
CPU_CELLS, CPU_SAMPLES = 2**18, 2**17
# Narrow codes are a matter of memory traffic: counting is little else.
NARROW = torch.iinfo(torch.int16).max


def count_pairs(
    in_codes: Tensor, out_codes: Tensor, in_bins: int, out_bins: int, blocks: int = 1
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Count the joint histograms of all pairs, a chunk of pairs at a time.

    Args:
        in_codes: Bins of the inputs ``(inputs, samples)``, any integers.
        out_codes: Bins of the outputs ``(outputs, samples)``, any integers; ``out_bins`` marks outputs to be dropped.
        in_bins: Number of input bins.
        out_bins: Number of output bins.
        blocks: The samples are counted apart in so many equal blocks.

    Yields:
        The chunk's inputs, its outputs, and counts ``(inputs, outputs, blocks, in_bins, out_bins + 1)``, integers, with
        an empty last column where the dropped outputs were.
    """
    inputs, samples = in_codes.shape
    outputs, on_cpu = len(out_codes), in_codes.device.type == "cpu"
    cells = in_bins * (out_bins + 1)
    narrow = on_cpu and cells <= NARROW
    in_codes, out_codes = (codes.to(torch.int16 if narrow else torch.int64) for codes in (in_codes, out_codes))
    fit = chunk_length(inputs * outputs, 16 * blocks * cells, 16 * CPU_CELLS if on_cpu else None)
    out_step = min(outputs, fit)
    in_step = max(1, fit // out_step)
    fused = (max(1, min(in_step, NARROW // cells // out_step)), min(out_step, NARROW // cells)) if narrow else (1, 1)
    ends = [-(-samples * block // blocks) for block in range(blocks + 1)]
    for out_part in _slices(outputs, out_step):
        columns = _shifted(out_codes[out_part], fused[1], cells)
        for in_part in _slices(inputs, in_step):
            rows = _shifted(in_codes[in_part] * (out_bins + 1), fused[0], cells * fused[1])
            tables = [
                _count_narrow(rows[:, a:b], columns[:, a:b], cells, fused)
                if narrow
                else _count_by_scatter(rows[:, a:b], columns[:, a:b], cells)
                for a, b in pairwise(ends)
            ]
            counts = (tables[0].unsqueeze(2) if blocks == 1 else torch.stack(tables, 2)).unflatten(3, (in_bins, -1))
            counts[..., -1] = 0
            yield in_part, out_part, counts


def _slices(total: int, step: int) -> Iterator[slice]:
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))


def _shifted(codes: Tensor, period: int, step: int) -> Tensor:
    """Move every row of codes to a place of its own among ``period`` neighbours that are counted together."""
    place = torch.arange(len(codes), device=codes.device, dtype=codes.dtype) % period
    return codes if period == 1 else codes + (place * step).unsqueeze(1)


def _count_narrow(rows: Tensor, columns: Tensor, cells: int, fused: tuple[int, int]) -> Tensor:
    """Count as many pairs at once as 16-bit codes can tell apart; ``(rows, columns, cells)``, int64."""
    counts = torch.zeros(len(rows), len(columns), cells, dtype=torch.int64)
    for part in _slices(rows.shape[1], CPU_SAMPLES):
        for in_part in _slices(len(rows), fused[0]):
            for out_part in _slices(len(columns), fused[1]):
                codes = rows[in_part, None, part] + columns[out_part, part]
                table = torch.bincount(codes.flatten(), minlength=fused[0] * fused[1] * cells).view(*fused, cells)
                counts[in_part, out_part] += table[: codes.shape[0], : codes.shape[1]]
    return counts


def _count_by_scatter(rows: Tensor, columns: Tensor, cells: int) -> Tensor:
    """Count all pairs of rows and columns, one fused scatter a chunk of samples; ``(rows, columns, cells)``, int32."""
    pairs, device = len(rows) * len(columns), rows.device
    table = torch.zeros(pairs * cells, dtype=torch.int32, device=device)
    start = torch.arange(pairs, device=device).view(len(rows), len(columns), 1) * cells
    one = torch.ones((), dtype=torch.int32, device=device)
    budget = 8 * CPU_CELLS if device.type == "cpu" else None
    for part in chunks(rows.shape[1], 12 * pairs, budget):
        codes = (rows[:, None, part] + columns[:, part] + start).flatten()
        table.scatter_add_(0, codes, one.expand(len(codes)))
    return table.view(len(rows), len(columns), cells)
