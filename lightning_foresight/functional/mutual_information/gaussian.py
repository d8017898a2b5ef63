"""Mutual information of a Gaussian copula: ranks to normal scores, then canonical correlations."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_same_length
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.mutual_information._arguments import as_rows
from lightning_foresight.functional.mutual_information._constant import zero_of_constants
from lightning_foresight.functional.mutual_information._ties import Ranks, has_many_ties, most_of_ties, ranks

_OWNER = "gaussian_copula"


class Canonical(NamedTuple):
    """Canonical correlations, in falling order, and a basis of each side whose first columns have them."""

    correlations: Tensor
    x_directions: Tensor
    y_directions: Tensor


def check_gaussian_copula() -> None:
    """There are no options."""


def normal_scores(rows: Tensor) -> Tensor:
    """Replace each column by the normal quantiles of its ranks, ties by their mean rank; float64."""
    return scores_of_ranks(ranks(rows))


def scores_of_ranks(of_columns: Ranks) -> Tensor:
    """Normal quantiles of the mean ranks."""
    below, below_or_equal = of_columns
    return torch.special.ndtri((below + below_or_equal).double() / (2 * below.shape[1])).T


def whiten(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows of covariance 1, and the basis that makes them; directions without variance are left out."""
    rows = rows - rows.mean(0)
    values, vectors = torch.linalg.eigh(rows.T @ rows / (rows.shape[0] - 1))
    kept = values > 1e-10 * values[-1].clamp(min=1e-300)
    basis = vectors[:, kept] / values[kept].sqrt()
    return rows @ basis, basis


def log_det_bias(n: int, d: int, device: torch.device) -> Tensor:
    """Return the bias of the logarithm of the determinant of n samples' covariance in d dimensions (Wishart)."""
    order = torch.arange(1, d + 1, dtype=torch.float64, device=device)
    return torch.digamma((n - order).clamp(min=1) / 2).sum() + d * math.log(2 / (n - 1))


def canonical_correlations(x: Tensor, y: Tensor) -> Canonical:
    """Canonical correlations of float64 rows; directions without variance are left out."""
    (x_white, x_basis), (y_white, y_basis) = whiten(x), whiten(y)
    u, correlations, v = torch.linalg.svd(x_white.T @ y_white / (x.shape[0] - 1), full_matrices=True)
    return Canonical(correlations.clamp(max=1 - 1e-12), x_basis @ u, y_basis @ v.T)


def gaussian_information(canonical: Canonical, n: int) -> tuple[Tensor, Tensor]:
    """Debiased information of a Gaussian pair in nats, and its standard error.

    The bias of a log determinant of n samples' covariance is known exactly (Wishart); that of the information is the
    difference of three, about d_x d_y / 2n.
    """
    correlations = canonical.correlations
    plain = -0.5 * torch.log1p(-(correlations**2)).sum()

    d_x, d_y = canonical.x_directions.shape[1], canonical.y_directions.shape[1]
    x_bias, y_bias, both = (log_det_bias(n, d, correlations.device) for d in (d_x, d_y, d_x + d_y))
    bias = 0.5 * (x_bias + y_bias - both)
    return plain - bias, (correlations.square().sum() / n).sqrt()


@zero_of_constants(_OWNER)
def gaussian_copula_pair(x: Tensor, y: Tensor, *, base: float = 2) -> Estimate:
    r"""Mutual information that the ranks would have under a Gaussian copula, without its small-sample bias.

    .. math:: I = -\frac12 \sum_j \log (1 - \rho_j^2) - \mathrm{bias}(n, d_x, d_y)

    with :math:`\rho` the canonical correlations of the columns' normal scores. It sees dependence that is linear after
    transforming each column, and misses the rest: ``kind`` is ``"lower_bound"`` (certain for single columns, and nearly
    always so in more). No Gaussian copula has ties: where more than a twentieth of a column's samples are tied
    with others, ``kind`` is ``"not_valid"``, and the value at most the entropy of the rows counted.

    Args:
        x: Samples, shape ``(n, ...)``, with fewer columns in all than samples.
        y: Samples, shape ``(n, ...)``.
        base: Base of the logarithm; 2 gives bits.

    Returns:
        The estimate, a scalar in float64, with the Gaussian :math:`\sqrt{\sum \rho^2 / n}` as ``std_error``.

    Raises:
        ValueError: If samples are not finite, differ in number, or are not more than the columns.

    Source: Ince et al. 2017, doi 10.1002/hbm.23471; Miller 2003 for the bias.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import mutual_information
        >>> x = torch.randn(5000, generator=torch.Generator().manual_seed(0))
        >>> noise = torch.randn(5000, generator=torch.Generator().manual_seed(1))
        >>> estimate = mutual_information(x.exp(), (x + noise) ** 3, estimator="gaussian_copula")  # exactly half a bit
        >>> abs(estimate.value.item() - 0.5) < 0.05
        True
    """
    check_base(_OWNER, base)
    x_rows, y_rows = as_rows(_OWNER, "x", x), as_rows(_OWNER, "y", y)
    check_same_length(_OWNER, "x", x_rows, "y", y_rows)
    n, columns = x_rows.shape[0], x_rows.shape[1] + y_rows.shape[1]
    if n <= columns + 2:
        raise ValueError(
            f"{_OWNER}(x, y): got {n} samples of {columns} columns in all; expected more samples than columns. Reduce "
            "the columns (pool, project), or use estimator='sliced'."
        )
    x_ranks, y_ranks = ranks(x_rows), ranks(y_rows)
    canonical = canonical_correlations(scores_of_ranks(x_ranks), scores_of_ranks(y_ranks))
    value, error = gaussian_information(canonical, n)
    tied = has_many_ties(x_ranks) or has_many_ties(y_ranks)
    if tied:
        value = torch.minimum(value, most_of_ties(x_ranks, y_ranks))
    return make_estimate(
        value / math.log(base),
        std_error=error / math.log(base),
        num_samples=n,
        kind="not_valid" if tied else "lower_bound",
        method="Gaussian copula",
    )
