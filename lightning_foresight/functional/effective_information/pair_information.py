"""Mutual information of pairs from their joint counts, without the bias of counting."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional.effective_information.bias import (
    less_null,
    null_of_margins,
    null_of_uniform_inputs,
)
from lightning_foresight.functional.effective_information.dependent_bias import bias_of_dependent_pairs

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


def grassberger_information(counts: Tensor, terms: Tensor) -> Tensor:
    r"""Mutual information in bits from counts ``(..., in_bins, out_bins)``, each entropy after Grassberger.

    With :math:`\hat H = \log N - \frac1N \sum_i c_i G(c_i)`, of :math:`H(X) + H(Y) - H(X, Y)`.

    Args:
        counts: Integer counts.
        terms: :math:`c\,G(c)` by count, from :func:`grassberger_terms`.
    """
    rows, columns = counts.sum(-1), counts.sum(-2)
    total = rows.sum(-1)
    n = total.clamp_min(1).to(terms.dtype)
    # index_select takes the counts as they are, 32-bit integers; plain indexing would copy them to 64 bits.
    cells = terms.index_select(0, counts.flatten()).view(*counts.shape[:-2], -1).sum(-1)
    sums = cells - terms[rows].sum(-1) - terms[columns].sum(-1)
    return torch.where(total > 0, (n.log() + sums / n) / math.log(2), torch.zeros_like(n))


def corrected_information(counts: Tensor, terms: Tensor, dropped: bool) -> Tensor:
    r"""Mutual information in bits from counts of pairs, without what is left of the bias of counting.

    Of pairs that clearly depend on each other that is the bias of a table like theirs, see
    :func:`bias_of_dependent_pairs`; of all others, that of independent inputs and outputs.

    Args:
        counts: Counts ``(inputs, outputs, ..., in_bins, out_bins)``.
        terms: :math:`c\,G(c)` by count, from :func:`grassberger_terms`.
        dropped: Whether outputs outside the range may have been left out.
    """
    if dropped:
        null = null_of_margins(counts.sum(-1), counts.sum(-2), terms)
    else:
        # All inputs have the same outputs, and with them the same null.
        null = null_of_uniform_inputs(counts[:1].sum(-2), counts.shape[-2], terms)
    found = grassberger_information(counts, terms)
    bits = less_null(found, null)
    if len(terms) > SPARSE * counts.shape[-1] * counts.shape[-2]:
        return bits
    chosen, bias = bias_of_dependent_pairs(counts.flatten(0, -3), uniform_inputs=not dropped)
    bits.view(-1)[chosen] = found.view(-1)[chosen] - bias.to(bits)
    return bits


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
