"""Fieller's confidence set for a ratio of means."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_foresight.functional._checks import number_tensor, takes
from lightning_foresight.functional.gradient_noise.student_t import student_t_quantile


@takes(
    numerator=number_tensor,
    denominator=number_tensor,
    numerator_var=number_tensor,
    denominator_var=number_tensor,
    covariance=number_tensor,
    df=number_tensor,
)
def fieller_interval(
    numerator: Tensor,
    denominator: Tensor,
    numerator_var: Tensor,
    denominator_var: Tensor,
    covariance: Tensor,
    df: Tensor,
    level: float = 0.95,
) -> tuple[Tensor, Tensor]:
    r"""Confidence interval of a ratio of two means by Fieller's theorem, unbounded where the data do not bound it.

    The set of all :math:`\theta` that a t test of :math:`E[\text{numerator}] = \theta\,E[\text{denominator}]` does
    not reject:

    .. math:: (\bar S - \theta \bar G)^2 \le t^2 \left(v_S - 2 \theta v_{SG} + \theta^2 v_G\right).

    It is bounded when the denominator differs from 0 significantly. When it does not, very large ratios cannot be
    excluded; the end is then infinite, and of the two branches of the set the one with a positive denominator is
    returned, since the mean in the denominator (a squared norm) cannot be negative. When nothing can be excluded the
    interval is ``(-inf, inf)``.

    Args:
        numerator: Mean of the numerator, any shape.
        denominator: Mean of the denominator, broadcastable, as all that follow.
        numerator_var: Variance of the numerator's *mean*.
        denominator_var: Variance of the denominator's mean.
        covariance: Covariance of the two means.
        df: Degrees of freedom of the variances; fewer than 1 give the whole line.
        level: Probability that the interval covers the true ratio.

    Returns:
        ``(lower, upper)``, of the broadcast shape.

    Raises:
        ValueError: If ``level`` is not between 0 and 0.999.

    References:
        E. C. Fieller (1954), Some problems in interval estimation, JRSS B 16(2).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import fieller_interval
        >>> known, loose, none = torch.tensor(0.01), torch.tensor(1.0), torch.tensor(0.0)
        >>> fieller_interval(torch.tensor(6.0), torch.tensor(2.0), known, known, none, torch.tensor(30.0))
        (tensor(2.7055), tensor(3.3578))
        >>> fieller_interval(torch.tensor(6.0), torch.tensor(2.0), known, loose, none, torch.tensor(30.0))
        (tensor(1.4826), tensor(inf))
    """
    t_squared = student_t_quantile(level, df) ** 2
    # The set is {theta: a theta^2 - 2 b theta + c <= 0}.
    a = denominator**2 - t_squared * denominator_var
    b = numerator * denominator - t_squared * covariance
    c = numerator**2 - t_squared * numerator_var
    discriminant = b**2 - a * c
    # Roots without cancellation: q / a and c / q.
    q = b + torch.copysign(discriminant.clamp(min=0).sqrt(), b)
    first = q / a
    second = torch.where(q == 0, first, c / q)  # a numerator of 0 that does not vary
    small, large = torch.minimum(first, second), torch.maximum(first, second)
    bounded = a > 0
    outside_roots = (a <= 0) & (discriminant > 0)
    upward = numerator > 0
    lower = torch.where(bounded, small, torch.where(outside_roots & upward, large, -torch.inf))
    upper = torch.where(bounded, large, torch.where(outside_roots & ~upward, small, torch.inf))
    return lower, upper
