"""The Bayesian entropy estimate of Nemenman, Shafee and Bialek."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunks

# Nodes of the two grids in log beta; a peak is found on the first and integrated on the second.
_NODES = 257


def nsb(counts: Tensor, n: Tensor, num_cells: float | None = None) -> Tensor:
    """Posterior mean of the entropy in nats, under a mixture of Dirichlet priors that is nearly flat in the entropy.

    Args:
        counts: Float64, shape ``(..., cells)``.
        n: Their sums, shape ``(...)``.
        num_cells: How many values are possible; the length of the last axis when ``None``.

    Source: Nemenman, Shafee & Bialek 2002 (arXiv physics/0108025).
    """
    k = float(counts.shape[-1] if num_cells is None else num_cells)
    if k == 1:
        return torch.zeros_like(n)
    # The weight has one peak in log beta, between one pseudo-count in all and far more in each cell than samples.
    unit = torch.linspace(0, 1, _NODES, dtype=n.dtype, device=n.device)
    grid = (-16 - math.log(k) + (32 + math.log(k)) * unit).expand(*n.shape, -1)
    weight, _ = _posterior(counts, n, k, grid)
    inside = weight > weight.amax(-1, keepdim=True) - 35
    step = grid[..., 1:2] - grid[..., :1]
    low = torch.where(inside, grid, torch.inf).amin(-1, keepdim=True) - step
    high = torch.where(inside, grid, -torch.inf).amax(-1, keepdim=True) + step
    weight, mean = _posterior(counts, n, k, low + (high - low) * unit)
    return (torch.softmax(weight, -1) * mean).sum(-1)


def _posterior(counts: Tensor, n: Tensor, k: float, log_beta: Tensor) -> tuple[Tensor, Tensor]:
    """Log posterior weight and mean entropy at each concentration, shape ``(..., nodes)``."""
    beta = log_beta.exp()
    total = n.unsqueeze(-1) + k * beta
    unseen = k - counts.shape[-1]
    evidence, mean = torch.empty_like(beta), torch.empty_like(beta)
    for part in chunks(beta.shape[-1], 48 * counts.numel()):
        c, b = counts.unsqueeze(-2), beta[..., part].unsqueeze(-1)  # (..., nodes, cells)
        evidence[..., part] = (torch.lgamma(c + b) - torch.lgamma(b)).sum(-1)
        mean[..., part] = ((c + b) * torch.digamma(c + b + 1)).sum(-1)
    mean = torch.digamma(total + 1) - (mean + unseen * beta * torch.digamma(beta + 1)) / total
    evidence += _log_gamma_ratio(k * beta, n.unsqueeze(-1))
    # The prior that makes the mean entropy uniform: d(psi(k b + 1) - psi(b + 1)) / d b, and d b = b d(log b).
    prior = k * torch.polygamma(1, k * beta + 1) - torch.polygamma(1, beta + 1)
    return evidence + prior.clamp(min=torch.finfo(prior.dtype).tiny).log() + log_beta, mean


def _log_gamma_ratio(z: Tensor, n: Tensor) -> Tensor:
    """Return log(Gamma(z) / Gamma(z + n)); by Stirling's series where z is large, for the logarithms would cancel."""
    series = (0.5 - z) * torch.log1p(n / z) - n * ((z + n).log() - 1) + (1 / z - 1 / (z + n)) / 12
    return torch.where(z > 1e4, series, torch.lgamma(z) - torch.lgamma(z + n))
