r"""What is left of the bias of a histogram's mutual information after Grassberger's correction, and its removal.

If inputs and outputs were independent, the counts of the joint cells would be nearly Poisson, and the mean of every
term of the estimate is known: for a Poisson count of mean :math:`\mu` (Grassberger 2003, arXiv physics/0307138)

.. math:: \mathbb E[c\, G(c)] = F(\mu) = \mu \ln \mu + \mu E_1(2 \mu).

With the marginal sums given, a count spreads by a share :math:`s` less than a Poisson one; to first order this takes
:math:`s\, \mu F''(\mu) / 2` off its mean term.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def exponential_integral(x: Tensor) -> Tensor:
    r"""Return :math:`E_1(x) = \int_x^\infty e^{-t} / t\, dt` for positive x, to 3e-7.

    Source: Abramowitz & Stegun 1964, 5.1.53 and 5.1.56.
    """
    small, large = x.clamp(max=1.0), x.clamp(1.0, 700.0)
    near_zero = _polynomial(small, 0.00107857, -0.00976004, 0.05519968, -0.24991055, 0.99999193, -0.57721566)
    above = _polynomial(large, 1.0, 8.5733287401, 18.0590169730, 8.6347608925, 0.2677737343)
    below = _polynomial(large, 1.0, 9.5733223454, 25.6329561486, 21.0996530827, 3.9584969228)
    return torch.where(x <= 1, near_zero - small.log(), torch.exp(-large) * above / (below * large))


def _polynomial(x: Tensor, *coefficients: float) -> Tensor:
    total = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


def mean_excess(expected: Tensor, share: Tensor | float) -> Tensor:
    r"""Return how far the mean of c G(c) is above :math:`\mu \ln \mu`.

    Args:
        expected: The mean count :math:`\mu`.
        share: Counts have a variance of ``(1 - share)`` times their mean.
    """
    twice = 2 * expected.clamp_min(torch.finfo(expected.dtype).tiny)
    decay = torch.exp(-twice)
    spread = 1 - decay + twice * decay
    return torch.where(expected > 0, (twice * exponential_integral(twice) - spread * share) / 2, 0)


def mean_term(expected: Tensor, share: Tensor | float) -> Tensor:
    """Return the mean of c G(c) for counts of a given mean and a variance of ``(1 - share)`` times their mean."""
    return torch.special.xlogy(expected, expected) + mean_excess(expected, share)


def null_of_uniform_inputs(columns: Tensor, in_bins: int, terms: Tensor) -> Tensor:
    r"""Mean of :func:`grassberger_information` in bits if the same outputs had nothing to do with the inputs.

    Args:
        columns: Counts of the outputs' bins ``(..., out_bins)``, integers. None were dropped.
        in_bins: Bins of the inputs, all equally likely.
        terms: :math:`c\,G(c)` by count.

    Returns:
        Bits ``(...)``.
    """
    counts = columns.to(terms.dtype)
    total = counts.sum(-1)
    cells, rows = mean_term(counts / in_bins, 1 / in_bins).sum(-1), mean_term(total / in_bins, 1 / in_bins)
    return _information(in_bins * (cells - rows) - terms[columns].sum(-1), total)


def null_of_margins(rows: Tensor, columns: Tensor, terms: Tensor) -> Tensor:
    r"""Mean of :func:`grassberger_information` over all tables with given margins.

    For where outputs were dropped: which inputs are left is then part of the margins, not of the information.

    Args:
        rows: Counts of the inputs' bins ``(..., in_bins)``, integers.
        columns: Counts of the outputs' bins ``(..., out_bins)``, integers.
        terms: :math:`c\,G(c)` by count.

    Returns:
        Bits ``(...)``.
    """
    total = columns.sum(-1).to(terms.dtype)
    n = total.clamp_min(1)
    # Single precision will do for the excess; the rest of the cells' sum follows from the margins.
    whole = n.float()[..., None, None]
    row_share, column_share = rows.float().unsqueeze(-1) / whole, columns.float().unsqueeze(-2) / whole
    # Counts with given margins are hypergeometric.
    share = 1 - (1 - row_share) * (1 - column_share) * (whole / (whole - 1).clamp_min(1))
    excess = mean_excess(row_share * column_share * whole, share).sum((-1, -2)).to(terms.dtype)
    plain = sum(torch.special.xlogy(margin, margin.to(terms.dtype)).sum(-1) for margin in (rows, columns))
    cells = plain - torch.special.xlogy(total, n) + excess
    return _information(cells - terms[rows].sum(-1) - terms[columns].sum(-1), total)


def _information(sums: Tensor, total: Tensor) -> Tensor:
    n = total.clamp_min(1)
    return torch.where(total > 0, (sums / n + n.log()) / math.log(2), 0)


def less_null(bits: Tensor, null: Tensor) -> Tensor:
    """Subtract from the bits of pairs what independent inputs and outputs would show.

    Bias grows with the number of cells that a distribution spreads over. The joint one has about ``2^-I`` of those of
    the independent one, so that this share of its bias is subtracted.
    """
    return bits - null * torch.exp2(null - bits)
