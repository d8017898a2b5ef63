"""Joint histograms of all (input, output) pairs, counted together, and their mutual information."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunk_length
from lightning_foresight.functional.effective_information.bias import (
    less_null,
    null_of_margins,
    null_of_uniform_inputs,
)

# A chunk of codes that stays in the cache of a CPU is counted several times faster.
CPU_CHUNK = 2**18


def count_pairs(
    in_codes: Tensor, out_codes: Tensor, in_bins: int, out_bins: int, blocks: int = 1
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Count the joint histograms of all pairs, a chunk of pairs at a time, one fused scatter each.

    Args:
        in_codes: Bins of the inputs ``(inputs, samples)``, any integers.
        out_codes: Bins of the outputs ``(outputs, samples)``, int64; ``out_bins`` marks outputs to be dropped.
        in_bins: Number of input bins.
        out_bins: Number of output bins.
        blocks: The samples are counted apart in so many equal blocks.

    Yields:
        The chunk's inputs, its outputs, and counts ``(inputs, outputs, blocks, in_bins, out_bins + 1)``, int32, with
        an empty last column where the dropped outputs were.
    """
    inputs, samples = in_codes.shape
    outputs, device = len(out_codes), in_codes.device
    cells = in_bins * (out_bins + 1)
    block = torch.arange(samples, device=device) * blocks // samples * cells
    codes_budget = CPU_CHUNK * 8 if device.type == "cpu" else None
    fit = min(
        chunk_length(inputs * outputs, 12 * samples, codes_budget), chunk_length(inputs * outputs, 16 * blocks * cells)
    )
    one = torch.ones((), dtype=torch.int32, device=device)
    out_step = min(outputs, fit)
    in_step = max(1, fit // out_step)
    buffer = torch.empty(out_step * in_step * samples, dtype=torch.int64, device=device)
    for in_start in range(0, inputs, in_step):
        in_part = slice(in_start, min(in_start + in_step, inputs))
        height = in_part.stop - in_part.start
        rows = in_codes[in_part].long() * (out_bins + 1) + block
        for out_start in range(0, outputs, out_step):
            out_part = slice(out_start, min(out_start + out_step, outputs))
            width = out_part.stop - out_part.start
            base = out_codes[out_part] + torch.arange(width, device=device).unsqueeze(1) * (blocks * cells)
            shift = torch.arange(height, device=device).unsqueeze(1) * (width * blocks * cells)
            shifted = rows if height == 1 else rows + shift
            codes = buffer[: height * width * samples].view(height, width, -1)
            torch.add(shifted.unsqueeze(1), base, out=codes)
            table = torch.zeros(height * width * blocks * cells, dtype=torch.int32, device=device)
            table.scatter_add_(0, codes.view(-1), one.expand(codes.numel()))
            counts = table.view(height, width, blocks, in_bins, out_bins + 1)
            counts[..., -1] = 0
            yield in_part, out_part, counts


def grassberger_terms(samples: int, device: torch.device) -> Tensor:
    r"""Return :math:`c\,G(c)` for all counts c up to ``samples``, float64 (float32 on devices without it).

    .. math:: G(c) = \psi(c) + \tfrac12 (-1)^c \left[\psi\left(\tfrac{c+1}2\right) - \psi\left(\tfrac c2\right)\right]

    Source: Grassberger 2003 (arXiv physics/0307138).
    """
    c = torch.arange(samples + 1, dtype=torch.float64)
    at_least_one = c.clamp_min(1)
    sign = 1 - 2 * (at_least_one % 2)
    half = torch.digamma((at_least_one + 1) / 2) - torch.digamma(at_least_one / 2)
    terms = c * (torch.digamma(at_least_one) + 0.5 * sign * half)
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
    r"""Mutual information in bits from counts of pairs, without what independent inputs and outputs would show.

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
    return less_null(grassberger_information(counts, terms), null)


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
