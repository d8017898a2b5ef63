r"""Joint histograms of (input, output) pairs by Fourier series of the conditional pre-activation.

Given the bin of input :math:`a` with centre :math:`c`, the pre-activation is :math:`w_a c` plus a centred sum of
uniforms. With :math:`\omega_k = 2 \pi k / L`, the probability that it falls between two edges is

.. math:: \frac{z_2 - z_1}{L} + \sum_{k=1}^{K} \frac{\varphi_a(\omega_k)}{\pi k}
          \left[\sin \omega_k (z - w_a c)\right]_{z_1}^{z_2},

and by the addition theorem the sum is a product of two matrices: one of the edges, one of the bin centres.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunk_length
from lightning_foresight.functional.effective_information.characteristic import product_of_others, sinc, take
from lightning_foresight.functional.effective_information.joint import mutual_information_with_margins

# On a CPU, histograms that stay in the cache are several times faster than ones that fill the memory budget.
CPU_CACHE_BYTES = 2**22


def _edge_side(edges: Tensor, period: Tensor, harmonics: Tensor, bins: Tensor | None) -> Tensor:
    """Return the edges' side of the product ``(units, 2 * terms + 1, out_bins + 1)``; its last bin is all bins."""
    if bins is not None:
        intervals = _edge_side(edges, period, harmonics, None)[..., :-1] @ bins
        return torch.cat([intervals, intervals.sum(-1, keepdim=True)], -1)
    low = torch.cat([edges[:, :-1], edges[:, :1]], 1)
    high = torch.cat([edges[:, 1:], edges[:, -1:]], 1)
    middle, width = ((low + high) / 2).unsqueeze(1), (high - low).unsqueeze(1)
    omega = (2 * math.pi * harmonics / period.unsqueeze(1)).unsqueeze(-1)  # (units, terms, 1)
    # sin(omega high) - sin(omega low), written so that narrow bins keep all their digits.
    half = torch.sin(omega * (width / 2)) * (2 / (math.pi * harmonics)).unsqueeze(-1)
    constant = width / period.view(-1, 1, 1)
    return torch.cat([constant, half * torch.cos(omega * middle), half * torch.sin(omega * middle)], 1)


def series_mutual_information(
    weight: Tensor,
    chosen: Tensor,
    edges: Tensor,
    period: Tensor,
    terms: int,
    in_width: float,
    in_bins: int,
    bins: Tensor | None = None,
) -> Tensor:
    """Mutual information in bits between chosen binned inputs and the binned output of every unit.

    Args:
        weight: ``(units, inputs)``.
        chosen: Inputs whose pairs are wanted, ``(units, chosen)``.
        edges: Ends of intervals of the pre-activation less the unit's mean, within half a period of 0,
            ``(units, intervals + 1)``.
        period: Periods of the series, ``(units,)``.
        terms: Length of the series.
        in_width: Width of the input range.
        in_bins: Bins of the input range.
        bins: The output bin of each interval, see :class:`Preimages`.

    Returns:
        Bits ``(units, chosen)``.
    """
    units, inputs = chosen.shape
    out_bins = edges.shape[1] - 1 if bins is None else bins.shape[1]
    harmonics = torch.arange(1, terms + 1, dtype=weight.dtype, device=weight.device)
    # Half of angular frequency times width, the arguments of the sinc functions: (units, terms, inputs).
    x = (math.pi * harmonics / period.unsqueeze(1)).unsqueeze(2) * (weight * in_width).unsqueeze(1)
    phi, x = product_of_others(sinc(x), chosen), take(x, chosen)
    phi *= sinc(x / in_bins)
    edge_side = _edge_side(edges, period, harmonics, bins)
    centres = 2 * ((torch.arange(in_bins, dtype=weight.dtype, device=weight.device) + 0.5) / in_bins - 0.5)

    bits = weight.new_empty(chosen.shape)
    budget = CPU_CACHE_BYTES if weight.device.type == "cpu" else None
    cells = (in_bins + 1) * (2 * out_bins + 2 + 3 * terms + 1)
    step = chunk_length(inputs, weight.element_size() * cells * units, budget)
    # One more column and one more row hold the marginal sums.
    centre_side = weight.new_zeros(units, 2 * terms + 1, step, in_bins + 1)
    for start in range(0, inputs, step):
        pairs = min(step, inputs - start)
        part = slice(start, start + pairs)
        angles = x[:, :, part].unsqueeze(3) * centres  # (units, terms, pairs, in_bins)
        factor = phi[:, :, part].unsqueeze(3)
        side = centre_side[:, :, :pairs]
        side[:, 0, :, :-1] = 1
        torch.mul(angles.cos(), factor, out=side[:, 1 : terms + 1, :, :-1])
        torch.mul(angles.sin_(), factor, out=side[:, terms + 1 :, :, :-1])
        side[..., -1] = side[..., :-1].sum(-1)
        joint = torch.bmm(side.flatten(2).mT, edge_side).view(units, pairs, in_bins + 1, out_bins + 1)
        bits[:, part] = mutual_information_with_margins(joint)
    return bits
