"""Interval of what a layer tells of its labels, from what its samples lose of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._noncentral import Z
from lightning_foresight.functional.mutual_information._label_entropy import standard_error

# How far the mean loss is off the middle of its interval, in sizes of a loss. Wilson's, Z^2 / 2, for the largest mean:
# none seen leaves up to 3.7 of them. For the smallest between it and mid-P's of counts, (1 + 2 Z^2) / 6, since losses
# are skewed: found by simulation of 80 layers that decide the label more or less, some of the labels being wrong.
_MOST, _LEAST = Z**2 / 2, 5 / 3


def least_information(terms: Tensor, surprisals: Tensor) -> Tensor:
    r"""Lower end of a 95% interval of I(T;Y), in nats.

    A layer that nearly decides the label loses something at few samples, and those that lose most may not be among
    the given ones. As Wilson's of a count, the interval takes the variance of the losses to grow with their mean, as
    much as they show and one loss more: that of a sample with another label, :math:`-\log(1 - p(y_i | t_i))`.

    Args:
        terms: Log density ratios of the samples, ``(n,)``.
        surprisals: Those of their labels, of which they lose what the terms do not tell.
    """
    n = terms.shape[0]
    losses = (surprisals - terms).clamp(min=torch.finfo(terms.dtype).tiny)
    other = -(-torch.expm1(-losses)).log().clamp(min=-math.log(n)).mean()
    size = (_squares(terms, losses) + other**2) / (losses.sum() + other)
    shift = _MOST * size / n
    return terms.mean() - shift - (Z**2 * standard_error(terms) ** 2 + shift**2).sqrt()


def most_information(terms: Tensor, surprisals: Tensor) -> Tensor:
    """Upper end of the same interval: where losses happen to be few, so is the error that they show."""
    losses = (surprisals - terms).clamp(min=torch.finfo(terms.dtype).tiny)
    shift = _LEAST * _squares(terms, losses) / (losses.sum() * terms.shape[0])
    return terms.mean() - shift + (Z**2 * standard_error(terms) ** 2 + shift**2).sqrt()


def _squares(terms: Tensor, losses: Tensor) -> Tensor:
    """What varies of the losses: where labels are uneven or hardly known it is not all of their squares."""
    return torch.minimum(losses.var(correction=0), terms.var(correction=0)) * terms.shape[0]
