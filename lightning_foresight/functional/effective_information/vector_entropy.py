"""Entropy of whole vectors of bins from samples: counts of equal vectors, bounds where nearly all differ."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional.discrete_entropy import discrete_entropy


class VectorEntropy(NamedTuple):
    """Entropy of vectors in bits, batched over everything but samples and components.

    Attributes:
        value: With Grassberger's correction.
        std_error: Of ``value``.
        lower: Lower bound; holds at 95% where it comes from collisions.
        upper: Sum of the components' entropies.
        upper_error: Standard error of ``upper``.
        components: Entropies of the single components ``(..., components)``.
        component_errors: Their standard errors.
        singles: Share of samples that are like no other: where it is large, ``value`` means little.
        saturation: Plug-in entropy over the logarithm of the number of samples.
    """

    value: Tensor
    std_error: Tensor
    lower: Tensor
    upper: Tensor
    upper_error: Tensor
    components: Tensor
    component_errors: Tensor
    singles: Tensor
    saturation: Tensor


def hash_rows(codes: Tensor, generator: torch.Generator) -> Tensor:
    """Return a 64-bit key for every vector ``(..., components)``; different vectors share one with chance 2^-63."""
    size = (codes.shape[-1],)
    factors = torch.randint(-(2**62), 2**62, size, generator=generator, device=generator.device).to(codes.device)
    return (codes * (2 * factors + 1)).sum(-1)


def count_equal(keys: Tensor) -> Tensor:
    """Count equal keys along the last axis: as many counts as there are different keys, then zeros."""
    keys = keys.sort(-1).values
    new = torch.zeros_like(keys)
    new[..., 1:] = keys[..., 1:] != keys[..., :-1]
    return torch.zeros_like(keys).scatter_add_(-1, new.cumsum(-1), torch.ones_like(keys))


def vector_entropy(codes: Tensor, bins: int, generator: torch.Generator) -> VectorEntropy:
    r"""Entropy of vectors of bins ``(..., samples, components)``.

    Where equal vectors are rare, the plug-in value only says how many samples there were. Two bounds do not: the
    number of equal pairs gives :math:`-\log \sum p^2 \le H`, and components alone give :math:`H \le \sum_b H(Y_b)`.
    """
    samples = codes.shape[-2]
    counts = count_equal(hash_rows(codes, generator))
    corrected = discrete_entropy(counts, "grassberger")
    plug_in = discrete_entropy(counts)
    pairs = samples * (samples - 1) / 2
    equal = (counts * (counts - 1)).sum(-1).double() / 2
    # Upper 95% limit of a Poisson count, generous at every count and 3 at none.
    collision = ((equal + 2 * equal.sqrt() + 3) / pairs).clamp_max(1)
    offsets = torch.arange(codes.shape[-1], device=codes.device) * bins
    table = codes.new_zeros(*codes.shape[:-2], codes.shape[-1] * bins)
    flat = (codes + offsets).flatten(-2)
    table.scatter_add_(-1, flat, torch.ones_like(flat))
    parts = discrete_entropy(table.view(*codes.shape[:-2], codes.shape[-1], bins), "miller_madow")
    # The delta method sees no error for uniform components, where the noise is chi-squared.
    chi_squared = 2 * (bins - 1) / (2 * samples * math.log(2)) ** 2
    errors = (parts.std_error.square() + chi_squared).sqrt()
    return VectorEntropy(
        corrected.value,
        corrected.std_error,
        torch.maximum(plug_in.value, -collision.log2()),
        parts.value.sum(-1),
        errors.square().sum(-1).sqrt(),
        parts.value,
        errors,
        (counts == 1).sum(-1).double() / samples,
        plug_in.value / math.log2(samples),
    )
