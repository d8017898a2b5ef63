"""The noise scale from many batches at the same weights, every pair of them compared."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_foresight.functional.gradient_noise.moments import MeanMoments
from lightning_foresight.functional.gradient_noise.noise_scale import NoiseScale, noise_scale_from_means


def pooled_noise_scale(
    gram: Tensor,
    sq_norms: Tensor,
    inverse_sizes: Tensor,
    counts: Tensor,
    *,
    level: float = 0.95,
    dtype: torch.dtype = torch.float32,
) -> NoiseScale:
    r"""Noise scale from the gradients :math:`g_j` of :math:`n` batches at the same weights, by U-statistics.

    .. math::
        |G|^2 = \frac{1}{n (n - 1)} \sum_{i \ne j} g_i \cdot g_j
              = \frac{\big|\sum_j g_j\big|^2 - \sum_j |g_j|^2}{n (n - 1)}, \qquad
        \operatorname{tr}\Sigma = \frac{\sum_j |g_j|^2 - n |G|^2}{\sum_j 1 / b_j}

    The batches are dealt out to folds, of which only the sums are kept: enough for both, and for a jackknife that
    leaves out one fold at a time, which gives the errors. Where noise dominates it overstates them a little.

    Args:
        gram: Inner products of the folds' sums of gradients, shape (folds, folds).
        sq_norms: Sums over the folds of :math:`|g_j|^2`, shape (folds,).
        inverse_sizes: Sums over the folds of :math:`1 / b_j`, shape (folds,).
        counts: Number of batches in each fold, shape (folds,).
        level: Coverage of the interval of ``b_simple``.
        dtype: Of the results.

    Returns:
        :class:`NoiseScale`; ``num_samples`` counts batches.

    References:
        Hoeffding (1948), A class of statistics with asymptotically normal distribution, Ann. Math. Stat. 19(3); Arvesen
        (1969), Jackknifing U-statistics, Ann. Math. Stat. 40(6).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional.gradient_noise.pooled import pooled_noise_scale
        >>> gradients = torch.tensor([[1.0], [2.0], [3.0]])  # of batches of 2, each a fold of its own
        >>> gram, ones = gradients @ gradients.T, torch.ones(3)
        >>> scale = pooled_noise_scale(gram, gram.diagonal(), ones / 2, ones)
        >>> [round(float(part.value), 4) for part in scale]  # variance 1 in means of 2; (1*2 + 1*3 + 2*3) / 3
        [0.5455, 2.0, 3.6667]
    """
    totals = (gram.sum(), sq_norms.sum(), inverse_sizes.sum(), counts.sum())
    trace_sigma, grad_sq_norm = _u_statistics(*totals)
    # |T - F_k|^2 for the total T without fold k.
    without = (
        totals[0] - 2 * gram.sum(1) + gram.diagonal(),
        totals[1] - sq_norms,
        totals[2] - inverse_sizes,
        totals[3] - counts,
    )
    num_folds = counts.numel()
    s, g = (value - value.mean() for value in _u_statistics(*without))
    factor = (num_folds - 1) / num_folds
    moments = MeanMoments(
        trace_sigma,
        grad_sq_norm,
        factor * (s * s).sum(),
        factor * (g * g).sum(),
        factor * (s * g).sum(),
        torch.full_like(trace_sigma, num_folds),
    )
    scale = noise_scale_from_means(moments, level=level, dtype=dtype, method="all pairs of batches")
    number = totals[3].to(torch.int64)
    return NoiseScale(*(part._replace(num_samples=number) for part in scale))


def _u_statistics(sq_sum: Tensor, sq_norms: Tensor, inverse_sizes: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    grad_sq_norm = (sq_sum - sq_norms) / (count * (count - 1))
    return (sq_norms - count * grad_sq_norm) / inverse_sizes, grad_sq_norm
