r"""The lattice of antichains of sets of sources.

An antichain :math:`\alpha` is stored as its up-set, the family of all nonempty sets that contain one of its members:
an integer with one bit for every set. The set with bit mask ``A`` sits at position ``full - A``, so that the bit of
the full set, which every up-set holds, comes first, and that of the empty set, which none holds, would be the sign.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

MAX_SOURCES = 6


@lru_cache(maxsize=8)
def monotone_functions(num_sources: int) -> Tensor:
    """All monotone Boolean functions of at most 5 sources, the two constants included, sorted."""
    functions = torch.tensor([0, 1])
    for sources in range(num_sources):
        without, within = nested_pairs(functions, functions)
        functions = (functions[without] << 2**sources) | functions[within]
    return functions


def nested_pairs(smaller: Tensor, larger: Tensor) -> tuple[Tensor, Tensor]:
    """Indices ``(i, j)`` of all pairs with ``smaller[i]`` inside ``larger[j]``, sorted."""
    found = [
        (start + pair[:, 0], pair[:, 1])
        for start in range(0, len(smaller), 256)
        for pair in [((smaller[start : start + 256, None] & ~larger) == 0).nonzero()]
    ]
    return torch.cat([pair[0] for pair in found]), torch.cat([pair[1] for pair in found])


class Lattice:
    """All antichains of ``num_sources`` sources: 1, 4, 18, 166, 7,579 or 7,828,352 of them.

    Attributes:
        codes: Up-sets as integers, sorted, ``(antichains,)``.
    """

    def __init__(self, num_sources: int) -> None:
        self.num_sources = num_sources
        self.full = 2**num_sources - 1
        halves = monotone_functions(num_sources - 1)
        # The last function holds the empty set; the first holds no set even with the last source.
        without, within = nested_pairs(halves[:-1], halves[1:])
        self.codes = (halves[without] << 2 ** (num_sources - 1)) | halves[within + 1]

    def __len__(self) -> int:
        return len(self.codes)

    def steps(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Index pairs of the fast Moebius transform: subtract the value at the second from that at the first.

        One step a set, from large sets to small: every up-set that lacks the set, and the up-set with it added.
        """
        if self.num_sources == MAX_SOURCES:  # half a gigabyte of indices: made when needed, not kept
            yield from (self._step(subset) for subset in sets_by_size(self.num_sources)[-2::-1])
        else:
            yield from _cached_steps(self.num_sources)

    def _step(self, subset: int) -> tuple[Tensor, Tensor]:
        """Up-sets to which the set can be added, and those from which it can be taken, in the same order.

        Adding a bit keeps the order of the codes, so the two lists match without a search.
        """
        neighbours = [1 << (self.full - (subset ^ 1 << source)) for source in range(self.num_sources)]
        above = sum(bit for source, bit in enumerate(neighbours) if not subset >> source & 1)
        below = sum(bit for source, bit in enumerate(neighbours) if subset >> source & 1 and subset != 1 << source)
        bit = 1 << (self.full - subset)
        lacking = (self.codes & (above | bit)) == above
        minimal = (self.codes & (below | bit)) == bit
        return lacking.nonzero()[:, 0], minimal.nonzero()[:, 0]

    def moebius(self, cumulative: Tensor) -> Tensor:
        r"""Turn cumulative values into atoms, :math:`I_\cap(\alpha) = \sum_{\beta \le \alpha} \Pi(\beta)`.

        Args:
            cumulative: Values of the antichains along the last axis.
        """
        atoms = cumulative
        track = atoms.requires_grad
        if not track:
            atoms = atoms.clone()
        for lower, upper in self.steps():
            lower, upper = lower.to(atoms.device), upper.to(atoms.device)
            change = atoms.index_select(-1, upper).neg_()
            atoms = atoms.index_add(-1, lower, change) if track else atoms.index_add_(-1, lower, change)
        return atoms

    def degree_of_synergy(self) -> Tensor:
        """Size of the smallest set of each antichain, ``(antichains,)``."""
        degree = torch.full_like(self.codes, self.num_sources)
        for size in range(self.num_sources - 1, 0, -1):
            family = sum(1 << (self.full - s) for s in sets_by_size(self.num_sources) if s.bit_count() == size)
            degree[(self.codes & family) != 0] = size
        return degree


def antichain_key(code: int, num_sources: int) -> str:
    """Write an up-set as its antichain, ``"{1}{2,3}"``: sources from 1, sets by size and then in order."""
    full = 2**num_sources - 1
    members = [s for s in sets_by_size(num_sources) if code >> (full - s) & 1]
    minimal = [s for s in members if not any(other != s and other & s == other for other in members)]
    return "".join("{" + ",".join(str(i + 1) for i in range(num_sources) if s >> i & 1) + "}" for s in minimal)


def antichain_code(key: str, num_sources: int) -> int:
    """Read the up-set of ``"{1}{2,3}"``; sets may come in any order.

    Raises:
        KeyError: If ``key`` is not an antichain of these sources.
    """
    text = key.replace(" ", "")
    sets = [set(map(int, re.findall(r"\d+", part))) for part in text.split("}{")]
    known = set(range(1, num_sources + 1))
    nested = any(a <= b for i, a in enumerate(sets) for j, b in enumerate(sets) if i != j)
    if not re.fullmatch(r"(\{\d+(,\d+)*\})+", text) or nested or not all(s <= known for s in sets):
        raise KeyError(
            f"{key!r} is not an antichain of {num_sources} sources; expected sets of sources from 1, none inside "
            "another, such as '{1}{2}' or '{1,2}'."
        )
    return up_set([sum(1 << (source - 1) for source in s) for s in sets], num_sources)


def up_set(masks: list[int], num_sources: int) -> int:
    """Up-set of all sets that contain one of those with the given bit masks."""
    full = 2**num_sources - 1
    return sum(1 << (full - s) for s in range(1, full + 1) if any(s & mask == mask for mask in masks))


@lru_cache(maxsize=8)
def lattice(num_sources: int) -> Lattice:
    """Return the lattice of 1 to 6 sources, built once."""
    return Lattice(num_sources)


@lru_cache(maxsize=8)
def _cached_steps(num_sources: int) -> list[tuple[Tensor, Tensor]]:
    structure = lattice(num_sources)
    # Every up-set holds the full set, the last by size: it is never added.
    return [structure._step(subset) for subset in sets_by_size(num_sources)[-2::-1]]


@lru_cache(maxsize=32)
def sets_by_size(num_sources: int) -> list[int]:
    """Bit masks of the nonempty sets of sources, by size, then in lexicographic order of their members."""
    members = {mask: [i for i in range(num_sources) if mask >> i & 1] for mask in range(1, 2**num_sources)}
    return sorted(members, key=lambda mask: (len(members[mask]), members[mask]))
