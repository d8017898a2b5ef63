"""The noise scale from plain numbers that the host holds already.

The formulas of ``moments``, ``fieller`` and ``student_t``, whose functions take tensors of any shape and device, for
one number each. A report during a run is a hundred operations on a dozen numbers: on tensors they would take some
milliseconds, more than a step of a small network.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

from lightning_foresight.functional.gradient_noise.quadrature import check_level, legendre

# Halley's method triples the number of right digits: a last step so small leaves 12 of them.
LAST_STEP = 1e-4
MAX_STEPS = 8


class Interval(NamedTuple):
    """A number with its standard error and the ends of its interval."""

    value: float
    std_error: float
    lower: float
    upper: float


class Moments(NamedTuple):
    """Means over observations, the variances and covariance of those means, and the effective number."""

    numerator: float
    denominator: float
    numerator_var: float
    denominator_var: float
    covariance: float
    num_effective: float


def divide(a: float, b: float) -> float:
    """Divide as tensors do: by 0, into infinity or NaN."""
    if b != 0:
        return a / b
    return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1.0, b)


def solve(sq_norm_small: float, sq_norm_big: float, batch_small: float, batch_big: float) -> tuple[float, float]:
    """Return noise and signal of one step, as :func:`~.moments.noise_moments`; not finite at equal sizes."""
    return (
        divide(sq_norm_small - sq_norm_big, 1 / batch_small - 1 / batch_big),
        divide(batch_big * sq_norm_big - batch_small * sq_norm_small, batch_big - batch_small),
    )


def moments(sums: list[float]) -> Moments:
    """Turn the fields of :class:`~.moments.MomentSums` into means with their errors."""
    weight, weight_squared, s, g, ss, gg, sg = sums
    if weight == 0:
        return Moments(*[math.nan] * 6)
    s, g, n = s / weight, g / weight, divide(weight * weight, weight_squared)
    free = n - 1 if n > 1 else math.nan
    s_var, g_var = max(ss / weight - s * s, 0.0) / free, max(gg / weight - g * g, 0.0) / free
    return Moments(s, g, s_var, g_var, (sg / weight - s * g) / free, n)


def mean_interval(mean: float, variance: float, df: float, level: float) -> Interval:
    """Return a mean with its interval after Student; the whole line where too little is known, as for a ratio."""
    error = math.sqrt(variance) if variance >= 0 else math.nan
    half_width = t_quantile(level, df) * error
    if not math.isfinite(half_width):
        return Interval(mean, error, -math.inf, math.inf)
    return Interval(mean, error, mean - half_width, mean + half_width)


def ratio_interval(means: Moments, level: float) -> Interval:
    """Return the ratio of the means with Fieller's interval; see :func:`~.fieller.fieller_interval`."""
    s, g, s_var, g_var, covariance, n = means
    ratio = divide(s, g)
    variance = divide(s_var - 2 * ratio * covariance + ratio * ratio * g_var, g * g)
    error = math.nan if math.isnan(variance) else math.sqrt(max(variance, 0.0))
    t_squared = t_quantile(level, n - 1) ** 2
    a, b, c = g * g - t_squared * g_var, s * g - t_squared * covariance, s * s - t_squared * s_var
    discriminant = b * b - a * c
    q = b + math.copysign(math.sqrt(max(discriminant, 0.0)), b)
    lower, upper = -math.inf, math.inf
    first = divide(q, a)
    small, large = sorted((first, divide(c, q) if q != 0 else first))
    if a > 0:
        lower, upper = small, large
    elif a <= 0 and discriminant > 0:
        lower, upper = (large, upper) if s > 0 else (lower, small)
    return Interval(ratio, error, lower, upper)


@lru_cache(maxsize=256)  # groups that were seen at the same steps share their degrees of freedom
def t_quantile(level: float, df: float) -> float:
    """Return the half-width that holds ``level`` of Student's t; infinity below one degree of freedom."""
    if not df >= 1:
        return math.inf if df < 1 else math.nan
    check_level("t_quantile", "level", level)
    nodes, weights = legendre()
    half = 0.5 * math.sqrt(math.pi) * math.exp(math.lgamma(df / 2) - math.lgamma((df + 1) / 2))
    z = NormalDist().inv_cdf((1 + level) / 2)
    # The first terms of the expansion in 1 / df (Abramowitz & Stegun 26.7.5), from below.
    angle = math.atan((z + ((z**3 + z) / 4 + (5 * z**5 + 16 * z**3 + 3 * z) / 96 / df) / df) / math.sqrt(df))
    for _ in range(MAX_STEPS):
        integral = angle * sum(w * math.cos(angle * x) ** (df - 1) for x, w in zip(nodes, weights, strict=True))
        newton = (level * half - integral) / math.cos(angle) ** (df - 1)
        step = newton / (1 - 0.5 * newton * (df - 1) * math.tan(angle))
        angle += step
        if abs(step) < LAST_STEP * angle:
            break
    return math.sqrt(df) * math.tan(angle)
