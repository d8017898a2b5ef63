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


def hash_rows(codes: Tensor, factors: Tensor) -> Tensor:
    """Return a 64-bit key for every vector ``(..., components)``; different vectors share one with chance 2^-63.

    Args:
        codes: The vectors, integers.
        factors: A random odd number for each component, see :func:`hash_factors`.
    """
    return (codes * factors).sum(-1)


def hash_factors(components: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw what :func:`hash_rows` multiplies by."""
    drawn = torch.randint(-(2**62), 2**62, (components,), generator=generator, device=generator.device)
    return 2 * drawn.to(device) + 1


def count_equal(keys: Tensor) -> Tensor:
    """Count equal keys along the last axis: as many counts as there are different keys, then zeros."""
    keys = keys.sort(-1).values
    new = torch.zeros_like(keys)
    new[..., 1:] = keys[..., 1:] != keys[..., :-1]
    return torch.zeros_like(keys).scatter_add_(-1, new.cumsum(-1), torch.ones_like(keys))


class VectorCounts:
    """Adds up, chunk by chunk, what the entropy of vectors needs: a key for each, and counts of their components.

    Args:
        bins: Number of bins of each component.
        generator: Draws the keys.
    """

    def __init__(self, bins: int, generator: torch.Generator) -> None:
        self.bins = bins
        self._generator = generator
        self._factors: Tensor | None = None
        self._keys: list[Tensor] = []
        self._table: Tensor | None = None

    def add(self, codes: Tensor) -> None:
        """Add samples of vectors of bins ``(..., samples, components)``."""
        if self._factors is None:
            self._factors = hash_factors(codes.shape[-1], self._generator, codes.device)
        self._keys.append(hash_rows(codes, self._factors))
        offsets = torch.arange(codes.shape[-1], device=codes.device) * self.bins
        flat = (codes + offsets).flatten(-2)
        if self._table is None:
            self._table = flat.new_zeros(*codes.shape[:-2], codes.shape[-1] * self.bins)
        self._table.scatter_add_(-1, flat, torch.ones((), dtype=flat.dtype, device=flat.device).expand_as(flat))

    def entropy(self) -> VectorEntropy:
        """Return the entropy of all that was added."""
        assert self._table is not None  # somebody called add()
        return _entropy(torch.cat(self._keys, -1), self._table.unflatten(-1, (-1, self.bins)))


def vector_entropy(codes: Tensor, bins: int, generator: torch.Generator) -> VectorEntropy:
    r"""Entropy of vectors of bins ``(..., samples, components)``.

    Where equal vectors are rare, the plug-in value only says how many samples there were. Two bounds do not: the
    number of equal pairs gives :math:`-\log \sum p^2 \le H`, and components alone give :math:`H \le \sum_b H(Y_b)`.
    """
    counts = VectorCounts(bins, generator)
    counts.add(codes)
    return counts.entropy()


def _entropy(keys: Tensor, tables: Tensor) -> VectorEntropy:
    """Return the entropies of vectors with keys ``(..., samples)`` and counts ``(..., components, bins)``."""
    samples, bins = keys.shape[-1], tables.shape[-1]
    counts = count_equal(keys)
    corrected = discrete_entropy(counts, "grassberger")
    plug_in = discrete_entropy(counts)
    pairs = samples * (samples - 1) / 2
    equal = (counts * (counts - 1)).sum(-1).double() / 2
    # Upper 95% limit of a Poisson count, generous at every count and 3 at none.
    collision = ((equal + 2 * equal.sqrt() + 3) / pairs).clamp_max(1)
    parts = discrete_entropy(tables, "miller_madow")
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
