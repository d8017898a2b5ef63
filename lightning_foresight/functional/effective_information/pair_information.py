"""Mutual information of pairs from their joint counts, without the bias of counting."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunks
from lightning_foresight.functional.effective_information.bias import (
    less_null,
    null_of_margins,
    null_of_uniform_inputs,
)
from lightning_foresight.functional.effective_information.dependent_bias import (
    CPU_BYTES,
    LARGEST,
    Coarsening,
    bias_of_dependent_pairs,
)

# With more samples a cell than this, what the correction leaves of the bias is below the noise.
SPARSE = 16
EULER_GAMMA = 0.5772156649015329


def grassberger_terms(samples: int, device: torch.device) -> Tensor:
    r"""Return :math:`c\,G(c)` for all counts c up to ``samples``, float64 (float32 on devices without it).

    .. math:: G(c) = \psi(c) + \tfrac12 (-1)^c \left[\psi\left(\tfrac{c+1}2\right) - \psi\left(\tfrac c2\right)\right]

    Source: Grassberger 2003 (arXiv physics/0307138), eq. 35.
    """
    # G(1) = -gamma - ln 2, G(2k) = G(2k + 1) = G(2k - 1) + 2 / (2k - 1), which is a sum where digamma is a series.
    odd = torch.arange(1, samples + 1, 2, dtype=torch.float64)
    even_values = (2 / odd).cumsum(0) - EULER_GAMMA - math.log(2)
    first = torch.tensor([0, -EULER_GAMMA - math.log(2)], dtype=torch.float64)
    terms = torch.arange(samples + 1) * torch.cat([first, even_values.repeat_interleave(2)])[: samples + 1]
    return terms.to(torch.float32).to(device) if device.type == "mps" else terms.to(device)


def grassberger_information(cells: Tensor, rows: Tensor, columns: Tensor, terms: Tensor) -> Tensor:
    r"""Mutual information in bits from counts, each entropy after Grassberger.

    With :math:`\hat H = \log N - \frac1N \sum_i c_i G(c_i)`, of :math:`H(X) + H(Y) - H(X, Y)`.

    Args:
        cells: Sums of :math:`c\,G(c)` over the cells ``(...)``.
        rows: Counts of the input bins, broadcast to ``(..., in_bins)``.
        columns: Counts of the output bins, broadcast to ``(..., out_bins)``.
        terms: :math:`c\,G(c)` by count, from :func:`grassberger_terms`.
    """
    total = columns.sum(-1)
    n = total.clamp_min(1).to(terms.dtype)
    sums = cells - terms[rows].sum(-1) - terms[columns].sum(-1)
    return torch.where(total > 0, (n.log() + sums / n) / math.log(2), 0)


def corrected_information(counts: Tensor, terms: Tensor) -> Tensor:
    r"""Mutual information in bits from counts of pairs, without what is left of the bias of counting.

    Args:
        counts: Counts ``(inputs, outputs, ..., in_bins, out_bins)``; some samples may have been dropped.
        terms: :math:`c\,G(c)` by count, from :func:`grassberger_terms`.
    """
    pairs = PairSums(counts.shape, terms, len(terms) - 1, dropped=True)
    pairs.add(slice(None), slice(None), counts)
    return pairs.information()


class PairSums:
    r"""What the estimate needs of the joint tables, which themselves are too many to keep.

    Bias is what independent inputs and outputs would show; of pairs that clearly depend on each other, that of a table
    like theirs, see :func:`bias_of_dependent_pairs`.

    Args:
        shape: Shape of all tables, ``(inputs, outputs, ..., in_bins, out_bins)``.
        terms: :math:`c\,G(c)` by count, from :func:`grassberger_terms`.
        samples: How many samples each table holds, or held before some were dropped.
        dropped: Whether outputs outside the range may have been left out.
    """

    def __init__(self, shape: Sequence[int], terms: Tensor, samples: int, *, dropped: bool) -> None:
        inputs, outputs, *others, in_bins, out_bins = shape
        self.terms, self.dropped = terms, dropped
        # All outputs see the same inputs and the other way round, unless some samples were dropped.
        across, along = (outputs, inputs) if dropped else (1, 1)
        self.cells = terms.new_empty(inputs, outputs, *others)
        self.rows = terms.new_empty((inputs, across, *others, in_bins), dtype=torch.int64)
        self.columns = terms.new_empty((along, outputs, *others, out_bins), dtype=torch.int64)
        self.coarsen = Coarsening(in_bins, out_bins, terms.device)
        self.sparse = samples <= SPARSE * in_bins * out_bins
        coarse = (self.coarsen.size,) * 2 if self.sparse else (0, 0)
        self.coarse = torch.empty(inputs, outputs, *others, *coarse, dtype=torch.float32, device=terms.device)

    @staticmethod
    def bytes_per_pair(samples: int, in_bins: int, out_bins: int, *, dropped: bool) -> int:
        """Return the memory that one pair takes up."""
        sparse = samples <= SPARSE * in_bins * out_bins
        return 16 + 4 * LARGEST**2 * sparse + 8 * (in_bins + out_bins) * dropped

    def add(self, in_part: slice, out_part: slice, counts: Tensor) -> None:
        """Take down the tables of some pairs."""
        # index_select takes the counts as they are, 32-bit integers; plain indexing would copy them to 64 bits.
        terms = self.terms.index_select(0, counts.flatten())
        self.cells[in_part, out_part] = terms.view(*counts.shape[:-2], -1).sum(-1)
        if self.dropped:
            self.rows[in_part, out_part], self.columns[in_part, out_part] = counts.sum(-1), counts.sum(-2)
        else:
            if out_part.start == 0:
                self.rows[in_part, 0] = counts[:, 0].sum(-1)
            if in_part.start == 0:
                self.columns[0, out_part] = counts[0].sum(-2)
        if self.sparse:
            self.coarse[in_part, out_part] = self.coarsen(counts)

    def information(self) -> Tensor:
        """Return the bits of all pairs ``(inputs, outputs, ...)``."""
        found = grassberger_information(self.cells, self.rows, self.columns, self.terms)
        bits = less_null(found, self._null())
        if self.sparse:
            uniform = not self.dropped
            chosen, bias = bias_of_dependent_pairs(self.coarse, self.rows, self.columns, uniform_inputs=uniform)
            bits[chosen] = found[chosen] - bias.to(bits)
        return bits

    def _null(self) -> Tensor:
        if not self.dropped:
            return null_of_uniform_inputs(self.columns, self.rows.shape[-1], self.terms)
        null = torch.empty_like(self.cells)
        rows, columns = self.rows.flatten(0, -2), self.columns.flatten(0, -2)
        budget = CPU_BYTES if rows.device.type == "cpu" else None
        for part in chunks(len(rows), 32 * rows.shape[1] * columns.shape[1], budget):
            null.view(-1)[part] = null_of_margins(rows[part], columns[part], self.terms)
        return null


def information_std_error(counts: Tensor) -> Tensor:
    r"""Standard error in bits of the mutual information of counts, by the delta method.

    .. math:: se = \sqrt{\frac1N \operatorname{Var}\left[\log_2 \frac{p(x, y)}{p(x) p(y)}\right]}
    """
    dtype = torch.float32 if counts.device.type == "mps" else torch.float64
    n = counts.sum((-1, -2)).clamp_min(1).to(dtype)
    joint = counts.to(dtype) / n[..., None, None]
    expected = joint.sum(-1, keepdim=True) * joint.sum(-2, keepdim=True)
    seen = joint > 0
    pointwise = torch.where(seen, joint / torch.where(seen, expected, 1), 1).log2()
    mean = (joint * pointwise).sum((-1, -2), keepdim=True)
    return ((joint * (pointwise - mean).square()).sum((-1, -2)) / n).sqrt()
