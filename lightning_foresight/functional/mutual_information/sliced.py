"""Sliced mutual information: the mean over random one-dimensional projections."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_int, check_same_length
from lightning_foresight.functional._random import own_generator
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.gradient_noise.student_t import student_t_quantile
from lightning_foresight.functional.mutual_information._arguments import as_labels, as_rows
from lightning_foresight.functional.mutual_information._constant import zero_of_constants
from lightning_foresight.functional.mutual_information.ksg import (
    Reach,
    check_neighbours,
    column_estimate,
    column_spread,
    column_terms,
    standardised,
)
from lightning_foresight.functional.mutual_information.ross import label_estimate, label_spread, label_terms

_OWNER = "sliced"


def check_sliced(num_slices: int = 20, k: int = 3, seed: int = 0) -> None:
    """Check the options of ``"sliced"`` without data."""
    check_int(_OWNER, "num_slices", num_slices, 2)
    check_int(_OWNER, "k", k, 1)
    check_int(_OWNER, "seed", seed, 0)


def _project(rows: Tensor, num_slices: int, generator: torch.Generator) -> Tensor:
    rows = rows if rows.is_floating_point() else rows.float()
    directions = torch.randn(rows.shape[1], num_slices, generator=generator, dtype=rows.dtype, device=rows.device)
    return rows @ (directions / directions.norm(dim=0))


def _slicing_error(terms: Tensor, factor: float) -> Reach:
    """What the choice of directions adds to the error of the mean, from ``(slices, n)`` terms.

    ``factor`` is how many times as much a mean of terms spreads as one of independent terms would.

    The slices share the samples: their own errors, as far as they differ, are part of how the slices differ, and those
    of the mean show in the mean terms. Few directions tell much where columns are many, so that values of slices are
    skewed: the ends are Hall's (1992), of his transformed t statistic.
    """
    num_slices, n = terms.shape
    values = terms.mean(1)
    by_chance = factor**2 * num_slices / (num_slices - 1) * (terms.var(1).mean() - terms.mean(0).var()) / n
    spread = (values.var() - by_chance).clamp(min=0).sqrt()
    skewness = (values - values.mean()).pow(3).mean() / values.std(correction=0).clamp(min=1e-30).pow(3)
    skewness = torch.where(skewness.abs() < 1e-2, 1e-2, skewness)
    t = student_t_quantile(0.95, values.new_tensor(num_slices - 1.0)) / math.sqrt(num_slices)

    def ends(quantile: Tensor) -> Tensor:
        powered = 1 + skewness * (quantile - skewness / (6 * num_slices))
        return 3 / skewness * (powered.sign() * powered.abs().pow(1 / 3) - 1)

    return Reach(spread / math.sqrt(num_slices), (spread * ends(t)).clamp(min=0), (-spread * ends(-t)).clamp(min=0))


@zero_of_constants(_OWNER)
def sliced_pair(x: Tensor, y: Tensor, *, base: float = 2, num_slices: int = 20, k: int = 3, seed: int = 0) -> Estimate:
    r"""Sliced mutual information: the mean of one-dimensional values over random directions of both sides.

    .. math:: SI(X;Y) = \mathbb E_{\theta, \phi}\, I(\theta^\top X; \phi^\top Y)

    It is 0 only for independent variables and its error does not grow with the dimension, but it is another quantity
    than I(X;Y): at most as large, far smaller in many dimensions, and larger after some transformations of one side.

    Args:
        x: Samples, shape ``(n, ...)``.
        y: Samples, shape ``(n, ...)``.
        base: Base of the logarithm; 2 gives bits.
        num_slices: Random directions; each costs one nearest-neighbour search.
        k: Which neighbour.
        seed: Seed of the directions.

    Returns:
        The estimate of the sliced information, a scalar in float64. Its 95% interval is for the mean over all
        directions: it knows the error of the samples, which the slices share, and that of the choice of directions.
        ``kind`` as of ``"ksg"`` with single columns.

    Raises:
        ValueError: If samples are not finite or differ in number, or an option is out of range.

    Sources: Goldfeld & Greenewald 2021 (arXiv 2110.05279); Hall 1992 for the skewness of slices, "On the removal of
    skewness by transformation".

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import mutual_information
        >>> x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
        >>> bool(mutual_information(x, x, estimator="sliced", num_slices=5).value > 0.05)
        True
    """
    check_base(_OWNER, base)
    check_sliced(num_slices, k, seed)
    x_rows, y_rows = as_rows(_OWNER, "x", x), as_rows(_OWNER, "y", y)
    check_same_length(_OWNER, "x", x_rows, "y", y_rows)
    generator = own_generator(x_rows.device, seed)
    x_slices, y_slices = _project(x_rows, num_slices, generator), _project(y_rows, num_slices, generator)
    check_neighbours(x_rows.shape[0], k)
    slices = zip(*(standardised(each).split(1, 1) for each in (x_slices, y_slices)), strict=True)
    found = [column_terms(a, b, k) for a, b in slices]
    terms, bias_terms, tails = (torch.stack(each) for each in zip(*found, strict=True))
    method = f"sliced KSG ({num_slices} slices)"
    slicing = _slicing_error(terms, column_spread(k, terms.shape[1]))
    return column_estimate(terms.mean(0), bias_terms.mean(0), tails.mean(), k, method, base, slicing)


@zero_of_constants(_OWNER)
def sliced_label(
    activations: Tensor, labels: Tensor, *, base: float = 2, num_slices: int = 20, k: int = 3, seed: int = 0
) -> Estimate:
    """The mean I(T;Y) of random one-dimensional projections of the activations (Ross 2014 for each)."""
    check_base(_OWNER, base)
    check_sliced(num_slices, k, seed)
    rows = as_rows(_OWNER, "activations", activations)
    as_labels(_OWNER, "labels", labels, rows.shape[0])
    generator = own_generator(rows.device, seed)
    slices = _project(rows, num_slices, generator)
    check_neighbours(rows.shape[0], k)
    found = [label_terms(standardised(each), labels, k) for each in slices.split(1, 1)]
    terms = torch.stack([each[0] for each in found])
    method = f"sliced Ross kNN ({num_slices} slices)"
    slicing = _slicing_error(terms, label_spread(k, terms.shape[1]))
    return label_estimate(terms.mean(0), found[0][1], k, method, base, slicing)
