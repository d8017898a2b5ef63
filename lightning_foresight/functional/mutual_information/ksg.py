"""Mutual information of two sets of samples from distances to nearest neighbours (Kraskov et al. 2004)."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_choice, check_int, check_same_length, fail
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.mutual_information._arguments import as_rows
from lightning_foresight.functional.mutual_information._constant import varying_columns, zero_of_constants
from lightning_foresight.functional.mutual_information._distances import (
    SquaredDistances,
    count_below,
    row_blocks,
    smallest,
)
from lightning_foresight.functional.mutual_information._single_columns import copies, neighbourhoods

_OWNER = "ksg"
# Samples share neighbours, so that their terms move together: the estimate spreads more than independent terms would,
# and the more the larger a share of all samples the neighbours are. Measured on eight closed-form pairs at 300, 1,000
# and 4,000 samples, for 1, 3, 8 and 24 neighbours: 1.16 to 1.64, within 0.05 of this.
_SPREAD, _SPREAD_OF_SHARE = 1.17, 6.0
# The upper end in spreads of the value and the bias together, and in those of the value where no bias shows, which may
# still be there. Chosen with the next two on 55 pairs, 1,800 data sets each at 300 and at 1,000 samples.
_WITH_BIAS, _WITHOUT_BIAS = 0.95, 1.05
# In spreads: of data sets of much bias, those in which it happens to go unseen are also those of low values. The bias
# that shows raises the lower end, too, but less, since a smooth density bends over many neighbours and shows one that a
# few do not have.
_LARGEST_BIAS, _SURE_OF_BIAS = 0.85, 0.3
_HEAVY_TAILS = 10.0  # fourth moment of a standardised column: 3 for a normal one, 9 for an exponential one


def check_ksg(k: int = 3, variant: int = 1) -> None:
    """Check the options of ``"ksg"`` without data."""
    check_int(_OWNER, "k", k, 1)
    check_choice(_OWNER, "variant", variant, (1, 2))


def standardised(rows: Tensor) -> Tensor:
    """Columns in units of their standard deviation, without constant ones (but at least one column)."""
    rows = rows if rows.is_floating_point() else rows.float()
    peak = rows.abs().amax(0)
    # Divided by a power of two, which rounds nothing, so that squares neither overflow nor vanish.
    rows = rows / torch.where(peak > 0, peak / (2 * torch.frexp(peak).mantissa), 1)
    scale = rows.std(0)
    varying = (scale > 0) & varying_columns(rows)
    if not bool(varying.any()):
        return torch.zeros_like(rows[:, :1])
    return rows[:, varying] / scale[varying]


def check_neighbours(n: int, k: int) -> None:
    """Require more samples than neighbours."""
    if n <= k + 1:
        fail(_OWNER, "k", k, f"expected fewer neighbours than the {n} samples have; lower k or pass more samples.")


def ksg_terms(
    x: Tensor, y: Tensor, k: int, variant: int = 1, spread_out: bool = False, queries: int | None = None
) -> Tensor:
    """The samples' terms of the estimate, in nats; their mean is the estimate.

    Args:
        x: Floating point, shape ``(n, features)``.
        y: Likewise.
        k: Which neighbour.
        variant: As in :func:`ksg_pair`.
        spread_out: As in :class:`SquaredDistances`.
        queries: Terms of the first so many samples only, their neighbours still being sought among all.
    """
    n = x.shape[0]
    log_n = torch.digamma(torch.tensor(float(n), dtype=torch.float64, device=x.device))
    if x.shape[1] == y.shape[1] == 1:
        return log_n + single_column_terms(x, y, [k], variant)[0][:queries]
    dtype = torch.promote_types(x.dtype, y.dtype)
    of_x, of_y = SquaredDistances(x.to(dtype), spread_out), SquaredDistances(y.to(dtype), spread_out)
    of_k = torch.digamma(torch.tensor(float(k), dtype=torch.float64, device=x.device))
    blocks = row_blocks(n if queries is None else queries, x.device, n, of_x.width + of_y.width)
    length = blocks[0].stop
    buffer_x, buffer_y = of_x.buffer(length), of_y.buffer(length)
    buffer_joint, buffer_count = torch.empty_like(buffer_x), torch.empty_like(buffer_x)
    terms = []
    for block in blocks:
        dx, dy = of_x.block(block, buffer_x), of_y.block(block, buffer_y)
        scratch = buffer_count[: dx.shape[0]]
        own = torch.arange(block.start, block.stop, device=x.device).unsqueeze(1)
        joint = torch.maximum(dx, dy, out=buffer_joint[: dx.shape[0]]).scatter_(1, own, torch.inf)
        if variant == 1:
            limit = limit_y = smallest(joint, k)[:, -1].clamp_(min=0)
            # With the sample itself, unless the limit is 0.
            near_x, near_y = count_below(dx, limit, scratch), count_below(dy, limit, scratch)
            of_block = of_k - torch.digamma(near_x) - torch.digamma(near_y)
        else:
            nearest = joint.topk(k, 1, largest=False).indices
            limit, limit_y = (each.gather(1, nearest).amax(1).clamp_(min=0) for each in (dx, dy))
            near_x, near_y = count_below(dx, limit, scratch, True) - 1, count_below(dy, limit_y, scratch, True) - 1
            of_block = of_k - 1 / k - torch.digamma(near_x) - torch.digamma(near_y)
        tied = torch.maximum(limit, limit_y) == 0
        if bool(tied.any()):
            zero = torch.zeros_like(limit)
            same, same_x, same_y = (count_below(each, zero, scratch, True) for each in (joint, dx, dy))
            of_block = torch.where(tied, _discrete_terms(same + 1, same_x, same_y), of_block)
        terms.append(of_block)
    return log_n + torch.cat(terms)


def single_column_terms(x: Tensor, y: Tensor, neighbours: list[int], variant: int = 1) -> list[Tensor]:
    """For each number of neighbours the terms of single columns, less digamma(n), by one search."""
    x, y = x.flatten().double(), y.flatten().double()
    own = variant - 1
    found = []
    for k, near in zip(neighbours, neighbourhoods(x, y, neighbours, variant), strict=True):
        of_k = torch.digamma(x.new_tensor(float(k))) - (0.0 if variant == 1 else 1 / k)
        terms = of_k - torch.digamma((near.near_x - own).double()) - torch.digamma((near.near_y - own).double())
        tied = torch.maximum(near.limit_x, near.limit_y) == 0
        found.append(torch.where(tied, _discrete_terms(*copies(x, y)), terms) if bool(tied.any()) else terms)
    return found


def _discrete_terms(same: Tensor, same_x: Tensor, same_y: Tensor) -> Tensor:
    """Terms of a sample with k copies: those of a discrete pair, from how many share it (Gao et al. 2017)."""
    of_pair, of_x, of_y = (torch.digamma((each - 1).double()) for each in (same, same_x, same_y))
    return of_pair - of_x - of_y


@zero_of_constants(_OWNER)
def ksg_pair(x: Tensor, y: Tensor, *, base: float = 2, k: int = 3, variant: int = 1) -> Estimate:
    r"""Mutual information of two continuous sets of samples, from distances to nearest neighbours.

    .. math:: I = \psi(k) + \psi(n) - \langle \psi(n_x + 1) + \psi(n_y + 1) \rangle

    with :math:`n_x`, :math:`n_y` the samples nearer in x, in y than the k-th neighbour in both (the larger of the two
    Euclidean distances; columns are divided by their standard deviation). Copies of samples count as discrete values
    (Gao et al. 2017). In more than one dimension it reads low, the more the larger the information: its error there is
    bias, so ``kind`` is ``"lower_bound"`` and the standard error NaN.

    Args:
        x: Samples, shape ``(n, ...)``.
        y: Samples, shape ``(n, ...)``.
        base: Base of the logarithm; 2 gives bits.
        k: Which neighbour; more neighbours trade variance for bias.
        variant: 1 counts within one distance for both, 2 within the neighbours' extent in each.

    Returns:
        The estimate, a scalar in float64; it can be slightly negative. ``std_error`` for single columns is its
        spread, from that of the samples' terms. ``lower`` and ``upper`` are the ends of a 95% interval: the upper one
        is higher by the bias that sharp edges of the density cause, which shows in how far more neighbours lower the
        value, and the lower one of an interval by 0.3 of it. Where that bias is more than 0.85 times the spread, or a
        column has tails heavier than an exponential one's (``"auto"`` goes by ranks), ``kind`` is ``"lower_bound"``.

    Raises:
        ValueError: If samples are not finite, differ in number or are fewer than ``k + 2``, or an option is out of
            range.

    Sources: Kraskov, Stögbauer & Grassberger 2004 (arXiv cond-mat/0305641); Gao et al. 2017 (arXiv 1709.06212).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import mutual_information
        >>> x = torch.randn(2000, generator=torch.Generator().manual_seed(0))
        >>> noise = torch.randn(2000, generator=torch.Generator().manual_seed(1))
        >>> estimate = mutual_information(x, x + noise, estimator="ksg")  # exactly half a bit
        >>> abs(estimate.value.item() - 0.5) < 0.1
        True
    """
    check_base(_OWNER, base)
    check_ksg(k, variant)
    x_rows, y_rows = as_rows(_OWNER, "x", x), as_rows(_OWNER, "y", y)
    check_same_length(_OWNER, "x", x_rows, "y", y_rows)
    n = x_rows.shape[0]
    check_neighbours(n, k)
    x_rows, y_rows = standardised(x_rows), standardised(y_rows)
    method = f"KSG-{variant} (k={k})"
    if x_rows.shape[1] > 1 or y_rows.shape[1] > 1:
        value = ksg_terms(x_rows, y_rows, k, variant).mean() / math.log(base)
        return make_estimate(value, std_error=math.nan, num_samples=n, kind="lower_bound", method=method)
    return column_estimate(*column_terms(x_rows, y_rows, k, variant), k, method, base)


class ColumnTerms(NamedTuple):
    """What the estimate of single columns and its interval rest on, in nats; of several slices their means."""

    terms: Tensor  # (n,), whose mean is the value
    bias_terms: Tensor  # (n,), whose mean is the bias at sharp edges
    tails: Tensor  # largest fourth moment of a standardised column


class Reach(NamedTuple):
    """An error beside that of the samples: its standard error, and how far the interval reaches for it either way."""

    std_error: Tensor | float = 0.0
    below: Tensor | float = 0.0
    above: Tensor | float = 0.0


NO_REACH = Reach()


def column_terms(x: Tensor, y: Tensor, k: int, variant: int = 1) -> ColumnTerms:
    """Terms of standardised single columns."""
    n = x.shape[0]
    more, most = min(2 * k, n - 2), min(8 * k, n - 2)
    terms, of_more, of_most = single_column_terms(x, y, [k, more, most], variant)
    # At a sharp edge of the density the bias grows with the square root of k.
    bias_terms = math.sqrt(k) * (of_more - of_most) / max(math.sqrt(most) - math.sqrt(more), 1e-9)
    tails = torch.stack([(each - each.mean()).pow(4).mean() for each in (x, y)]).amax()
    return ColumnTerms(terms + torch.digamma(terms.new_tensor(float(n))), bias_terms, tails)


def column_spread(k: int, n: int) -> float:
    """How many times as much the mean of n samples' terms spreads as that of independent ones would."""
    return _SPREAD + _SPREAD_OF_SHARE * k / n


def column_estimate(
    terms: Tensor, bias_terms: Tensor, tails: Tensor, k: int, method: str, base: float, other: Reach = NO_REACH
) -> Estimate:
    """The estimate of :class:`ColumnTerms` with its interval."""
    n, nats, z = terms.shape[0], math.log(base), NormalDist().inv_cdf(0.975)
    value, bias = terms.mean(), bias_terms.mean()
    factor = column_spread(k, n) / math.sqrt(n)
    spread, of_both = (factor * each.std() for each in (terms, terms + bias_terms))
    std_error = (spread**2 + other.std_error**2).sqrt()
    unsure = (bias > _LARGEST_BIAS * std_error) | (tails > _HEAVY_TAILS)
    # A value that is low by chance shows a low bias, too, so that their sum spreads more than either.
    above = torch.where(bias > 0, _WITH_BIAS * of_both, _WITHOUT_BIAS * spread)
    bias = bias.clamp(min=0)
    sure = torch.where(unsure, 0, _SURE_OF_BIAS * bias)  # a lower bound does not rest on it
    return make_estimate(
        value / nats,
        std_error=std_error / nats,
        num_samples=n,
        lower=(value + sure - ((z * spread) ** 2 + other.below**2).sqrt()) / nats,
        upper=(value + bias + ((z * above) ** 2 + other.above**2).sqrt()) / nats,
        kind="lower_bound" if bool(unsure) else "estimate",
        method=method,
    )
