"""Pairs whose mutual information is known in closed form, in nats."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy.special import digamma, gammaln
from torch import Tensor


def gaussian(correlations: list[float], width: int) -> Callable[[int, torch.Generator], tuple[Tensor, Tensor]]:
    def sample(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(n, width, generator=generator, dtype=torch.float64)
        y = torch.randn(n, width, generator=generator, dtype=torch.float64)
        rho = torch.zeros(width, dtype=torch.float64)
        rho[: len(correlations)] = torch.tensor(correlations, dtype=torch.float64)
        return x, rho * x + (1 - rho**2).sqrt() * y

    return sample


def gaussian_information(correlations: list[float]) -> float:
    return -0.5 * sum(math.log1p(-(r**2)) for r in correlations)


def uniform_plus_uniform(a: float) -> Callable[[int, torch.Generator], tuple[Tensor, Tensor]]:
    """X uniform on (0, 1), Y = X + U(-a, a): a - log(2 a) nats for 2a <= 1."""

    def sample(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.rand(n, 1, generator=generator, dtype=torch.float64)
        return x, x + 2 * a * (torch.rand(n, 1, generator=generator, dtype=torch.float64) - 0.5)

    return sample


def student(width: int, freedom: int) -> Callable[[int, torch.Generator], tuple[Tensor, Tensor]]:
    def sample(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        both = torch.randn(n, 2 * width, generator=generator, dtype=torch.float64)
        scale = torch.randn(n, freedom, generator=generator, dtype=torch.float64).square().mean(1, keepdim=True).sqrt()
        both = both / scale
        return both[:, :width], both[:, width:]

    return sample


def student_information(width: int, freedom: int) -> float:
    """h(X) + h(Y) - h(X, Y) of a multivariate t with identity scale: entropies in closed form."""

    def entropy(d: int) -> float:
        shape = (freedom + d) / 2
        log_norm = gammaln(freedom / 2) - gammaln(shape) + d / 2 * math.log(freedom * math.pi)
        return float(log_norm + shape * (digamma(shape) - digamma(freedom / 2)))

    return 2 * entropy(width) - entropy(2 * width)


def mapped(sample: Callable, transform: Callable[[Tensor], Tensor]) -> Callable:
    """Each side through an invertible map, which leaves the information as it is."""

    def transformed(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, y = sample(n, generator)
        return transform(x), transform(y)

    return transformed


RHO = [0.9, 0.5]
# name: (sampler, information, tolerance of "auto" at n = 2,000); several standard deviations, and its known bias.
TASKS = {
    "normal-1": (gaussian([0.75], 1), gaussian_information([0.75]), 0.08),
    "normal-1-independent": (gaussian([0.0], 1), 0.0, 0.08),
    "normal-1-strong": (gaussian([0.99], 1), gaussian_information([0.99]), 0.08),
    "cubed-1": (mapped(gaussian([0.75], 1), lambda t: t**3), gaussian_information([0.75]), 0.08),
    "uniform-sum-1": (uniform_plus_uniform(0.3), 0.3 - math.log(0.6), 0.08),
    "student-1": (student(1, 1), student_information(1, 1), 0.08),
    "normal-3": (gaussian(RHO, 3), gaussian_information(RHO), 0.10),
    "normal-3-independent": (gaussian([0.0], 3), 0.0, 0.08),
    "cube-root-5": (mapped(gaussian(RHO, 5), lambda t: t.sign() * t.abs() ** (1 / 3)), gaussian_information(RHO), 0.10),
    "normal-25": (gaussian(RHO, 25), gaussian_information(RHO), 0.15),
    "student-2": (student(2, 2), student_information(2, 2), 0.12),
    "exponential-3": (mapped(gaussian(RHO, 3), torch.exp), gaussian_information(RHO), 0.10),
}
