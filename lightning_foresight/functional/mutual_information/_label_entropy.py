"""What labels can tell at most, as far as their sample knows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._noncentral import Z, entropy_interval


def standard_error(terms: Tensor) -> Tensor:
    """That of the mean of independent terms, ``(n,)``."""
    return terms.std(correction=0) / math.sqrt(terms.shape[0])


def label_entropy_end(counts: Tensor, skewed: bool = False) -> Tensor:
    """Upper end of a 95% interval of H(Y) in nats, where the interval of I(T;Y) has to end.

    The entropy of the given labels is itself an estimate: an interval that ends there misses the truth in half of all
    samples where the layer decides the label.

    Args:
        counts: How often each of the labels occurs, shape ``(labels,)``; zeros do not count.
        skewed: Whether to reckon with the skewness of a rare label's surprisal.
    """
    n, weights, seen = counts.sum().double(), counts.double(), counts.count_nonzero().double()
    surprisals = n.log() - weights.clamp(min=1).log()
    plug_in = weights @ surprisals / n
    variance = weights @ (surprisals - plug_in).square() / n
    third = weights @ (surprisals - plug_in).pow(3) / n
    return entropy_interval(plug_in, variance, seen, n, third if skewed else 0.0)[1]


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
    shift = wilson_shift(losses, largest)
    return mean + shift + (Z**2 * std_error**2 + shift**2).sqrt()


def wilson_shift(losses: Tensor, largest: float = 0.0) -> Tensor:
    """How far Wilson's interval of a mean loss lies above it: where losses happen to be few, so is their error.

    Args:
        losses: Those of the samples.
        largest: One more loss, of a kind that may not have been seen.
    """
    losses = losses.clamp(min=0)
    total = (losses.sum() + largest).clamp(min=torch.finfo(losses.dtype).tiny)
    size = (losses.square().sum() + largest**2) / total  # of a loss, where there is one
    return size * Z**2 / (2 * losses.shape[0])
