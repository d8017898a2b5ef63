"""Unbiased parts of the noise scale from two squared norms, and their discounted sums over steps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def noise_moments(
    sq_norm_small: Tensor | float,
    sq_norm_big: Tensor | float,
    batch_small: Tensor | float,
    batch_big: Tensor | float,
) -> tuple[Tensor, Tensor]:
    r"""Unbiased :math:`\operatorname{tr}\Sigma` and :math:`|G|^2` of each step, elementwise.

    A mean gradient over :math:`b` examples has :math:`E|g_b|^2 = |G|^2 + \operatorname{tr}\Sigma / b`; two batch sizes
    give two equations:

    .. math::
        \mathcal{S} = \frac{|g_b|^2 - |g_B|^2}{1/b - 1/B}, \qquad
        \mathcal{G}^2 = \frac{B |g_B|^2 - b |g_b|^2}{B - b}.

    Neither is clamped: a negative :math:`\mathcal{G}^2` is what an unbiased estimate looks like when noise dominates.

    Args:
        sq_norm_small: Mean of the squared norms of the small batches' mean gradients.
        sq_norm_big: Squared norm of the mean of those gradients.
        batch_small: Examples in a small batch; the harmonic mean of the sizes when they differ.
        batch_big: ``batch_small`` times the number of small batches.

    Returns:
        ``(trace_sigma, grad_sq_norm)``, broadcast; NaN or infinite where the two batch sizes are equal.

    References:
        McCandlish et al. (2018), An empirical model of large-batch training, arXiv 1812.06162, appendix A.1.

    Example:
        >>> from lightning_foresight.functional import noise_moments
        >>> noise_moments(3.0, 1.5, 8, 32)
        (tensor(16.), tensor(1.))
    """
    small, big = torch.as_tensor(sq_norm_small), torch.as_tensor(sq_norm_big)
    if not (small.is_floating_point() or big.is_floating_point()):
        small, big = small.float(), big.float()
    trace_sigma = (small - big) / (1 / batch_small - 1 / batch_big)
    grad_sq_norm = (batch_big * big - batch_small * small) / (batch_big - batch_small)
    return trace_sigma, grad_sq_norm


class MomentSums(NamedTuple):
    """Weighted sums over observations of S (numerator) and G2 (denominator), from which the ratio is taken last.

    Sums, rather than means, so that they add over batches and ranks.
    """

    weight: Tensor
    weight_squared: Tensor
    numerator: Tensor
    denominator: Tensor
    numerator_squared: Tensor
    denominator_squared: Tensor
    product: Tensor


def moment_sums(trace_sigma: Tensor, grad_sq_norm: Tensor, decay: float = 1.0) -> Tensor:
    """Sum observations, the oldest first, with weights ``decay ** age``; those that are not finite are left out.

    Args:
        trace_sigma: Numerators, shape (observations, ...).
        grad_sq_norm: Denominators, same shape.
        decay: Factor by which an observation's weight shrinks with each newer one; 1 keeps all alike.

    Returns:
        The fields of :class:`MomentSums` along the first axis, shape (7, ...).
    """
    age = torch.arange(trace_sigma.shape[0] - 1, -1, -1, device=trace_sigma.device, dtype=trace_sigma.dtype)
    weight = (decay**age).reshape(-1, *[1] * (trace_sigma.ndim - 1))
    finite = torch.isfinite(trace_sigma) & torch.isfinite(grad_sq_norm)
    weight = torch.where(finite, weight, 0)
    s, g = torch.where(finite, trace_sigma, 0), torch.where(finite, grad_sq_norm, 0)
    ws, wg = weight * s, weight * g
    return torch.stack([weight, weight**2, ws, wg, ws * s, wg * g, ws * g]).sum(1)


class MeanMoments(NamedTuple):
    """Means over observations, the variances and covariance of those means, and the effective number."""

    numerator: Tensor
    denominator: Tensor
    numerator_var: Tensor
    denominator_var: Tensor
    covariance: Tensor
    num_effective: Tensor


def mean_moments(sums: MomentSums) -> MeanMoments:
    r"""Turn sums into means with their errors; :math:`n_\text{eff} = (\sum w)^2 / \sum w^2` counts the observations."""
    total = sums.weight
    s, g = sums.numerator / total, sums.denominator / total
    n = total**2 / sums.weight_squared
    # The variance of the mean, s^2 / n with s^2 = (n / (n - 1)) (<x^2> - <x>^2).
    free = torch.where(n > 1, n - 1, torch.nan)
    return MeanMoments(
        s,
        g,
        (sums.numerator_squared / total - s**2).clamp(min=0) / free,
        (sums.denominator_squared / total - g**2).clamp(min=0) / free,
        (sums.product / total - s * g) / free,
        n,
    )
