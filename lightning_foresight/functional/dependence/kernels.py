"""Kernels between samples, less a constant that centring would remove."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_choice, fail

KERNELS = ("gaussian", "linear", "distance")
# Rows whose distances give the median; more would change it by less than its own sampling error.
_MEDIAN_ROWS = 1000

Kernel = Callable[[Tensor, Tensor], Tensor]


def check_kernel(owner: str, kernel: str, bandwidth: Any) -> None:
    """Require a kernel by name and a bandwidth that is a positive number, ``"median"``, or a pair of these."""
    check_choice(owner, "kernel", kernel, KERNELS)
    for width in bandwidth if isinstance(bandwidth, (tuple, list)) and len(bandwidth) == 2 else [bandwidth]:
        number = isinstance(width, (int, float)) and not isinstance(width, bool) and 0 < width < math.inf
        if width != "median" and not number:
            fail(owner, "bandwidth", bandwidth, "expected a positive number, 'median', or a pair of these for x and y.")


def median_distance(rows: Tensor) -> Tensor:
    """Median Euclidean distance between different rows, from at most 1,000 evenly spaced rows; 1 if that is 0."""
    distances = torch.pdist(rows.detach()[:: -(-rows.shape[0] // _MEDIAN_ROWS)])
    count = distances.numel()
    median = (distances.kthvalue((count + 1) // 2).values + distances.kthvalue(count // 2 + 1).values) / 2
    return torch.where(median > 0, median, torch.ones_like(median))


def _exponents(a: Tensor, b: Tensor) -> Tensor:
    """Negative squared distances, from one matrix product."""
    one = a.new_ones(1)
    left = torch.cat([2 * a, -a.square().sum(1, keepdim=True), -one.expand(a.shape[0], 1)], 1)
    return left @ torch.cat([b, one.expand(b.shape[0], 1), b.square().sum(1, keepdim=True)], 1).T


def _gaussian(a: Tensor, b: Tensor) -> Tensor:
    return _exponents(a, b).clamp_(-80, 0).exp_()  # numbers below the normal range would be 12 times as slow


def _gaussian_less_one(a: Tensor, b: Tensor) -> Tensor:
    return _exponents(a, b).expm1_()


def make_kernel(rows: Tensor, kernel: str, bandwidth: float | str) -> tuple[Tensor, Kernel]:
    """Return the rows as the kernel wants them, and the kernel of two blocks of such rows.

    A Gaussian whose values are mostly near 1 comes less 1: the constant is lost in centring, and without it the small
    differences keep their digits in float32.
    """
    centre = rows.detach()
    rows = (rows - centre.mean(0)) * (centre != centre[:1]).any(
        0
    )  # the mean of equal numbers is not always that number
    if kernel == "linear":
        return rows, lambda a, b: a @ b.T
    if kernel == "distance":
        # This derivative of a distance is 0, not NaN, where two rows are equal.
        return rows, lambda a, b: -torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    sigma = median_distance(rows) if isinstance(bandwidth, str) else bandwidth
    rows = rows / (sigma * math.sqrt(2))
    wide = bool(rows.detach().square().sum(1).mean() < 0.35)  # the mean exponent is twice this
    return rows, _gaussian_less_one if wide else _gaussian
