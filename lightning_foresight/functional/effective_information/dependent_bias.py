r"""Bias of a histogram's mutual information where inputs and outputs clearly depend on each other.

The bias of Grassberger's estimate follows from the probabilities of the cells: the mean of each of its terms is known,
see :mod:`bias`. Those probabilities come from a coarser table, smooth inside its cells and with the margins of the
fine one,

.. math:: p_{jk} = \frac{P_{JK}}{R_J Q_K}\, r_j q_k \quad (j \in J,\ k \in K).

Of several sizes of the coarse table Akaike's criterion chooses one. Its own sampling noise looks like dependence and
makes the bias seem too small, so that it serves only where the dependence is far above that noise. (Tuned on layers of
25 to 2,048 pairs with 64 x 64 bins and 100 to 10,000 samples, where it halves the error of strong connections.)

Single precision will do: the terms that cancel are left out beforehand.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunks
from lightning_foresight.functional.effective_information.bias import mean_excess

LARGEST = 16  # bins of the finest coarse table
# Information of the coarse table in units of what its sampling noise shows, and in bits, from which on it is believed.
TIMES_NOISE, LEAST_BITS = 4.0, 0.03
CPU_BYTES = 2**22


class Coarsening:
    """Makes the finest coarse tables out of those with so many bins.

    Args:
        in_bins: Input bins.
        out_bins: Output bins.
        device: Where the tables lie.
    """

    def __init__(self, in_bins: int, out_bins: int, device: torch.device) -> None:
        self.size = 1 << (min(LARGEST, in_bins, out_bins).bit_length() - 1)  # sizes halve from here
        self.rows, self.columns = _groups(in_bins, self.size, device), _groups(out_bins, self.size, device)

    def __call__(self, counts: Tensor) -> Tensor:
        """Return the coarse tables ``(..., size, size)`` of counts ``(..., in_bins, out_bins)``."""
        # Counts are whole numbers: single precision adds them up exactly.
        if counts.shape[-2] % self.size == 0:
            by_row = counts.unflatten(-2, (self.size, -1)).sum(-2).float()
        else:
            by_row = self.rows.T @ counts.float()
        return (by_row.view(-1, counts.shape[-1]) @ self.columns).view(*by_row.shape[:-1], self.size)


def bias_of_dependent_pairs(
    coarse: Tensor, rows: Tensor, columns: Tensor, *, uniform_inputs: bool
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Find the pairs that clearly depend on each other, and what their counts overstate or understate.

    Args:
        coarse: The finest coarse tables ``(..., size, size)``, from :class:`Coarsening`.
        rows: Counts of the input bins, broadcast to ``(..., in_bins)``.
        columns: Counts of the output bins, broadcast to ``(..., out_bins)``.
        uniform_inputs: Whether all input bins are equally likely; their counted shares are taken otherwise.

    Returns:
        The indices of these pairs, and the bias of their Grassberger information in bits.
    """
    size = _believed_size(coarse)
    chosen = size.nonzero(as_tuple=True)
    finest, device = coarse.shape[-1], coarse.device
    row_groups, column_groups = (_groups(margin.shape[-1], finest, device) for margin in (rows, columns))
    rows, columns = (margin.expand(*size.shape, -1)[chosen].float() for margin in (rows, columns))
    size, coarse = size[chosen], coarse[chosen]
    repeats = torch.ones_like(row_groups[:, 0])
    if uniform_inputs:
        # The bins of a group are alike: each is worked out once, and counts so many times.
        repeats = row_groups.sum(0)
        rows = (columns.sum(-1, keepdim=True) / rows.shape[-1]).expand(-1, finest)
        row_groups = torch.eye(finest, dtype=coarse.dtype, device=device)
    bias = coarse.new_empty(len(size))
    budget = CPU_BYTES if device.type == "cpu" else None
    for part in chunks(len(size), 32 * len(repeats) * columns.shape[-1], budget):
        density = _density(coarse[part], size[part], (rows[part] * repeats) @ row_groups, columns[part] @ column_groups)
        expected = rows[part].unsqueeze(-1) * columns[part].unsqueeze(-2) * (row_groups @ density @ column_groups.T)
        scale = columns[part].sum(-1) / (expected.sum(-1) @ repeats).clamp_min(torch.finfo(coarse.dtype).tiny)
        bias[part] = _excess_bits(expected * scale[:, None, None], repeats)
    return chosen, bias


def _believed_size(coarse: Tensor) -> Tensor:
    """Return the size of each pair's coarse table ``(...)`` that is believed; 0 where none is."""
    ones = coarse.new_ones(coarse.shape[-1])
    rows, columns = coarse @ ones, coarse.sum(-2)
    total = rows.sum(-1).clamp_min(1)
    best, size = torch.zeros_like(total), torch.zeros_like(total, dtype=torch.int64)
    for k in _sizes(coarse.shape[-1]):
        freedom = (k - 1) * ((columns > 0).sum(-1) - 1)
        # Information in nats times the samples. Without any, twice that has a mean of the degrees of freedom.
        shared = _sum_of_logs(coarse.flatten(-2)) - _sum_of_logs(rows) - _sum_of_logs(columns)
        shared += _sum_of_logs(total.unsqueeze(-1))
        gain = shared - freedom
        clear = (2 * shared > TIMES_NOISE * freedom) & (gain + freedom / 2 > LEAST_BITS * math.log(2) * total)
        size = torch.where(clear & (gain > best), k, size)
        best = torch.where(clear, gain.maximum(best), best)
        coarse, rows, columns = _halved_table(coarse), _halved(rows), _halved(columns)
    return size


def _sizes(finest: int) -> list[int]:
    return [finest >> step for step in range(finest.bit_length() - 1)]


def _halved(margin: Tensor) -> Tensor:
    # Sums along an axis of two are slow.
    return margin[..., ::2] + margin[..., 1::2]


def _halved_table(table: Tensor) -> Tensor:
    return _halved(table[..., ::2, :] + table[..., 1::2, :])


def _groups(bins: int, coarse: int, device: torch.device) -> Tensor:
    """Return the coarse bin of every bin, one-hot ``(bins, coarse)``."""
    group = torch.arange(bins, device=device) * coarse // bins
    return torch.nn.functional.one_hot(group, coarse).float()


def _sum_of_logs(counts: Tensor) -> Tensor:
    wide = torch.float32 if counts.device.type == "mps" else torch.float64
    return (counts * counts.clamp_min(1).log()).sum(-1, dtype=wide)


def _density(table: Tensor, size: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return counts over the product of their margins, from each pair's coarse table of ``size``."""
    density = torch.zeros_like(table)
    for k in _sizes(table.shape[-1]):
        ratio = table / (rows.unsqueeze(-1) * columns.unsqueeze(-2)).clamp_min(torch.finfo(table.dtype).tiny)
        times = density.shape[-1] // k
        ratio = ratio.repeat_interleave(times, -1).repeat_interleave(times, -2)
        density = torch.where((size == k)[:, None, None], ratio, density)
        table, rows, columns = _halved_table(table), _halved(rows), _halved(columns)
    return density


def _excess_bits(expected: Tensor, repeats: Tensor) -> Tensor:
    """Return the mean error of Grassberger's estimate in bits, from expected counts ``(pairs, rows, columns)``."""
    rows, columns = expected.sum(-1), (expected * repeats.unsqueeze(-1)).sum(-2)
    total = columns.sum(-1, keepdim=True).clamp_min(1)
    cells = mean_excess(expected, expected / total.unsqueeze(-1)).sum(-1)
    by_row = (cells - mean_excess(rows, rows / total)) @ repeats
    return (by_row - mean_excess(columns, columns / total).sum(-1)) / total.squeeze(-1) / math.log(2)
