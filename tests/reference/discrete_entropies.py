"""Corrected entropies in nats, each from its published formula, one cell at a time, in 60 digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from mpmath import log, mp, mpf
from scipy.integrate import quad
from scipy.special import gammaln, polygamma, psi

mp.dps = 60


def plug_in(counts: Sequence[int]):
    n = mpf(sum(counts))
    return -sum(c / n * log(c / n) for c in counts if c)


def miller_madow(counts: Sequence[int]):
    return plug_in(counts) + mpf(sum(c > 0 for c in counts) - 1) / (2 * sum(counts))


def jackknife(counts: Sequence[int]):
    n = sum(counts)
    left_out = mpf(0)
    for cell, count in enumerate(counts):
        for _ in range(count):
            left_out += plug_in([c - (i == cell) for i, c in enumerate(counts)])
    return n * plug_in(counts) - mpf(n - 1) / n * left_out


def grassberger(counts: Sequence[int]):
    n = mpf(sum(counts))
    # By recursion: G(1) = -gamma - log 2, G(2) = 2 - gamma - log 2, G(2m+1) = G(2m), G(2m+2) = G(2m) + 2/(2m+1).
    values = {1: -mp.euler - log(2), 2: 2 - mp.euler - log(2)}
    for c in range(3, max(counts) + 1):
        values[c] = values[c - 1] if c % 2 else values[c - 2] + mpf(2) / (c - 1)
    return log(n) - sum(c * values[c] for c in counts if c) / n


def chao_shen(counts: Sequence[int]):
    n = sum(counts)
    singles = sum(c == 1 for c in counts)
    coverage = 1 - mpf(n - 1 if singles == n else singles) / n
    shares = [coverage * c / n for c in counts if c]
    return -sum(p * log(p) / (1 - (1 - p) ** n) for p in shares)


def chao_wang_jost(counts: Sequence[int]):
    n = sum(counts)
    singles, pairs = sum(c == 1 for c in counts), sum(c == 2 for c in counts)
    seen = sum(mpf(c) / n * sum(mpf(1) / k for k in range(c, n)) for c in counts if c)
    if singles == 0:
        return seen
    a = mpf(2 * pairs) / ((n - 1) * singles + 2 * pairs) if pairs else mpf(2) / ((n - 1) * (singles - 1) + 2)
    if a == 1:
        return seen
    tail = -log(a) - sum((1 - a) ** r / r for r in range(1, n))
    return seen + mpf(singles) / n * (1 - a) ** (1 - n) * tail


def nsb(counts: Sequence[int], num_cells: int) -> float:
    """The integral over the concentration by adaptive quadrature in float64, all cells in the sums."""
    cells = np.array([*counts, *[0] * (num_cells - len(counts))], dtype=np.float64)
    n = cells.sum()

    def log_weight(s: float) -> float:
        beta = math.exp(s)
        evidence = gammaln(num_cells * beta) - gammaln(n + num_cells * beta)
        evidence += (gammaln(cells + beta) - gammaln(beta)).sum()
        prior = num_cells * polygamma(1, num_cells * beta + 1) - polygamma(1, beta + 1)
        return evidence + math.log(prior) + s

    def mean(s: float) -> float:
        beta = math.exp(s)
        total = n + num_cells * beta
        return psi(total + 1) - ((cells + beta) / total * psi(cells + beta + 1)).sum()

    peak = max(log_weight(s) for s in np.linspace(-15, 15, 301))

    def integral(of: Callable[[float], float]) -> float:
        ends = np.arange(-18, 18, 0.5)
        return sum(quad(lambda s: math.exp(log_weight(s) - peak) * of(s), a, a + 0.5)[0] for a in ends)

    return integral(mean) / integral(lambda s: 1.0)
