r"""Joint histograms of (input, output) pairs in closed form, for sums of few uniforms.

The distribution function of a sum of :math:`m` centred uniforms of widths :math:`v_i` is

.. math:: F(z) = \frac{1}{m! \prod_i v_i} \sum_{\epsilon \in \{-1, 1\}^m} \Big(\prod_i \epsilon_i\Big)
          \Big(z + \tfrac12 \sum_i \epsilon_i v_i\Big)_+^m .

Fourier coefficients of so few factors decay too slowly for the series.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunk_length
from lightning_foresight.functional.effective_information.joint import joint_mutual_information


def _difference_of_powers(z: Tensor, width: Tensor, power: int) -> Tensor:
    """Return ``[(z + width/2)_+^power - (z - width/2)_+^power] / width``, without cancellation for small widths."""
    upper, lower = (z + width / 2).clamp_min(0), z - width / 2
    above = torch.zeros_like(z)
    for exponent in range(power):
        above += upper.pow(exponent) * lower.pow(power - 1 - exponent)
    return torch.where(lower > 0, above, upper.pow(power) / width)


def uniform_sum_cdf(z: Tensor, widths: Tensor) -> Tensor:
    """Distribution function of a sum of centred uniforms.

    Args:
        z: Points ``(..., points)``.
        widths: Positive widths in descending order ``(..., m)``.

    Returns:
        Probabilities of the shape of ``z``.
    """
    count = widths.shape[-1]
    # F(z) = 1 - F(-z): on the lower half the sum has the smaller terms.
    lower = -z.abs()
    total = torch.zeros_like(z)
    larger, smallest = widths[..., :-1], widths[..., -1:]
    for signs in itertools.product((-1, 1), repeat=count - 1):
        shift = (larger * larger.new_tensor(signs)).sum(-1, keepdim=True) / 2
        total += math.prod(signs) * _difference_of_powers(lower + shift, smallest, count)
    below = (total / (math.factorial(count) * larger.prod(-1, keepdim=True))).clamp_(0, 0.5)
    return torch.where(z > 0, 1 - below, below)


def spline_mutual_information(weight: Tensor, widths: Tensor, edges: Tensor, in_width: float, in_bins: int) -> Tensor:
    """Mutual information in bits of pairs whose conditional pre-activation is a sum of few uniforms.

    Args:
        weight: Weight of the chosen input, ``(pairs,)``.
        widths: Widths of the uniforms that remain given the input's bin, descending, ``(pairs, m)``.
        edges: Pre-activation bin edges less the unit's mean, finite, ``(pairs, out_bins + 1)``.
        in_width: Width of the input range.
        in_bins: Bins of the input range.
    """
    centres = (torch.arange(in_bins, dtype=weight.dtype, device=weight.device) + 0.5) / in_bins - 0.5
    bits = torch.empty_like(weight)
    step = chunk_length(len(weight), 8 * weight.element_size() * in_bins * edges.shape[1])
    for start in range(0, len(weight), step):
        part = slice(start, start + step)
        shift = (weight[part] * in_width).view(-1, 1, 1) * centres.view(-1, 1)
        z = edges[part].unsqueeze(1) - shift  # (pairs, in_bins, out_bins + 1)
        cdf = uniform_sum_cdf(z, widths[part].unsqueeze(1))
        bits[part] = joint_mutual_information(cdf.diff(dim=-1).contiguous())
    return bits
