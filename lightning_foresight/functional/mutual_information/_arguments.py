"""Samples and labels in the forms that the estimators share."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_finite, check_samples, describe


def as_rows(owner: str, argument: str, samples: Tensor) -> Tensor:
    """Return finite samples as ``(n, features)``; floats are at least float32, integers stay integers."""
    rows = _as_rows(owner, argument, samples)
    # A finite sum proves that every entry is finite, at a fraction of the cost of looking at each.
    if rows.is_floating_point() and not math.isfinite(float(rows.sum())):
        check_finite(owner, argument, rows)
    return rows


def as_rows_with_ends(owner: str, argument: str, samples: Tensor) -> tuple[Tensor, float, float]:
    """Return the rows of :func:`as_rows` and their least and largest entry."""
    rows = _as_rows(owner, argument, samples)
    low, high = (end.item() for end in torch.aminmax(rows))
    if not -math.inf < low <= high < math.inf:
        check_finite(owner, argument, rows)
    return rows, low, high


def _as_rows(owner: str, argument: str, samples: Tensor) -> Tensor:
    check_samples(owner, argument, samples)
    rows = samples.detach()
    if rows.ndim != 2:
        rows = rows.reshape(samples.shape[0], -1)
    if rows.shape[1] == 0:
        raise ValueError(
            f"{owner}({argument}): got {describe(samples)}; expected at least one feature for each sample."
        )
    if not rows.is_floating_point():
        return rows.to(torch.int64)
    if rows.dtype not in (torch.float32, torch.float64):
        rows = rows.float()
    return rows


def as_labels(owner: str, argument: str, labels: Tensor, num_samples: int) -> tuple[Tensor, int]:
    """Return integer labels ``(n,)`` counted from 0 in the order of the given numbers, and a bound on how many."""
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
        raise ValueError(
            f"{owner}({argument}): got {describe(labels)}; expected integer class labels of shape (n,). Turn one-hot "
            "rows into labels.argmax(-1), whole numbers stored as floats into labels.long(); compare continuous "
            "targets with mutual_information(x, y)."
        )
    if labels.shape[0] != num_samples:
        raise ValueError(
            f"{owner}({argument}): got {labels.shape[0]} labels for {num_samples} samples; expected one label for each "
            "sample, in the same order."
        )
    labels = labels.detach().to(torch.int64)
    low, high = map(int, torch.aminmax(labels))
    if high - low < 4 * num_samples:
        return labels - low if low else labels, high - low + 1
    distinct, labels = torch.unique(labels, return_inverse=True)
    return labels, distinct.shape[0]


def root_mean_square(rows: Tensor) -> Tensor:
    """Return the size of the entries of all rows; large ones, as of a diverging layer, do not overflow."""
    peak = rows.abs().max()
    return peak * (rows / torch.where(peak > 0, peak, torch.ones_like(peak))).square().mean().sqrt()
