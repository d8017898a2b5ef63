"""Mutual information of continuous samples and labels from distances to nearest neighbours (Ross 2014)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base
from lightning_foresight.functional._noncentral import skewness_shift
from lightning_foresight.functional._rare_labels import has_rare_labels
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.mutual_information._arguments import as_labels, as_rows
from lightning_foresight.functional.mutual_information._constant import zero_of_constants
from lightning_foresight.functional.mutual_information._distances import (
    SquaredDistances,
    count_below,
    row_blocks,
    smallest,
)
from lightning_foresight.functional.mutual_information._label_entropy import (
    Z,
    label_entropy_end,
    wilson_shift,
)
from lightning_foresight.functional.mutual_information.ksg import (
    NO_REACH,
    Reach,
    check_ksg,
    check_neighbours,
    standardised,
)

_OWNER = "ksg"
# Samples share neighbours, so that their terms move together, by the root of the share of all samples that these are.
# Measured on twelve pairs at 300, 1,000 and 3,000 samples, for 1, 3 and 8 neighbours: 1.01 to 1.20, within 0.03.
_SPREAD_OF_SHARE = 1.1
# Of the upper end from 0, in its reach from the mean: no interval is empty, and little more than none is still missed.
_LEAST_REACH = 0.3


@zero_of_constants(_OWNER)
def ksg_label(activations: Tensor, labels: Tensor, *, base: float = 2, k: int = 3, variant: int = 1) -> Estimate:
    r"""I(T;Y) of continuous activations and integer labels, from nearest neighbours within the label (Ross 2014).

    .. math:: I = \psi(n) + \langle \psi(k_i) - \psi(n_{y_i}) - \psi(m_i) \rangle

    with :math:`m_i` all samples, and :math:`k_i` those of its label, within the distance to the sample's k-th neighbour
    of its label. Counting :math:`k_i` where the published form has k keeps it right when units have collapsed and many
    samples are copies of each other. The value is kept between 0 and H(Y) of the given labels, its interval below the
    upper end of H(Y)'s own. Labels that occur once are left out.

    Args:
        activations: Shape ``(n, ...)``.
        labels: Integer classes, shape ``(n,)``.
        base: Base of the logarithm; 2 gives bits.
        k: Which neighbour.
        variant: Has no meaning here.

    Returns:
        The estimate, a scalar in float64, with ``std_error`` from the samples' terms, and the ends of the 95% interval
        in ``lower`` and ``upper``. In more than one dimension it reads low, which ``std_error`` does not know: ``kind``
        is ``"lower_bound"`` there, and where labels of fewer than 20 samples make a tenth of H(Y).

    Raises:
        ValueError: If activations are not finite, labels are not integers or do not match, or all labels occur once.

    Sources: Ross 2014, doi 10.1371/journal.pone.0087357; Wilson 1927 and Johnson 1978 for the skewness of the interval.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import label_information
        >>> labels = torch.arange(400) % 2
        >>> label_information(torch.zeros(400, 3), labels, estimator="ksg").value.item()
        0.0
    """
    check_base(_OWNER, base)
    check_ksg(k, variant)
    rows = as_rows(_OWNER, "activations", activations)
    check_neighbours(rows.shape[0], k)
    estimate = label_estimate(*label_terms(standardised(rows), labels, k), k, f"Ross kNN (k={k})", base)
    return estimate._replace(kind="lower_bound") if rows.shape[1] > 1 else estimate


def label_terms(rows: Tensor, labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The samples' terms of the estimate in nats, sorted by label, and the sizes of all classes.

    Labels that occur once have no terms.
    """
    n = rows.shape[0]
    labels, num_labels = as_labels(_OWNER, "labels", labels, n)
    labels, order = labels.to(rows.device).sort()
    sizes = torch.bincount(labels, minlength=num_labels).tolist()
    distances = SquaredDistances(rows[order])
    parts = {size: row_blocks(size, rows.device, n, rows.shape[1]) for size in set(sizes) if size > 1}
    buffer = distances.buffer(max((blocks[0].stop for blocks in parts.values()), default=0))
    buffer_count = torch.empty_like(buffer)
    terms, start = [], 0
    for size in sizes:
        if size < 2:
            start += size
            continue
        members = slice(start, start + size)
        for part in parts[size]:
            block = slice(start + part.start, start + part.stop)
            own = torch.arange(block.start, block.stop, device=rows.device).unsqueeze(1)
            to_all = distances.block(block, buffer).scatter_(1, own, torch.inf)
            limit = smallest(to_all[:, members], min(k, size - 1))[:, -1].clamp_(min=0)
            scratch = buffer_count[: limit.shape[0]]
            same = count_below(to_all[:, members], limit, scratch[:, members], closed=True)
            near = count_below(to_all, limit, scratch, closed=True)
            terms.append(torch.digamma(same) - torch.digamma(near) - torch.digamma(same.new_tensor(float(size))))
        start += size
    if not terms:
        raise ValueError(
            f"{_OWNER}(labels): each of the {n} labels occurs once; expected classes with at least two samples. Pass "
            "class numbers, not sample numbers; compare continuous targets with mutual_information(x, y)."
        )
    every = torch.cat(terms)
    counts = every.new_tensor([float(size) for size in sizes if size])
    return every + torch.digamma(every.new_tensor(float(every.shape[0]))), counts


def label_spread(k: int, n: int) -> float:
    """How many times as much the mean of n samples' terms spreads as that of independent ones would."""
    return 1 + _SPREAD_OF_SHARE * math.sqrt(k / n)


def label_estimate(
    terms: Tensor, counts: Tensor, k: int, method: str, base: float, other: Reach = NO_REACH
) -> Estimate:
    """The estimate of terms, with its interval.

    Args:
        terms: As :func:`label_terms` gives them; of several slices their means.
        counts: Sizes of the classes.
        k: Which neighbour.
        method: What to call it.
        base: Base of the logarithm.
        other: An error that the terms do not show.
    """
    n, rare = terms.shape[0], has_rare_labels(counts)
    counts = counts[counts > 1]
    shares = counts / n
    h_y = -(shares * shares.log()).sum()
    mean = torch.minimum(terms.mean(), h_y)
    value = mean.clamp(min=0)
    lost = 1 - value / h_y.clamp(min=torch.finfo(h_y.dtype).tiny)
    # The outermost samples of a class find their neighbours within it, as if they were nearer to it, where either of
    # the two classes that meet there is set apart. Measured on eleven kinds, two to ten classes, for 1 to 16
    # neighbours: 0.3 to 0.7 of k a border. None lies so where nothing is lost.
    bias = torch.minimum((1 - lost**2) * 0.5 * k * (counts.shape[0] - 1) / n, h_y - value)
    spread = label_spread(k, n) * terms.std() / math.sqrt(n)
    # A mean of few losses is skewed as a count of them is, one of what few samples keep as its terms are.
    centred = terms - terms.mean()
    skewness = -lost * skewness_shift(centred.pow(3).mean(), centred.square().mean(), h_y.new_tensor(float(n)))
    down = skewness + (1 - lost) * wilson_shift(h_y - terms, math.log(max(2.0, n / k)))
    up = -skewness - (1 - lost) * wilson_shift(h_y - terms)
    below, above = (shift + (Z**2 * spread**2 + shift**2).sqrt() for shift in (down, up))
    lower = value - (below**2 + other.below**2).sqrt() - bias
    # Samples of a layer that decides the label lose nothing of H(Y), which is itself known to an error only.
    reach = (above**2 + other.above**2).sqrt()
    # From the mean, which may be negative: from 0 little information would always lie below it.
    upper = torch.minimum(torch.maximum(mean + reach, _LEAST_REACH * reach), label_entropy_end(counts, skewed=True))
    nats = math.log(base)
    return make_estimate(
        value / nats,
        std_error=(spread**2 + other.std_error**2).sqrt() / nats,
        num_samples=n,
        lower=lower.clamp(min=0) / nats,
        upper=upper / nats,
        kind="lower_bound" if rare else "estimate",
        method=method,
    )
