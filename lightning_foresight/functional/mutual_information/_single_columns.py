"""Neighbours of pairs of single columns: sorting finds them in a window, and counts them in logarithmic time."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunks


class Neighbourhoods(NamedTuple):
    """What KSG needs of each sample, each ``(n,)``."""

    limit_x: Tensor  # distance in x that reaches the k nearest neighbours
    limit_y: Tensor
    near_x: Tensor  # samples within it, the sample itself among them
    near_y: Tensor


def neighbourhoods(x: Tensor, y: Tensor, neighbours: list[int], variant: int) -> list[Neighbourhoods]:
    """Find the k nearest neighbours of each sample by the larger of both distances, and count within their reach.

    Args:
        x: Float64, shape ``(n,)``.
        y: Float64, shape ``(n,)``.
        neighbours: The values of k; the search costs as much as for the largest.
        variant: 1 counts nearer than the k-th neighbour, 2 up to the neighbours' extent in each column.
    """
    order = x.argsort()
    limits_x, limits_y = _limits(x[order], y[order], neighbours, variant)
    found = []
    for of_x, of_y in zip(limits_x.T, limits_y.T, strict=True):
        limit_x, limit_y = (torch.empty_like(each).scatter_(0, order, each) for each in (of_x, of_y))
        near_x, near_y = (_count(a, b, variant == 2) for a, b in ((x, limit_x), (y, limit_y)))
        found.append(Neighbourhoods(limit_x, limit_y, near_x, near_y))
    return found


def _limits(x: Tensor, y: Tensor, neighbours: list[int], variant: int) -> tuple[Tensor, Tensor]:
    """The reach in x and in y of each number of neighbours, ``(n, len(neighbours))``; x is sorted."""
    n, most = x.shape[0], max(neighbours)
    columns = torch.tensor(neighbours, device=x.device) - 1
    limits_x, limits_y = (x.new_empty(n, len(neighbours)) for _ in range(2))
    pending: Tensor | None = None  # at first all
    # Independent columns have about sqrt(k n) samples as near in x as the k-th neighbour.
    half = min(n - 1, 16 + math.isqrt(most * n))
    while pending is None or pending.numel():
        padding = x.new_full((half,), torch.inf)
        windows_x = torch.cat([padding, x, padding]).unfold(0, 2 * half + 1, 1)
        windows_y = torch.cat([padding, y, padding]).unfold(0, 2 * half + 1, 1)
        left = []
        for part in chunks(
            n if pending is None else pending.shape[0], 96 * half, 2**22 if x.device.type == "cpu" else None
        ):
            rows = part if pending is None else pending[part]  # a slice makes no copy of the windows
            dx = (windows_x[rows] - x[rows].unsqueeze(1)).abs_()
            dy = (windows_y[rows] - y[rows].unsqueeze(1)).abs_()
            joint = torch.maximum(dx, dy)
            joint[:, half] = torch.inf  # the sample itself
            nearest = joint.topk(most, 1, largest=False)
            reach = nearest.values
            if variant == 1:
                limits_x[rows] = limits_y[rows] = reach[:, columns]
            else:
                for limits, distances in ((limits_x, dx), (limits_y, dy)):
                    limits[rows] = distances.gather(1, nearest.indices).cummax(1).values[:, columns]
            # Samples beyond the window are no nearer in x than its ends.
            missed = (reach[:, -1] > torch.minimum(dx[:, 0], dx[:, -1])) & (half < n - 1)
            left.append((missed.nonzero().flatten() + part.start) if pending is None else pending[part][missed])
        pending = torch.cat(left)
        half = min(n - 1, 3 * half)
    return limits_x, limits_y


def _count(column: Tensor, limit: Tensor, closed: bool) -> Tensor:
    """How many entries lie within ``limit`` of each, on the border too if ``closed``; at least the entry itself."""
    ordered = column.sort().values
    # The neighbour on the border must not change sides by the rounding of a sum.
    rounding = 4 * torch.finfo(column.dtype).eps * column.abs().amax()
    limit = (limit + rounding if closed else limit - rounding).clamp(min=0)
    upper = torch.searchsorted(ordered, column + limit, right=closed)
    lower = torch.searchsorted(ordered, column - limit, right=not closed)
    return (upper - lower).clamp(min=1)


def copies(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How many samples share a sample's pair, its x and its y, itself among them; each ``(n,)``."""
    of_x, of_y = (torch.unique(column, return_inverse=True)[1] for column in (x, y))
    counted = []
    for numbers in (of_x * (of_y.amax() + 1) + of_y, of_x, of_y):
        _, inverse, counts = torch.unique(numbers, return_inverse=True, return_counts=True)
        counted.append(counts[inverse])
    return counted[0], counted[1], counted[2]
