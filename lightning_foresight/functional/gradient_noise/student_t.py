"""Quantiles of Student's t distribution as a tensor operation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional.gradient_noise.quadrature import check_level, legendre

NUM_HALLEY_STEPS = 4


def student_t_quantile(level: float, df: Tensor) -> Tensor:
    r"""Two-sided quantile of Student's t: the half-width that holds ``level`` of the probability.

    With :math:`t = \sqrt\nu \tan\theta` the distribution is :math:`\propto \cos^{\nu - 1}\theta\,d\theta`, which
    Gauss-Legendre nodes integrate; Halley's method in :math:`\theta`, which knows the derivatives of the integral, then
    climbs to the root from below. No branch depends on the data, so nothing waits for the device.

    Args:
        level: Probability inside ``(-t, t)``, in (0, 0.999].
        df: Degrees of freedom, any shape; need not be whole. Below 1 the quantile is given as infinity, which is
            conservative: one degree of freedom is the least that an interval can rest on.

    Returns:
        Quantiles of the shape of ``df``, to 8 digits in float64 for ``level`` up to 0.99, to 4 digits at 0.999.

    Raises:
        ValueError: If ``level`` is not between 0 and 0.999.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional.gradient_noise.student_t import student_t_quantile
        >>> student_t_quantile(0.95, torch.tensor([1.0, 10.0, 1e6]))
        tensor([12.7062,  2.2281,  1.9600])
    """
    check_level("student_t_quantile", "level", level)
    precise = df.to(torch.float32 if df.device.type == "mps" else torch.float64)
    nodes, weights = (precise.new_tensor(numbers) for numbers in legendre())
    power = precise.clamp(min=1) - 1
    # Half of the whole integral of cos^(df - 1) over (-pi/2, pi/2).
    half = 0.5 * math.sqrt(math.pi) * torch.exp(torch.lgamma((power + 1) / 2) - torch.lgamma((power + 2) / 2))
    normal = math.sqrt(2) * torch.erfinv(torch.full_like(power, level))
    angle = torch.atan(normal / torch.sqrt(power + 1))

    def log_cos(theta: Tensor) -> Tensor:
        return 0.5 * torch.log1p(-(torch.sin(theta) ** 2))

    for _ in range(NUM_HALLEY_STEPS):
        points = angle.unsqueeze(-1) * nodes
        integral = angle * (weights * torch.exp(power.unsqueeze(-1) * log_cos(points))).sum(-1)
        newton = (level * half - integral) * torch.exp(-power * log_cos(angle))
        angle = angle + newton / (1 - 0.5 * newton * power * torch.tan(angle))
    quantile = torch.sqrt(power + 1) * torch.tan(angle)
    return torch.where(precise < 1, torch.inf, quantile).to(df.dtype if df.is_floating_point() else torch.float32)
