"""Joint histograms of (input, output) pairs where a few uniforms dominate the pre-activation."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunk_length
from lightning_foresight.functional.effective_information.joint import joint_mutual_information
from lightning_foresight.functional.effective_information.uniform_sums import UniformSum


def spline_mutual_information(
    weight: Tensor, noise: UniformSum, edges: Tensor, in_width: float, in_bins: int, bins: Tensor | None = None
) -> Tensor:
    """Mutual information in bits of pairs, from the distribution function of what remains given the input's bin.

    Args:
        weight: Weight of the chosen input, ``(pairs,)``.
        noise: The other inputs' uniforms, and that of the chosen one within its bin.
        edges: Ends of intervals of the pre-activation less the unit's mean, finite, ``(pairs, intervals + 1)``.
        in_width: Width of the input range.
        in_bins: Bins of the input range.
        bins: The output bin of each interval, see :class:`Preimages`.
    """
    centres = (torch.arange(in_bins, dtype=weight.dtype, device=weight.device) + 0.5) / in_bins - 0.5
    bits = torch.empty_like(weight)
    step = chunk_length(len(weight), 8 * (noise.wide.shape[1] + 2) * weight.element_size() * in_bins * edges.shape[1])
    for start in range(0, len(weight), step):
        part = slice(start, start + step)
        shift = (weight[part] * in_width).view(-1, 1, 1) * centres.view(-1, 1)
        z = edges[part].unsqueeze(1) - shift  # (pairs, in_bins, out_bins + 1)
        cdf = UniformSum(noise.wide[part], noise.narrow[part], noise.terms).cdf(z)
        joint = cdf.diff(dim=-1).clamp_min_(0)
        bits[part] = joint_mutual_information(joint if bins is None else joint @ bins)
    return bits
