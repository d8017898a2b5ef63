"""The simple noise scale of gradients, from squared norms."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._checks import numbers, takes
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.gradient_noise.fieller import fieller_interval
from lightning_foresight.functional.gradient_noise.moments import (
    MeanMoments,
    MomentSums,
    mean_moments,
    moment_sums,
    noise_moments,
)
from lightning_foresight.functional.gradient_noise.quadrature import check_level
from lightning_foresight.functional.gradient_noise.student_t import student_t_quantile


class NoiseScale(NamedTuple):
    r"""The simple noise scale :math:`\mathcal B_\text{simple} = \operatorname{tr}\Sigma / |G|^2` and its parts.

    Attributes:
        b_simple: The ratio of the two means, in examples, with Fieller's interval in ``lower`` and ``upper``. Negative
            where the mean of ``grad_sq_norm`` is: the noise then hides the gradient, and ``upper`` is usually infinite.
        trace_sigma: Trace of the covariance of per-example gradients.
        grad_sq_norm: Squared norm of the true gradient, unbiased and unclamped.
    """

    b_simple: Estimate
    trace_sigma: Estimate
    grad_sq_norm: Estimate


@takes(sq_norm_small=numbers, sq_norm_big=numbers, batch_small=numbers, batch_big=numbers)
def noise_scale_from_norms(
    sq_norm_small: Tensor | float,
    sq_norm_big: Tensor | float,
    batch_small: Tensor | float,
    batch_big: Tensor | float,
    *,
    level: float = 0.95,
) -> NoiseScale:
    r"""Simple gradient noise scale from the squared norms of gradients over small and big batches.

    .. math:: \mathcal B_\text{simple} = \frac{\langle\mathcal S\rangle}{\langle\mathcal G^2\rangle}

    with :math:`\mathcal S` and :math:`\mathcal G^2` of :func:`noise_moments`, averaged over the observations before the
    ratio is taken: the mean of ratios has no meaning when the denominator comes near 0.

    Args:
        sq_norm_small: Mean of the squared norms of the small batches' mean gradients; a number, or one per observation
            of shape (observations,). The gradients of one observation must be taken at the same weights.
        sq_norm_big: Squared norm of the mean of those gradients, likewise.
        batch_small: Examples in a small batch; the harmonic mean of the sizes when they differ.
        batch_big: ``batch_small`` times the number of small batches.
        level: Coverage of the intervals. With fewer than two observations they are the whole line.

    Returns:
        :class:`NoiseScale`; ``num_samples`` counts observations (the effective number where they are discounted).

    Raises:
        ValueError: If the shapes are not () or (observations,), or ``batch_big`` is not larger than ``batch_small``.

    References:
        McCandlish et al. (2018), An empirical model of large-batch training, arXiv 1812.06162.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import noise_scale_from_norms
        >>> scale = noise_scale_from_norms(torch.tensor([3.0, 3.3, 2.9]), torch.tensor([1.5, 1.7, 1.4]), 8, 32)
        >>> [round(float(x), 2) for x in (scale.b_simple.value, scale.b_simple.lower, scale.b_simple.upper)]
        [16.0, 13.06, 21.76]
    """
    given = (sq_norm_small, sq_norm_big, batch_small, batch_big)
    device = next((value.device for value in given if isinstance(value, Tensor)), None)
    tensors = [torch.as_tensor(value, device=device) for value in given]
    if len({len(tensor) for tensor in tensors if tensor.ndim == 1} - {1}) > 1:
        raise ValueError(
            f"noise_scale_from_norms(sq_norm_small, sq_norm_big, batch_small, batch_big): got shapes "
            f"{', '.join(str(tuple(tensor.shape)) for tensor in tensors)}; expected one of each for every observation, "
            "or one for all."
        )
    small, big, b_small, b_big = torch.broadcast_tensors(*tensors)
    if small.ndim > 1:
        raise ValueError(
            f"noise_scale_from_norms(sq_norm_small): got shape {tuple(small.shape)}; expected a number or one value "
            "per observation of shape (observations,). For elementwise values use noise_moments."
        )
    check_level("noise_scale_from_norms", "level", level)
    if not ((b_big > b_small) & (b_small > 0)).all():
        raise ValueError(
            f"noise_scale_from_norms(batch_small={batch_small!r}, batch_big={batch_big!r}): expected batch_big to be "
            "larger than batch_small, and that to be positive, everywhere. One batch size alone cannot separate noise "
            "from signal."
        )
    dtype = torch.promote_types(torch.promote_types(small.dtype, big.dtype), torch.float32)
    wide = torch.float32 if small.device.type == "mps" else torch.float64
    s, g = noise_moments(small.to(wide), big.to(wide), b_small.to(wide), b_big.to(wide))
    sums = MomentSums(*moment_sums(s.reshape(-1), g.reshape(-1)))
    return noise_scale_from_sums(sums, level=level, dtype=dtype, method="squared norms of two batch sizes")


def noise_scale_from_sums(sums: MomentSums, *, level: float, dtype: torch.dtype, method: str) -> NoiseScale:
    """Take the ratio, with its interval, from the sums over observations."""
    return noise_scale_from_means(mean_moments(sums), level=level, dtype=dtype, method=method)


def noise_scale_from_means(means: MeanMoments, *, level: float, dtype: torch.dtype, method: str) -> NoiseScale:
    """Take the ratio, with its interval, from means and the errors of the means, with theirs after Student."""
    s, g, s_var, g_var, covariance, n = means
    ratio = s / g
    ratio_var = (s_var - 2 * ratio * covariance + ratio**2 * g_var) / g**2
    t = student_t_quantile(level, n - 1)

    def estimate(value: Tensor, variance: Tensor, ends: tuple[Tensor, Tensor] | None = None) -> Estimate:
        std_error = variance.clamp(min=0).sqrt()
        lower, upper = _student_interval(value, t * std_error) if ends is None else ends
        return make_estimate(
            value.to(dtype),
            std_error=std_error.to(dtype),
            num_samples=n.nan_to_num().round(),
            lower=lower.to(dtype),
            upper=upper.to(dtype),
            method=method,
        )

    ends = fieller_interval(s, g, s_var, g_var, covariance, n - 1, level)
    return NoiseScale(estimate(ratio, ratio_var, ends), estimate(s, s_var), estimate(g, g_var))


def _student_interval(mean: Tensor, half_width: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ends; the whole line where too little is known, as Fieller's interval."""
    known = half_width.isfinite()
    lower, upper = torch.where(known, mean - half_width, -torch.inf), torch.where(known, mean + half_width, torch.inf)
    return lower, upper
