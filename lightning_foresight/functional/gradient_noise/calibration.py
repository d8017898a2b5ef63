"""A cheap observation at every step, corrected by a dear one now and then: two-phase regression estimates."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_foresight.functional.gradient_noise.moments import MeanMoments

# Positions of noise and signal among the four observed quantities: of the part, then of the whole.
PART, WHOLE = (0, 1), (2, 3)
# With fewer calibrated observations a slope is mostly noise: the whole is then averaged as it is.
MIN_FOR_SLOPE = 4


def calibration_sums(part: Tensor, whole: Tensor, decay: float = 1.0) -> Tensor:
    """Sum observations of a part and, where there are any, of the whole, with weights ``decay ** age``.

    Args:
        part: Noise and signal of the part, shape (2, observations), the oldest first.
        whole: Noise and signal of the whole, or of groups, shape (2, observations, groups); NaN where not observed.
        decay: Factor by which an observation's weight shrinks with each newer one.

    Returns:
        Shape (2, 22, groups): sums over all observations of the part, then over those with the whole; along the second
        axis the weight, its square, the four quantities and their 16 products. They add over batches.
    """
    age = torch.arange(part.shape[1] - 1, -1, -1, device=part.device, dtype=part.dtype)
    known = torch.isfinite(part).all(0).unsqueeze(1).expand(whole.shape[1:])
    both = known & torch.isfinite(whole).all(0)
    weight = (decay**age).unsqueeze(1)
    quantities = torch.cat([part.unsqueeze(2).expand_as(whole), whole])  # (4, observations, groups)
    sums = []
    for counted in (known, both):
        w = torch.where(counted, weight, 0)
        z = torch.where(counted & torch.isfinite(quantities), quantities, 0)
        products = torch.einsum("ng,ang,bng->abg", w, z, z).flatten(0, 1)
        sums.append(torch.cat([w.sum(0, keepdim=True), (w**2).sum(0, keepdim=True), (w * z).sum(1), products]))
    return torch.stack(sums)


def calibrated_moments(sums: Tensor) -> tuple[MeanMoments, MeanMoments]:
    r"""Estimate the means of the whole from the part at all observations and the whole at some of them.

    With :math:`x` what the part shows and :math:`y` the whole, each of noise and signal by itself,

    .. math:: \hat y = \bar y_c + \beta\,(\bar x - \bar x_c), \qquad \beta = \frac{\operatorname{cov}_c(x, y)}
        {\operatorname{var}_c(x)}

    where :math:`c` marks means over the calibrated observations. Whatever the relation of part and whole is,
    :math:`\hat y` is an estimate of the mean of the whole; a close relation only makes it more precise, as

    .. math:: \operatorname{var} \hat y = \frac{\operatorname{var}(y - \beta x)}{n_c} + \frac{\beta^2
        \operatorname{var}(x)}{n}.

    Args:
        sums: From :func:`calibration_sums`.

    Returns:
        Means of the whole, with the errors of the calibration in their variances, for each group; and those of the
        part, which have one group. Degrees of freedom are those of the calibrated observations, less one for the slope.

    References:
        W. G. Cochran (1977), Sampling techniques, section 12.6 (double sampling with regression).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional.gradient_noise.calibration import calibrated_moments, calibration_sums
        >>> part = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 12.0], [1.0, 1.5, 1.0, 2.0, 1.0, 1.0]])
        >>> whole = 3 * part.unsqueeze(2)
        >>> whole[:, 5] = torch.nan  # not calibrated
        >>> calibrated_moments(calibration_sums(part, whole))[0].numerator  # three times the mean of the part, 4.5
        tensor([13.5000])
    """
    weight = sums[:, 0]
    count = weight**2 / sums[:, 1]
    mean = sums[:, 2:6] / weight.unsqueeze(1)
    products = sums[:, 6:].unflatten(1, (4, 4)) / weight[:, None, None]
    free = torch.where(count > 1, count - 1, torch.nan)
    covariance = (products - mean.unsqueeze(1) * mean.unsqueeze(2)) * (count / free)[:, None, None]
    (n, n_c), (x_cov, cov) = count, covariance
    slopes, means = [], []
    for x, y in zip(PART, WHOLE, strict=True):
        enough = (n_c >= MIN_FOR_SLOPE) & (cov[x, x] > 0)
        slopes.append(torch.where(enough, cov[x, y] / torch.where(enough, cov[x, x], 1), 0))
        means.append(mean[1, y] + slopes[-1] * (mean[0, x] - mean[1, x]))
    # The slope is estimated, too, where there is one.
    lost = n_c - 1 - (slopes[0] != 0).to(n_c)
    scale = (n_c - 1) / torch.where(lost > 0, lost, torch.nan)

    def error(i: int, j: int) -> Tensor:
        """Return the covariance of the estimates of the i-th and j-th quantity."""
        (x, y), (u, v) = (PART[i], WHOLE[i]), (PART[j], WHOLE[j])
        a, b = slopes[i], slopes[j]
        residual = cov[y, v] - b * cov[y, u] - a * cov[x, v] + a * b * cov[x, u]
        crossed = b * (cov[y, u] - a * cov[x, u]) + a * (cov[v, x] - b * cov[u, x])
        return residual * scale / n_c + (a * b * x_cov[x, u] + crossed) / n

    whole = MeanMoments(means[0], means[1], error(0, 0), error(1, 1), error(0, 1), lost + 1)
    part = MeanMoments(
        *(value[:1] for value in (mean[0, 0], mean[0, 1], x_cov[0, 0] / n, x_cov[1, 1] / n, x_cov[0, 1] / n, n))
    )
    return whole, part
