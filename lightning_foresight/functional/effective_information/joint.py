"""Mutual information of batches of joint histograms."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def mutual_information_with_margins(joint: Tensor) -> Tensor:
    r"""Mutual information in bits of joint histograms that carry their own marginal sums.

    .. math:: I = \frac1M \sum_{jk} p_{jk} \log_2 \frac{p_{jk} M}{r_j q_k}

    Args:
        joint: Masses ``(..., in_bins + 1, out_bins + 1)``: the last row holds the column sums :math:`q`, the last
            column the row sums :math:`r`, the corner the mass :math:`M`, which need not be 1. Overwritten.

    Returns:
        Bits, of shape ``(...)``, never negative; 0 for a histogram without mass.
    """
    if joint.dtype != torch.float64:
        return _without_cancellation(joint)
    tiny = torch.finfo(joint.dtype).tiny
    mass = joint[..., -1, -1].clamp_min(0)
    # xlogy is several times slower than log; the smallest number keeps 0 log 0 = 0.
    terms = joint.clamp_min_(tiny).log().mul_(joint)
    # Cells and the mass count positively, the marginal sums negatively: one signed sum over everything.
    signs = torch.ones(joint.shape[-1], dtype=joint.dtype, device=joint.device)
    signs[-1] = -1
    by_row = torch.mv(terms.flatten(0, -2), signs).view(terms.shape[:-1])
    total = by_row[..., :-1].sum(-1) - by_row[..., -1]
    return _per_mass(total, mass)


def joint_mutual_information(joint: Tensor) -> Tensor:
    """Mutual information in bits of joint histograms ``(..., in_bins, out_bins)``, which need not be normalised."""
    joint = torch.cat([joint, joint.sum(-1, keepdim=True)], -1)
    return mutual_information_with_margins(torch.cat([joint, joint.sum(-2, keepdim=True)], -2))


def _without_cancellation(joint: Tensor) -> Tensor:
    """Sum terms none of which is negative: single precision has no digits to lose."""
    tiny = torch.finfo(joint.dtype).tiny
    mass = joint[..., -1, -1].clamp_min(0)
    share = joint[..., -1:, :-1] / mass[..., None, None].clamp_min(tiny)
    expected = (joint[..., :-1, -1:] * share).clamp_min_(tiny)
    excess = ((joint[..., :-1, :-1] - expected) / expected).clamp_min_(-1 + torch.finfo(joint.dtype).eps)
    total = (((1 + excess) * torch.log1p(excess) - excess) * expected).sum((-1, -2))
    return _per_mass(total, mass)


def _per_mass(total: Tensor, mass: Tensor) -> Tensor:
    empty = mass <= torch.finfo(mass.dtype).tiny ** 0.5
    bits = total / torch.where(empty, torch.ones_like(mass), mass) / math.log(2)
    return torch.where(empty, torch.zeros_like(bits), bits).clamp_min_(0)
