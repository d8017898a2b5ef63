"""The estimator that is chosen by the data: its type, its dimension, its number of samples."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_int, check_same_length
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.mutual_information._arguments import as_rows
from lightning_foresight.functional.mutual_information.binned import binned_pair
from lightning_foresight.functional.mutual_information.gaussian import (
    Canonical,
    canonical_correlations,
    gaussian_information,
    normal_scores,
)
from lightning_foresight.functional.mutual_information.ksg import ksg_label, ksg_pair, ksg_terms

_OWNER = "auto"
_SIGNIFICANCE = 0.01


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


def _gaussian_surrogate(canonical: Canonical, kept: int, n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gaussian samples with the covariances and the first ``kept`` canonical correlations, and their information."""
    rho = canonical.correlations[:kept]
    generator = torch.Generator(device=rho.device).manual_seed(seed)

    def draw(directions: Tensor) -> Tensor:
        return torch.randn(n, directions.shape[1], generator=generator, dtype=rho.dtype, device=rho.device)

    x, y = draw(canonical.x_directions), draw(canonical.y_directions)
    y[:, :kept] = rho * x[:, :kept] + (1 - rho**2).sqrt() * y[:, :kept]
    x, y = x @ torch.linalg.pinv(canonical.x_directions), y @ torch.linalg.pinv(canonical.y_directions)
    return x, y, -0.5 * torch.log1p(-(rho**2)).sum()


def auto_pair(x: Tensor, y: Tensor, *, base: float = 2, k: int = 3, seed: int = 0) -> Estimate:
    r"""Mutual information by the estimator that suits the data; ``method`` says which.

    Two sets of integers: entropies of counts with the Chao-Wang-Jost correction. Integers (one column) and continuous
    samples: nearest neighbours within the label (Ross 2014). Two single continuous columns: KSG on normal scores. More
    columns: the largest of three values on normal scores,

    - the debiased Gaussian one, from canonical correlations;
    - KSG, plus what KSG misses on Gaussian samples of the same covariance and significant canonical correlations;
    - KSG on the significant canonical directions.

    Each of the three is nearly always too low where it is wrong, which is why the largest is taken; its error is bias,
    so the standard error is given as NaN.

    Args:
        x: Samples, shape ``(n, ...)``.
        y: Samples, shape ``(n, ...)``.
        base: Base of the logarithm; 2 gives bits.
        k: Which neighbour.
        seed: Seed of the Gaussian samples.

    Returns:
        The estimate, a scalar in float64, not below 0.

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
    integers = not x_rows.is_floating_point(), not y_rows.is_floating_point()
    if all(integers):
        return _named(binned_pair(x_rows, y_rows, base=base, correction="chao_wang_jost"))
    for labelled, rows, other in ((integers[0], x_rows, y_rows), (integers[1], y_rows, x_rows)):
        if labelled and rows.shape[1] == 1:
            return _named(ksg_label(other, rows.flatten(), base=base, k=k))
    scores = normal_scores(x_rows), normal_scores(y_rows)
    if x_rows.shape[1] == y_rows.shape[1] == 1:
        return _named(ksg_pair(scores[0].float(), scores[1].float(), base=base, k=k), minimum=0.0)

    single = scores[0].float(), scores[1].float()
    candidates = {"KSG on normal scores": ksg_terms(*single, k, 1, spread_out=True).mean()}
    if n > x_rows.shape[1] + y_rows.shape[1] + 2:
        canonical = canonical_correlations(*scores)
        candidates["Gaussian copula"] = gaussian_information(canonical, n)[0]
        kept = significant_correlations(canonical, n)
        surrogate_x, surrogate_y, truth = _gaussian_surrogate(canonical, kept, n, seed)
        missed = truth - ksg_terms(surrogate_x.float(), surrogate_y.float(), k, 1, spread_out=True).mean()
        candidates["KSG on normal scores"] = candidates["KSG on normal scores"] + missed
        if kept:
            projected = (scores[0] @ canonical.x_directions[:, :kept], scores[1] @ canonical.y_directions[:, :kept])
            terms = ksg_terms(projected[0].float(), projected[1].float(), k, 1)
            candidates["KSG on canonical directions"] = terms.mean()
    best = int(torch.stack(list(candidates.values())).argmax())
    value = list(candidates.values())[best].clamp(min=0) / nats
    return make_estimate(value, std_error=math.nan, num_samples=n, method=f"auto: {list(candidates)[best]}")


def _named(estimate: Estimate, minimum: float | None = None) -> Estimate:
    value = estimate.value if minimum is None else estimate.value.clamp(min=minimum)
    return estimate._replace(value=value, method=f"auto: {estimate.method}")
