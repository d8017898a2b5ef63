"""What labels can tell at most, as far as their sample knows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._noncentral import Z, entropy_interval


def standard_error(terms: Tensor) -> Tensor:
    """That of the mean of independent terms, ``(n,)``."""
    return terms.std(correction=0) / math.sqrt(terms.shape[0])


def label_entropy_end(counts: Tensor) -> Tensor:
    """Upper end of a 95% interval of H(Y) in nats, where the interval of I(T;Y) has to end.

    The entropy of the given labels is itself an estimate: an interval that ends there misses the truth in half of all
    samples where the layer decides the label.

    Args:
        counts: How often each of the labels occurs, shape ``(labels,)``; zeros do not count.
    """
    n, weights, seen = counts.sum().double(), counts.double(), counts.count_nonzero().double()
    surprisals = n.log() - weights.clamp(min=1).log()
    plug_in = weights @ surprisals / n
    variance = weights @ (surprisals - plug_in).square() / n
    return entropy_interval(plug_in, variance, seen, n)[1]


def largest_of_seen(counts: tuple[int, ...], n: int, enough: int) -> float:
    """Largest mutual information in nats of variables of so many values each, of those seen often enough to count."""
    return min((math.log(count) for count in counts if count * enough <= n), default=math.inf)


def most_lost(mean: Tensor, std_error: Tensor, losses: Tensor, largest: float) -> Tensor:
    """Upper end of a 95% interval of a mean loss, as Wilson's of a count.

    Few samples, or none, may have lost what the others did not.

    Args:
        mean: What the samples lost of H(Y), on average.
        std_error: Its standard error.
        losses: Those of the samples.
        largest: What a sample loses that lies amid another label; one of that kind is added to those that were seen.
    """
    n = losses.shape[0]
    losses = losses.clamp(min=0)
    size = (losses.square().sum() + largest**2) / (losses.sum() + largest)  # of a loss, where there is one
    shift = size * Z**2 / (2 * n)
    return mean + shift + (Z**2 * std_error**2 + shift**2).sqrt()


def least_lost(mean: Tensor, std_error: Tensor, losses: Tensor) -> Tensor:
    """Lower end of the same interval: where losses happen to be few, so is the error that they show.

    Args:
        mean: As of :func:`most_lost`.
        std_error: Likewise.
        losses: Likewise; none is added.
    """
    losses = losses.clamp(min=0)
    size = losses.square().sum() / losses.sum().clamp(min=torch.finfo(losses.dtype).tiny)
    shift = size * Z**2 / (2 * losses.shape[0])
    return mean + shift - (Z**2 * std_error**2 + shift**2).sqrt()
