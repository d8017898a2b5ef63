"""Samples that repeat: discrete values stored as floats, which no estimator for densities may take for densities."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional.mutual_information._cells import cell_numbers, hash_columns

# Shares of samples. Of ReLU units half may be 0: their other values are still as good as a density's.
_ALONE = 0.1
_MANY = 0.05


class Ranks(NamedTuple):
    """Of each column, ``(features, n)``: how many samples lie below an entry, and how many not above it."""

    below: Tensor
    below_or_equal: Tensor


def ranks(rows: Tensor) -> Ranks:
    """Rank each column of ``(n, features)``."""
    columns = rows.T.contiguous()
    ordered = columns.sort(1).values
    return Ranks(torch.searchsorted(ordered, columns), torch.searchsorted(ordered, columns, right=True))


def _tied(of_columns: Ranks) -> Tensor:
    return of_columns.below_or_equal - of_columns.below > 1


def has_many_ties(of_columns: Ranks) -> bool:
    """Whether a column that varies has more ties than rounding makes."""
    tied, n = _tied(of_columns), of_columns.below.shape[1]
    varies = of_columns.below_or_equal[:, 0] - of_columns.below[:, 0] < n
    return bool((varies & (tied.double().mean(1) > _MANY)).any())


def values_of(of_columns: Ranks) -> Tensor | None:
    """Number the distinct rows from 0, ``(n,)``, if nearly all rows repeat: they are values of a discrete variable."""
    if float(_tied(of_columns).all(0).double().mean()) < 1 - _ALONE:
        return None  # a row that repeats is tied in every column
    numbers = _numbers(of_columns)
    alone = (torch.bincount(numbers) == 1).sum()
    return numbers if float(alone) <= _ALONE * numbers.shape[0] else None


def most_of_ties(*sides: Ranks) -> Tensor:
    """The smaller entropy of the counted rows in nats, beyond which mutual information of what repeats cannot go."""
    return torch.stack([_entropy(_numbers(each)) for each in sides]).amin()


def _entropy(numbers: Tensor) -> Tensor:
    counts, n = torch.bincount(numbers).double(), numbers.shape[0]
    return math.log(n) - torch.special.xlogy(counts, counts).sum() / n


def _numbers(of_columns: Ranks) -> Tensor:
    return cell_numbers(hash_columns(of_columns.below.T))
