"""Mutual information from distances to nearest neighbours."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_choice, check_int, check_same_length, fail
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.mutual_information._arguments import as_labels, as_rows
from lightning_foresight.functional.mutual_information._distances import (
    SquaredDistances,
    count_below,
    row_blocks,
    smallest,
)

_OWNER = "ksg"


def check_ksg(k: int = 3, variant: int = 1) -> None:
    """Check the options of ``"ksg"`` without data."""
    check_int(_OWNER, "k", k, 1)
    check_choice(_OWNER, "variant", variant, (1, 2))


def _standardised(rows: Tensor) -> Tensor:
    """Columns in units of their standard deviation, without constant ones (but at least one column)."""
    rows = rows if rows.is_floating_point() else rows.float()
    scale = rows.std(0)
    varying = scale > 0
    if not bool(varying.any()):
        return torch.zeros_like(rows[:, :1])
    return rows[:, varying] / scale[varying]


def _check_neighbours(n: int, k: int) -> None:
    if n <= k + 1:
        fail(_OWNER, "k", k, f"expected fewer neighbours than the {n} samples have; lower k or pass more samples.")


def ksg_terms(x: Tensor, y: Tensor, k: int, variant: int, spread_out: bool = False) -> Tensor:
    """The samples' terms of the estimate, in nats; their mean is the estimate."""
    n = x.shape[0]
    of_x, of_y = SquaredDistances(x, spread_out), SquaredDistances(y, spread_out)
    terms = []
    for block in row_blocks(n, x.device):
        dx, dy = of_x.block(block), of_y.block(block)
        own = torch.arange(block.start, block.stop, device=x.device).unsqueeze(1)
        joint = torch.maximum(dx, dy).scatter_(1, own, torch.inf)
        if variant == 1:
            limit = limit_y = smallest(joint, k)[:, -1]
            near_x, near_y = count_below(dx, limit), count_below(dy, limit)  # with the sample itself, unless limit = 0
            of_block = torch.digamma(x.new_tensor(k).double()) - torch.digamma(near_x) - torch.digamma(near_y)
        else:
            nearest = joint.topk(k, 1, largest=False).indices
            limit, limit_y = dx.gather(1, nearest).amax(1), dy.gather(1, nearest).amax(1)
            near_x, near_y = count_below(dx, limit, closed=True) - 1, count_below(dy, limit_y, closed=True) - 1
            of_block = torch.digamma(x.new_tensor(k).double()) - 1 / k - torch.digamma(near_x) - torch.digamma(near_y)
        # k copies of a sample: the value of a discrete pair, from how many share it (Gao et al. 2017).
        tied = torch.maximum(limit, limit_y) == 0
        if bool(tied.any()):
            zero = torch.zeros_like(limit)
            copies, same_x, same_y = (count_below(each, zero, closed=True) for each in (joint, dx, dy))
            discrete = torch.digamma(copies) - torch.digamma(same_x - 1) - torch.digamma(same_y - 1)
            of_block = torch.where(tied, discrete, of_block)
        terms.append(of_block)
    return torch.digamma(torch.tensor(float(n), dtype=torch.float64, device=x.device)) + torch.cat(terms)


def ksg_pair(x: Tensor, y: Tensor, *, base: float = 2, k: int = 3, variant: int = 1) -> Estimate:
    r"""Mutual information of two continuous sets of samples, from distances to nearest neighbours.

    .. math:: I = \psi(k) + \psi(n) - \langle \psi(n_x + 1) + \psi(n_y + 1) \rangle

    with :math:`n_x`, :math:`n_y` the samples nearer in x, in y than the k-th neighbour in both (the larger of the two
    Euclidean distances; columns are divided by their standard deviation). Copies of samples count as discrete values
    (Gao et al. 2017). Right to about 0.01 nats for single columns; in more dimensions it reads low, the more the larger
    the information: its error there is bias, so the standard error is given as NaN.

    Args:
        x: Samples, shape ``(n, ...)``.
        y: Samples, shape ``(n, ...)``.
        base: Base of the logarithm; 2 gives bits.
        k: Which neighbour; more neighbours trade variance for bias.
        variant: 1 counts within one distance for both, 2 within the neighbours' extent in each.

    Returns:
        The estimate, a scalar in float64; it can be slightly negative. ``std_error`` for single columns joins the
        spread of the samples' terms and the bias that shows in how far four times as many neighbours move the value.

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
    _check_neighbours(n, k)
    x_rows, y_rows = _standardised(x_rows), _standardised(y_rows)
    terms = ksg_terms(x_rows, y_rows, k, variant) / math.log(base)
    error: Tensor | float = math.nan
    if x_rows.shape[1] == y_rows.shape[1] == 1:
        # More neighbours have more bias: how far they move the value says how much of it there may be.
        moved = ksg_terms(x_rows, y_rows, min(4 * k, n - 2), variant).mean() / math.log(base) - terms.mean()
        error = (terms.var() / n + moved**2).sqrt()
    return make_estimate(terms.mean(), std_error=error, num_samples=n, method=f"KSG-{variant} (k={k})")


def ksg_label(activations: Tensor, labels: Tensor, *, base: float = 2, k: int = 3, variant: int = 1) -> Estimate:
    r"""I(T;Y) of continuous activations and integer labels, from nearest neighbours within the label (Ross 2014).

    .. math:: I = \psi(n) + \langle \psi(k_i) - \psi(n_{y_i}) - \psi(m_i) \rangle

    with :math:`m_i` all samples, and :math:`k_i` those of its label, within the distance to the sample's k-th neighbour
    of its label. Counting :math:`k_i` where the published form has k keeps it right when units have collapsed and many
    samples are copies of each other. The value is kept between 0 and H(Y). Labels that occur once are left out.

    Args:
        activations: Shape ``(n, ...)``.
        labels: Integer classes, shape ``(n,)``.
        base: Base of the logarithm; 2 gives bits.
        k: Which neighbour.
        variant: Has no meaning here.

    Returns:
        The estimate, a scalar in float64, with ``std_error`` from the samples' terms.

    Raises:
        ValueError: If activations are not finite, labels are not integers or do not match, or all labels occur once.

    Source: Ross 2014, doi 10.1371/journal.pone.0087357.

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
    n = rows.shape[0]
    _check_neighbours(n, k)
    rows = _standardised(rows)
    labels, num_labels = as_labels(_OWNER, "labels", labels, n)
    labels, order = labels.to(rows.device).sort()
    sizes = torch.bincount(labels, minlength=num_labels).tolist()
    distances = SquaredDistances(rows[order])
    terms, start = [], 0
    for size in sizes:
        if size < 2:
            start += size
            continue
        members = slice(start, start + size)
        for part in row_blocks(size, rows.device, columns=n):
            block = slice(start + part.start, start + part.stop)
            own = torch.arange(block.start, block.stop, device=rows.device).unsqueeze(1)
            to_all = distances.block(block).scatter_(1, own, torch.inf)
            limit = smallest(to_all[:, members], min(k, size - 1))[:, -1]
            same, all_labels = (count_below(each, limit, closed=True) for each in (to_all[:, members], to_all))
            terms.append(torch.digamma(same) - torch.digamma(all_labels) - torch.digamma(same.new_tensor(float(size))))
        start += size
    if not terms:
        raise ValueError(
            f"{_OWNER}(labels): each of the {n} labels occurs once; expected classes with at least two samples. Pass "
            "class numbers, not sample numbers; compare continuous targets with mutual_information(x, y)."
        )
    every = torch.cat(terms)
    used = every.shape[0]
    every = (every + torch.digamma(every.new_tensor(float(used)))) / math.log(base)
    shares = every.new_tensor([size / used for size in sizes if size > 1])
    h_y = -(shares * shares.log()).sum() / math.log(base)
    value = torch.minimum(every.mean().clamp(min=0), h_y)
    return make_estimate(value, std_error=every.std() / math.sqrt(used), num_samples=used, method=f"Ross kNN (k={k})")
