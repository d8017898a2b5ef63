"""The width of Gaussian noise under which each sample is most probable given the others."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional.mutual_information._distances import SquaredDistances, row_blocks

# Candidates of a look; after three looks they are 5% apart.
_CANDIDATES = 16
# Rows whose likelihood is asked for, each against all others; more would move the width less than other samples would.
_ASKED = 1000


def fitted_variance(rows: Tensor) -> Tensor:
    r"""Variance that maximises the leave-one-out likelihood of a Gaussian kernel density.

    .. math:: \max_{\sigma^2} \sum_i \log \frac{1}{n - 1} \sum_{j \ne i}
        (2 \pi \sigma^2)^{-d/2} e^{-\|t_i - t_j\|^2 / 2 \sigma^2}

    Copies of a row are left out of its sum, for they would drive the width to 0. The outer sum takes at most 1,000
    evenly spaced rows. Without two different rows the variance is 1.

    Args:
        rows: Floating point, shape ``(n, features)``.
    """
    width = rows.shape[1]
    n, step = rows.shape[0], -(-rows.shape[0] // _ASKED)
    spaced = torch.arange(n, device=rows.device) % step == 0
    distances = SquaredDistances(torch.cat([rows[spaced], rows[~spaced]]))
    blocks = row_blocks(-(-n // step), rows.device, n, width)
    buffer = distances.buffer(blocks[0].stop)
    scratch = torch.empty_like(buffer)

    def log_likelihoods(log_variances: Tensor) -> Tensor:
        totals = torch.zeros_like(log_variances)
        for block in blocks:
            sq = distances.block(block, buffer)
            own = torch.arange(block.start, block.stop, device=rows.device).unsqueeze(1)
            sq.scatter_(1, own, torch.inf)
            sq.masked_fill_(sq <= 0, torch.inf)
            nearest = sq.amin(1, keepdim=True)
            known = nearest.isfinite().double()
            sq -= nearest.nan_to_num(posinf=0.0)
            for index, log_variance in enumerate(log_variances):
                scale = -0.5 * torch.exp(-log_variance).to(sq.dtype)
                # Far below what a sum with its largest term 1 keeps, and never denormal.
                overlap = torch.mul(sq, scale, out=scratch[: sq.shape[0]]).clamp_(min=-80).exp_().sum(1, keepdim=True)
                terms = (
                    overlap.double().log()
                    + (scale * nearest).nan_to_num(neginf=0.0).double()
                    - width / 2 * log_variance
                )
                totals[index] += (terms * known).sum()
        return totals

    total = rows.double().var(0, correction=0).sum()
    if not bool(total > 0):
        return torch.ones_like(total)
    unit = torch.linspace(0, 1, _CANDIDATES, dtype=torch.float64, device=rows.device)
    # No kernel is wider than the data; the narrowest is that of float32's resolution.
    high = total.log() + math.log(2)
    low = high - math.log(1e10)
    for _ in range(3):
        grid = low + (high - low) * unit
        best = log_likelihoods(grid).argmax()
        low, high = grid[(best - 1).clamp(min=0)], grid[(best + 1).clamp(max=_CANDIDATES - 1)]
    return grid[best].exp()
