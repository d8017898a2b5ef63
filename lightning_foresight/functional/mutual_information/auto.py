"""The estimator that is chosen by the data: its type, its dimension, its number of samples."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_int, check_same_length
from lightning_foresight.functional._random import own_generator
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.mutual_information._arguments import as_rows
from lightning_foresight.functional.mutual_information._constant import zero_of_constants
from lightning_foresight.functional.mutual_information._ties import (
    Ranks,
    has_many_ties,
    most_of_ties,
    ranks,
    values_of,
)
from lightning_foresight.functional.mutual_information.binned import binned_pair
from lightning_foresight.functional.mutual_information.gaussian import (
    Canonical,
    canonical_correlations,
    gaussian_information,
    scores_of_ranks,
)
from lightning_foresight.functional.mutual_information.ksg import ksg_pair, ksg_terms
from lightning_foresight.functional.mutual_information.ross import ksg_label

_OWNER = "auto"
_SIGNIFICANCE = 0.01
_SURROGATE_QUERIES = 1000


def check_auto(k: int = 3, seed: int = 0) -> None:
    """Check the options of ``"auto"`` without data."""
    check_int(_OWNER, "k", k, 1)
    check_int(_OWNER, "seed", seed, 0)


def significant_correlations(canonical: Canonical, n: int) -> int:
    """How many canonical correlations differ from 0, by Bartlett's sequential test."""
    rho = canonical.correlations
    d_x, d_y = canonical.x_directions.shape[1], canonical.y_directions.shape[1]
    remaining = -torch.log1p(-(rho**2)).flip(0).cumsum(0).flip(0)
    step = torch.arange(rho.shape[0], dtype=rho.dtype, device=rho.device)
    statistic = (n - 1 - (d_x + d_y + 1) / 2) * remaining
    chance = torch.special.gammaincc((d_x - step) * (d_y - step) / 2, statistic.clamp(min=0) / 2)
    return int((chance < _SIGNIFICANCE).long().cumprod(0).sum())


def _missed_on_gaussian(canonical: Canonical, kept: int, n: int, k: int, seed: int) -> Tensor:
    """What KSG misses on Gaussian samples with the covariances and the first ``kept`` canonical correlations, in nats.

    Half of the samples say it: the samples' own log density ratios are known, and what KSG makes of them varies
    far less than they do.
    """
    rho = canonical.correlations[:kept]
    generator = own_generator(rho.device, seed)

    def draw(directions: Tensor) -> Tensor:
        return torch.randn(n, directions.shape[1], generator=generator, dtype=rho.dtype, device=rho.device)

    x, y = draw(canonical.x_directions), draw(canonical.y_directions)
    y[:, :kept] = rho * x[:, :kept] + (1 - rho**2).sqrt() * y[:, :kept]
    queries = min(n, max(_SURROGATE_QUERIES, n // 2))
    x_seen, y_seen = x[:queries, :kept], y[:queries, :kept]
    exponent = 2 * rho * x_seen * y_seen - rho**2 * (x_seen**2 + y_seen**2)
    log_ratio = (exponent / (2 * (1 - rho**2)) - 0.5 * torch.log1p(-(rho**2))).sum(1)
    x, y = x @ torch.linalg.pinv(canonical.x_directions), y @ torch.linalg.pinv(canonical.y_directions)
    return (log_ratio - ksg_terms(x.float(), y.float(), k, spread_out=True, queries=queries)).mean()


@zero_of_constants(_OWNER)
def auto_pair(x: Tensor, y: Tensor, *, base: float = 2, k: int = 3, seed: int = 0) -> Estimate:
    r"""Mutual information by the estimator that suits the data; ``method`` says which.

    Samples are discrete if they are integers in one column, or if at most a tenth of the rows occur once, as of one-hot
    rows stored as floats. Two discrete sets, or two of integers: entropies of counts with the Chao-Wang-Jost
    correction. A discrete and a continuous one: nearest neighbours within the label (Ross 2014). Two single continuous
    columns: KSG on normal scores. More columns: the largest of four values on normal scores,

    - the debiased Gaussian one, from canonical correlations;
    - KSG, plus what KSG misses on Gaussian samples of the same covariance and significant canonical correlations;
    - KSG on the significant canonical directions;
    - KSG on the norms of the whitened scores, for sides that only share a scale, as heavy tails do.

    Each of the four is nearly always too low where it is wrong, which is why the largest is taken; its error is bias,
    so the standard error is given as NaN. Where columns have ties, the value is at most the entropy of the rows
    counted; ``kind`` is ``"not_valid"`` where that ends it.

    Args:
        x: Samples, shape ``(n, ...)``.
        y: Samples, shape ``(n, ...)``.
        base: Base of the logarithm; 2 gives bits.
        k: Which neighbour.
        seed: Seed of the Gaussian samples.

    Returns:
        The estimate, a scalar in float64; not below 0, except for single columns, whose interval would lose by it.

    Raises:
        ValueError: If samples are not finite, differ in number or are fewer than ``k + 2``.

    Source: a combination of Kraskov et al. 2004, Ross 2014 and Ince et al. 2017 made for this package.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import mutual_information
        >>> x = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
        >>> noise = torch.randn(2000, 3, generator=torch.Generator().manual_seed(1))
        >>> estimate = mutual_information(x, x + noise)  # exactly 1.5 bits
        >>> abs(estimate.value.item() - 1.5) < 0.1
        True
    """
    check_base(_OWNER, base)
    check_auto(k, seed)
    x_rows, y_rows = as_rows(_OWNER, "x", x), as_rows(_OWNER, "y", y)
    check_same_length(_OWNER, "x", x_rows, "y", y_rows)
    n, nats = x_rows.shape[0], math.log(base)
    x_ranks, y_ranks = ranks(x_rows), ranks(y_rows)
    # Integers in one column are classes however often each occurs.
    x_values, y_values = (
        rows.flatten() if rows.shape[1] == 1 and not rows.is_floating_point() else values_of(of_columns)
        for rows, of_columns in ((x_rows, x_ranks), (y_rows, y_ranks))
    )
    integers = not x_rows.is_floating_point() and not y_rows.is_floating_point()
    if integers or (x_values is not None and y_values is not None):
        pair = (x_rows, y_rows) if x_values is None or y_values is None else (x_values, y_values)
        return _named(binned_pair(*pair, base=base, correction="chao_wang_jost"))
    if x_values is not None:
        return _named(ksg_label(y_rows, x_values, base=base, k=k))
    if y_values is not None:
        return _named(ksg_label(x_rows, y_values, base=base, k=k))
    scores = scores_of_ranks(x_ranks), scores_of_ranks(y_ranks)
    if x_rows.shape[1] == y_rows.shape[1] == 1:
        return _within_ties(_named(ksg_pair(*scores, base=base, k=k)), x_ranks, y_ranks, nats)

    single = scores[0].float(), scores[1].float()
    candidates = {"KSG on normal scores": ksg_terms(*single, k, spread_out=True).mean()}
    if n > x_rows.shape[1] + y_rows.shape[1] + 2:
        canonical = canonical_correlations(*scores)
        candidates["Gaussian copula"] = gaussian_information(canonical, n)[0]
        kept = significant_correlations(canonical, n)
        missed = _missed_on_gaussian(canonical, kept, n, k, seed)
        candidates["KSG on normal scores"] = candidates["KSG on normal scores"] + missed
        white = scores[0] @ canonical.x_directions, scores[1] @ canonical.y_directions
        norm_x, norm_y = (each.square().sum(1, keepdim=True) for each in white)
        candidates["KSG on norms"] = ksg_terms(norm_x, norm_y, k).mean()
        if 0 < kept < max(x_rows.shape[1], y_rows.shape[1]):
            projected = white[0][:, :kept].float(), white[1][:, :kept].float()
            candidates["KSG on canonical directions"] = ksg_terms(*projected, k, spread_out=True).mean()
    best = int(torch.stack(list(candidates.values())).argmax())
    value, method = list(candidates.values())[best].clamp(min=0) / nats, f"auto: {list(candidates)[best]}"
    estimate = make_estimate(value, std_error=math.nan, num_samples=n, method=method)
    return _within_ties(estimate, x_ranks, y_ranks, nats)


def _within_ties(estimate: Estimate, x: Ranks, y: Ranks, nats: float) -> Estimate:
    """End a value at the entropy of the rows counted where they repeat, and say so."""
    if not (has_many_ties(x) or has_many_ties(y)):
        return estimate
    most = most_of_ties(x, y) / nats
    if not bool(estimate.value > most):
        return estimate
    lower = None if estimate.lower is None else torch.minimum(estimate.lower, most)
    return estimate._replace(value=most, lower=lower, kind="not_valid")


def _named(estimate: Estimate) -> Estimate:
    return estimate._replace(method=f"auto: {estimate.method}")
