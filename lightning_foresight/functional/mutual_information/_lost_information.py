"""Interval of what a layer tells of its labels, from what its samples lose of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._noncentral import Z
from lightning_foresight.functional.mutual_information._label_entropy import standard_error


def least_information(terms: Tensor, surprisals: Tensor) -> Tensor:
    r"""Lower end of a 95% interval of I(T;Y), in nats.

    A layer that nearly decides the label loses something at few samples, and those that lose most may not be among
    the given ones. As Wilson's of a count, the interval takes the variance of the losses to grow with their mean, as
    much as they show and one loss more: that of a sample with another label, :math:`-\log(1 - p(y_i | t_i))`.

    Args:
        terms: Log density ratios of the samples, ``(n,)``.
        surprisals: Those of their labels, of which they lose what the terms do not tell.
    """
    losses = _losses(terms, surprisals)
    other = -(-torch.expm1(-losses)).log().clamp(min=-math.log(terms.shape[0])).mean()
    return _end(-1, terms, losses, other)


def most_information(terms: Tensor, surprisals: Tensor) -> Tensor:
    """Upper end of the same interval: where losses happen to be few, so is the error that they show."""
    return _end(1, terms, _losses(terms, surprisals), 0.0)


def _losses(terms: Tensor, surprisals: Tensor) -> Tensor:
    return (surprisals - terms).clamp(min=torch.finfo(terms.dtype).tiny)


def _end(side: int, terms: Tensor, losses: Tensor, one_more: Tensor | float) -> Tensor:
    r"""Root of :math:`(I - \hat I)^2 = z^2 \hat\sigma^2 / n` with a variance that grows with the mean loss.

    Shares of labels are those of the given ones, which makes information too low, by :math:`(K - 1) / 2n` of K labels
    that the layer decides as entropy is; by :math:`(\langle p(t|y) / p(t) \rangle - 1) / 2n` of any others.
    """
    n = terms.shape[0]
    # Where labels are uneven or hardly known, losses are more than what varies of them.
    squares = torch.minimum(losses.var(correction=0), terms.var(correction=0)) * n
    shift = Z**2 / (2 * n) * (squares + one_more**2) / (losses.sum() + one_more)
    middle = terms.mean() + (terms.exp().mean() - 1) / (2 * n)
    return middle - shift + side * (Z**2 * standard_error(terms) ** 2 + shift**2).sqrt()
