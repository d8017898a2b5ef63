"""Interval of what a layer tells of its labels, from what its samples lose of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._noncentral import Z


def least_information(terms: Tensor, surprisals: Tensor, excess: Tensor) -> Tensor:
    r"""Lower end of a 95% interval of I(T;Y), in nats.

    A layer that nearly decides the label loses something at few samples, and those that lose most may not be among
    the given ones. As Wilson's of a count, the interval takes the variance of the losses to grow with their mean, as
    much as they show and one loss more: that of a sample with another label, :math:`-\log(1 - p(y_i | t_i))`.

    Args:
        terms: Log density ratios of the samples, ``(n,)``.
        surprisals: Those of their labels, of which they lose what the terms do not tell.
        excess: By how much information reads too high where there is none, with the samples' own terms.
    """
    losses = _losses(terms, surprisals)
    other = -(-torch.expm1(-losses)).log().clamp(min=-math.log(terms.shape[0])).mean()
    return _end(-1, terms, losses, excess, other)


def most_information(terms: Tensor, surprisals: Tensor, excess: Tensor) -> Tensor:
    """Upper end of the same interval: where losses happen to be few, so is the error that they show."""
    return _end(1, terms, _losses(terms, surprisals), excess, 0.0)


def _losses(terms: Tensor, surprisals: Tensor) -> Tensor:
    return (surprisals - terms).clamp(min=torch.finfo(terms.dtype).tiny)


def _end(side: int, terms: Tensor, losses: Tensor, excess: Tensor, one_more: Tensor | float) -> Tensor:
    r"""Root of :math:`(I - \hat I)^2 = z^2 \sigma^2(I) / n` with a variance that is least at both ends of I.

    Shares of labels are those of the given ones, which makes information too low, by :math:`(K - 1) / 2n` of K labels
    that the layer decides as entropy is; by :math:`(\langle p(t|y) / p(t) \rangle - 1) / 2n` of any others.
    """
    n, mean, variance = terms.shape[0], terms.mean(), terms.var(correction=0)
    # Where labels are uneven or hardly known, losses are more than what varies of them.
    squares = torch.minimum(losses.var(correction=0), variance) * n
    per_loss = (squares + one_more**2) / (losses.sum() + one_more)
    # Of little information the variance is twice that, beside what it is of none; as a noncentral chi-square value is
    # skewed, its root has an even variance, and moves the ends by half of what Wilson's does.
    per_gain = ((variance - 2 * excess) / mean.clamp(min=torch.finfo(terms.dtype).tiny)).clamp(0, 2) / 2
    shift = Z**2 / (2 * n) * (per_gain - per_loss)
    middle = mean + (terms.exp().mean() - 1) / (2 * n)
    return middle + shift + side * (Z**2 * variance / n + shift**2).sqrt()
