"""Pairs of single columns whose information in nats is known by closed form or quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats
from scipy.special import digamma, gammaln

Pair = tuple[Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]], float]


def normal(correlation: float, transform: Callable = lambda t: t) -> Pair:
    def sample(n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x, noise = generator.standard_normal((2, n))
        return transform(x), transform(correlation * x + math.sqrt(1 - correlation**2) * noise)

    return sample, -0.5 * math.log1p(-(correlation**2))


def student(freedom: int) -> Pair:
    def sample(n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        scale = np.sqrt(generator.chisquare(freedom, n) / freedom)
        return generator.standard_normal(n) / scale, generator.standard_normal(n) / scale

    def entropy(d: int) -> float:
        shape = (freedom + d) / 2
        log_norm = gammaln(freedom / 2) - gammaln(shape) + d / 2 * math.log(freedom * math.pi)
        return float(log_norm + shape * (digamma(shape) - digamma(freedom / 2)))

    return sample, 2 * entropy(1) - entropy(2)


def uniform_sum(width: float) -> Pair:
    def sample(n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = generator.random(n)
        return x, x + 2 * width * (generator.random(n) - 0.5)

    return sample, width - math.log(2 * width)


def gamma_sum(shape: float) -> Pair:
    """X and Y = X + X', both gamma of this shape: skewed, and Y is never below X."""

    def entropy(a: float) -> float:
        return float(a + gammaln(a) + (1 - a) * digamma(a))

    def sample(n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = generator.gamma(shape, size=n)
        return x, x + generator.gamma(shape, size=n)

    return sample, entropy(2 * shape) - entropy(shape)


def mixture(correlation: float, distance: float) -> Pair:
    """Two normal pairs of opposite correlations, apart along the diagonal."""
    grid = np.linspace(-9 - distance, 9 + distance, 3001)
    x, y = grid[:, None], grid[None, :]

    def density(x: np.ndarray, y: np.ndarray, rho: float) -> np.ndarray:
        exponent = (x * x - 2 * rho * x * y + y * y) / (2 * (1 - rho * rho))
        return np.exp(-exponent) / (2 * math.pi * math.sqrt(1 - rho * rho))

    joint = (density(x + distance, y + distance, correlation) + density(x - distance, y - distance, -correlation)) / 2
    joint /= joint.sum()
    alone = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    truth = float((joint * np.log(np.maximum(joint, 1e-300) / np.maximum(alone, 1e-300))).sum())

    def sample(n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        sign = np.where(generator.random(n) < 0.5, 1.0, -1.0)
        x, noise = generator.standard_normal((2, n))
        return x - sign * distance, sign * correlation * x + math.sqrt(1 - correlation**2) * noise - sign * distance

    return sample, truth


def given_normal(density: Callable, draw: Callable, low: float, high: float) -> Pair:
    """X normal, Y drawn given X, of density ``density(y, x)``; the truth by quadrature."""
    x, y = np.linspace(-6, 6, 4001)[:, None], np.linspace(low, high, 4001)[None, :]
    weights = stats.norm.pdf(x)
    weights /= weights.sum()
    conditional = density(y, x)
    marginal = (weights * conditional).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(conditional > 0, conditional * np.log(conditional / np.maximum(marginal, 1e-300)), 0)
    truth = float((weights * terms).sum() * (y[0, 1] - y[0, 0]))

    def sample(n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = generator.standard_normal(n)
        return x, draw(x, generator)

    return sample, truth


def known_pairs() -> dict[str, Pair]:
    """Return the pairs by name."""
    pdf = stats.norm.pdf
    return {
        "normal 0.3": normal(0.3),
        "normal 0.9": normal(0.9),
        "normal -0.6": normal(-0.6),
        "log-normal 0.6": normal(0.6, np.exp),
        "student 3": student(3),
        "gamma 2": gamma_sum(2),
        "gamma 1": gamma_sum(1),
        "mixture 0.8": mixture(0.8, 1.5),
        "mixture 0.5": mixture(0.5, 0.5),
        "modulus": given_normal(
            lambda y, x: pdf(y, np.abs(x), 0.3), lambda x, g: np.abs(x) + 0.3 * g.standard_normal(len(x)), -2, 8
        ),
        "sine": given_normal(
            lambda y, x: pdf(y, np.sin(2 * x), 0.2), lambda x, g: np.sin(2 * x) + 0.2 * g.standard_normal(len(x)), -3, 3
        ),
        "laplace noise": given_normal(
            lambda y, x: stats.laplace.pdf(y, x, 0.7), lambda x, g: x + g.laplace(0, 0.7, len(x)), -14, 14
        ),
        "scale": given_normal(
            lambda y, x: pdf(y, 0, 0.2 + np.abs(x)),
            lambda x, g: (0.2 + np.abs(x)) * g.standard_normal(len(x)),
            -14,
            14,
        ),
        "triangle noise": given_normal(
            lambda y, x: np.clip(0.4 - np.abs(y - stats.norm.cdf(x)), 0, None) / 0.16,
            lambda x, g: stats.norm.cdf(x) + 0.4 * (g.random(len(x)) + g.random(len(x)) - 1),
            -0.6,
            1.6,
        ),
        "uniform sum 0.45": uniform_sum(0.45),
        "uniform sum 0.02": uniform_sum(0.02),
        "normal 0.5": normal(0.5),
        "normal 0.97": normal(0.97),
        "student 2": student(2),
        "gamma 4": gamma_sum(4),
        "mixture 0.9": mixture(0.9, 1.0),
        "uniform sum 0.2": uniform_sum(0.2),
        "square": given_normal(
            lambda y, x: pdf(y, x**2, 0.7), lambda x, g: x**2 + 0.7 * g.standard_normal(len(x)), -4, 40
        ),
        "uniform noise": given_normal(
            lambda y, x: (np.abs(y - x) < 0.8) / 1.6, lambda x, g: x + 1.6 * (g.random(len(x)) - 0.5), -7, 7
        ),
        "uniform sum 0.3": uniform_sum(0.3),
        "uniform sum 0.12": uniform_sum(0.12),
        "uniform noise 0.4": given_normal(
            lambda y, x: (np.abs(y - x) < 0.4) / 0.8, lambda x, g: x + 0.8 * (g.random(len(x)) - 0.5), -7, 7
        ),
        "exponential noise": given_normal(
            lambda y, x: stats.expon.pdf(y - x, scale=0.7), lambda x, g: x + g.exponential(0.7, len(x)), -7, 20
        ),
        "log-normal 0.8": normal(0.8, lambda t: np.exp(1.5 * t)),
        "signed squares 0.7": normal(0.7, lambda t: np.sign(t) * t**2),
        "student 4": student(4),
        "gamma 0.5": gamma_sum(0.5),
        "cosine": given_normal(
            lambda y, x: pdf(y, np.cos(3 * x), 0.4), lambda x, g: np.cos(3 * x) + 0.4 * g.standard_normal(len(x)), -4, 4
        ),
        "logistic noise": given_normal(
            lambda y, x: stats.logistic.pdf(y, x, 0.4), lambda x, g: x + g.logistic(0, 0.4, len(x)), -14, 14
        ),
        "scale by exponent": given_normal(
            lambda y, x: pdf(y, 0, np.exp(0.6 * x)), lambda x, g: np.exp(0.6 * x) * g.standard_normal(len(x)), -60, 60
        ),
        "cube": given_normal(
            lambda y, x: pdf(y, x**3 / 4, 0.8), lambda x, g: x**3 / 4 + 0.8 * g.standard_normal(len(x)), -58, 58
        ),
        "uniform sum 0.38": uniform_sum(0.38),
        "student 6": student(6),
        "gamma 0.75": gamma_sum(0.75),
        "mixture 0.7": mixture(0.7, 2.0),
        "signed roots 0.8": normal(0.8, lambda t: np.sign(t) * np.sqrt(np.abs(t))),
        "normal 0.4": normal(0.4),
        "normal -0.85": normal(-0.85),
        "student 5": student(5),
        "gamma 3": gamma_sum(3),
        "mixture 0.6": mixture(0.6, 1.2),
        "laplace noise 0.4": given_normal(
            lambda y, x: stats.laplace.pdf(y, x, 0.4), lambda x, g: x + g.laplace(0, 0.4, len(x)), -14, 14
        ),
        "bent": given_normal(
            lambda y, x: pdf(y, np.tanh(2 * x), 0.5),
            lambda x, g: np.tanh(2 * x) + 0.5 * g.standard_normal(len(x)),
            -5,
            5,
        ),
        "beta noise": given_normal(
            lambda y, x: stats.beta.pdf(y - x + 1, 2, 2, scale=2),
            lambda x, g: x - 1 + 2 * g.beta(2, 2, len(x)),
            -8,
            8,
        ),
    }


def unseen_pairs() -> dict[str, Pair]:
    """Return pairs that were looked at only after everything about the intervals was fixed."""
    pdf = stats.norm.pdf
    return {
        "normal 0.7": normal(0.7),
        "normal -0.95": normal(-0.95),
        "log-normal 0.4": normal(0.4, np.exp),
        "student 7": student(7),
        "gamma 1.5": gamma_sum(1.5),
        "mixture 0.75": mixture(0.75, 1.0),
        "uniform sum 0.5": uniform_sum(0.5),
        "laplace noise 1": given_normal(
            lambda y, x: stats.laplace.pdf(y, x), lambda x, g: x + g.laplace(0, 1, len(x)), -18, 18
        ),
        "uniform noise 1.2": given_normal(
            lambda y, x: (np.abs(y - x) < 1.2) / 2.4, lambda x, g: x + 2.4 * (g.random(len(x)) - 0.5), -8, 8
        ),
        "slow sine": given_normal(
            lambda y, x: pdf(y, np.sin(x), 0.4), lambda x, g: np.sin(x) + 0.4 * g.standard_normal(len(x)), -4, 4
        ),
        "weibull noise": given_normal(
            lambda y, x: stats.weibull_min.pdf(y - x, 1.5, scale=0.8),
            lambda x, g: x + 0.8 * g.weibull(1.5, len(x)),
            -7,
            12,
        ),
        "gumbel noise": given_normal(
            lambda y, x: stats.gumbel_r.pdf(y, x, 0.5), lambda x, g: x + g.gumbel(0, 0.5, len(x)), -9, 18
        ),
        "scale by logistic": given_normal(
            lambda y, x: pdf(y, 0, 0.3 + 1.5 / (1 + np.exp(-2 * x))),
            lambda x, g: (0.3 + 1.5 / (1 + np.exp(-2 * x))) * g.standard_normal(len(x)),
            -12,
            12,
        ),
        "arctan": given_normal(
            lambda y, x: pdf(y, np.arctan(3 * x), 0.3),
            lambda x, g: np.arctan(3 * x) + 0.3 * g.standard_normal(len(x)),
            -4,
            4,
        ),
    }
