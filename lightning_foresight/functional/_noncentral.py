"""Intervals of values that chance can only lower, or only raise: those of plug-in entropies near even cells."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T", float, Tensor)
Z = NormalDist().inv_cdf(0.975)
_SKEWED = (2 * Z * Z + 1) / 6
_STEPS = 3  # to a hundredth of the spread
_TINY = 1e-300


def at_least(value: T, floor: float) -> T:
    """Return the larger of both."""
    return value.clamp(min=floor) if isinstance(value, Tensor) else max(value, floor)


def debiased_variance(variance: T, freedom: T, n: T) -> T:
    r"""Variance of a plug-in value of ``freedom`` degrees of freedom, from that of its samples' terms.

    The second order adds :math:`\nu / 2n^2` (Harris 1975), all there is where the terms are even; the terms of the
    sample spread by :math:`\nu / n` more than those of the population.
    """
    return at_least(variance - freedom / n, 0.0) / n + freedom / (2 * n * n)


def skewness_shift(third: T | float, variance: T, n: T) -> T:
    r"""How far the skewness of its terms moves both ends of a mean's interval (Johnson 1978, Hall 1992).

    .. math:: \frac{2 z^2 + 1}{6} \frac{\mu_3}{n \sigma^2}

    Where few terms of a kind make a mean, more of them by chance raise it together with the error that it shows.

    Args:
        third: Third central moment of the terms.
        variance: Theirs.
        n: How many.
    """
    return _SKEWED * third / (at_least(variance, _TINY) * n)


def distance_interval(distance: T, variance: T, freedom: T, n: T, shift: T | float = 0.0) -> tuple[T, T]:
    r"""95% interval of how far a plug-in value of n samples is from its limit, where all its terms are equal.

    Of an entropy that is :math:`D = \log K - H`, of information :math:`D = I` (and the terms are log density ratios).
    Near the limit :math:`2 n \hat D` is a noncentral chi-square variable of noncentrality :math:`2nD`, and
    :math:`n \hat\sigma^2` is the same to first order; far from it :math:`\hat D` is normal with mean
    :math:`D + \nu / 2n` and variance :math:`\sigma^2 / n + \nu / 2n^2`. The ends

    .. math:: \hat D + \frac{\lambda - n \hat\sigma^2}{2n}, \qquad
        P(\chi'^2_\nu(\lambda) \le n \hat\sigma^2) = 0.975,\ 0.025

    are right for both. The lower one is 0 where the test of :math:`D = 0` by :math:`2n\hat D` does not reject, and
    above 0 where it does: where the terms say otherwise, it is that of the test.

    Args:
        distance: The plug-in :math:`\hat D` in nats, not below 0.
        variance: :math:`\hat\sigma^2` of the samples' terms.
        freedom: :math:`\nu`, at least 1.
        n: How many samples.
        shift: What to add to both ends far from the limit, as of :func:`skewness_shift`.
    """
    observed = variance * n
    # Terms more even than a spread below what chance makes them say no more than those: none would be even enough.
    largest = _noncentrality(observed + at_least(freedom - (2 * freedom) ** 0.5 - observed, 0.0), freedom, -Z)
    high = distance + (largest - observed) / (2 * n) + shift
    rejects = 2 * n * distance > _quantile(0 * freedom, freedom, Z)
    if not isinstance(distance, Tensor) and not rejects:
        return 0.0, high
    smallest = _noncentrality(observed, freedom, Z)
    low = distance + (smallest - observed) / (2 * n)
    # Terms may be even far from the limit, too: there it is no end.
    normal = distance - freedom / (2 * n) - Z * debiased_variance(variance, freedom, n) ** 0.5
    low = low * (smallest > 0) + normal * (smallest <= 0) + shift
    if isinstance(low, Tensor) or low <= 0:
        low = low * (low > 0) + _noncentrality(2 * n * distance, freedom, Z) / (2 * n) * (low <= 0)
    return low * rejects, high


def _noncentrality(observed: T, freedom: T, z: float) -> T:
    """The noncentrality of which ``observed`` is the quantile of the standard normal ``z``; 0 if there is none.

    After the root that makes its variance constant, a quantile is nearly as far from its noncentrality at any: a few
    steps of a fixed point are enough.
    """
    half = freedom / 2
    root = (observed + half) ** 0.5
    found = at_least(at_least(at_least(observed - half, 0.0) ** 0.5 - z, 0.0) ** 2 - half, 0.0)
    for _ in range(_STEPS):
        moved = (found + half) ** 0.5 + root - (_quantile(found, freedom, z) + half) ** 0.5
        found = at_least(at_least(moved, 0.0) ** 2 - half, 0.0)
    return found


def _quantile(noncentrality: T, freedom: T, z: float) -> T:
    """Quantile of the noncentral chi-square at the standard normal ``z`` (Sankaran 1963)."""
    mean, double = freedom + noncentrality, freedom + 2 * noncentrality
    h = 1 - 2 * mean * (freedom + 3 * noncentrality) / (3 * double * double)
    p = double / (mean * mean)
    m = (h - 1) * (1 - 3 * h)
    power = 1 + h * p * (h - 1 - 0.5 * (2 - h) * m * p) + z * h * (2 * p) ** 0.5 * (1 + 0.5 * m * p)
    return mean * at_least(power, 0.0) ** (1 / h)


def entropy_interval(plug_in: T, variance: T, seen: T, n: T, third: T | float = 0.0) -> tuple[T, T]:
    """95% interval in nats of the entropy of ``seen`` values, from their plug-in one and its terms' central moments.

    Where one value was seen, others may share up to 3 of n samples: none of them is seen in 5% of samples then.
    """
    most = seen.log() if isinstance(seen, Tensor) else math.log(seen)
    shift = -skewness_shift(third, variance, n)
    low, high = distance_interval(at_least(most - plug_in, 0.0), variance, at_least(seen - 1, 1.0), n, shift)
    unseen = -at_least(-3 / n, -0.5)
    return at_least(most - high, 0.0), most - low + (seen == 1) * _entropy_of_share(unseen)


def _entropy_of_share(share: T) -> T:
    """That of something which has this share, in nats."""
    if isinstance(share, Tensor):
        return torch.special.entr(share) + torch.special.entr(1 - share)
    return -share * math.log(share) - (1 - share) * math.log1p(-share)
