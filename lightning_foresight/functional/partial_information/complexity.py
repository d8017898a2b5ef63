"""Representational complexity: how many sources it takes, on average, to find a piece of information."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_choice, check_int, fail
from lightning_foresight.functional._memory import chunks
from lightning_foresight.functional._random import own_generator
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.partial_information._leave_one_out import group_entropy
from lightning_foresight.functional.partial_information._many_tables import informative_terms, misinformative_terms
from lightning_foresight.functional.partial_information._row_ids import relabel, row_ids
from lightning_foresight.functional.partial_information.clock import sample_information_by_degree
from lightning_foresight.functional.partial_information.joint_table import JointRows, check_table
from lightning_foresight.functional.partial_information.lattice import MAX_SOURCES, up_set

MAX_CLOCK_SOURCES = 16
_NO_INFORMATION = 1e-12


def information_by_degree(table: JointRows, *, base: float = 2) -> Tensor:
    r"""Sums of the atoms of each degree of synergy (shared exclusions), without computing the atoms.

    The degree of an atom is the size of its smallest set. The atoms of degree at most k sum to

    .. math:: I_k = \sum_{\emptyset \ne S \subseteq \{a : |a| = k\}} (-1)^{|S| + 1} I_\cap(S),

    2,109 redundancies for 5 sources in place of 7,579.

    Args:
        table: Joint table of 1 to 6 sources; differentiable in the weights.
        base: Base of the logarithm; 2 gives bits.

    Returns:
        Sums for degree 1 to n, ``(n,)``; may be negative.

    Raises:
        TypeError: If ``table`` is not a table.
        ValueError: If it has more than 6 sources.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import information_by_degree, joint_table
        >>> pairs = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> information_by_degree(joint_table(pairs, pairs[:, 0] ^ pairs[:, 1]))
        tensor([0.5850, 0.4150], dtype=torch.float64)
    """
    check_table("information_by_degree", table, 1, MAX_SOURCES)
    check_base("information_by_degree", base)
    return informations_by_degree([table])[0] * (math.log(2) / math.log(base))


def informations_by_degree(tables: Sequence[JointRows], informative: Tensor | None = None) -> Tensor:
    """Return information_by_degree in bits of several tables of as many sources, ``(tables, n)``.

    Args:
        tables: Joint tables.
        informative: From :func:`informative_by_degree` of tables with the same sources, if it is known.
    """
    if informative is None:
        informative = informative_by_degree(tables)
    return informative - _by_degree(misinformative_terms, tables)


def informative_by_degree(tables: Sequence[JointRows]) -> Tensor:
    """Return the informative part of informations_by_degree, which depends on the sources alone."""
    return _by_degree(informative_terms, tables)


def _by_degree(terms_of: Callable[[Sequence[JointRows], Tensor], Tensor], tables: Sequence[JointRows]) -> Tensor:
    num_sources, sums = tables[0].num_sources, []
    codes, signs, degrees = _families(num_sources)
    # Weights of agreement, four numbers for each row and set of sources.
    for part in chunks(len(tables), max(len(table.rows) for table in tables) * 2**num_sources * 32):
        signed = terms_of(tables[part], codes)
        signed = signed * signs.to(signed)
        cumulative = signed.new_zeros(len(signed), num_sources).index_add(1, degrees.to(signed.device), signed)
        sums.append(cumulative.diff(prepend=cumulative.new_zeros(len(signed), 1)))
    return torch.cat(sums)


@functools.lru_cache(maxsize=MAX_SOURCES)
def _families(num_sources: int) -> tuple[Tensor, Tensor, Tensor]:
    """Up-sets of all families of sets of one size, with the signs of their redundancies and the size less 1."""
    families, signs, degrees = [], [], []
    with torch.inference_mode(False):
        for degree in range(1, num_sources + 1):
            codes, sign = torch.zeros(1, dtype=torch.long), -torch.ones(1, dtype=torch.float64)
            for chosen in combinations(range(num_sources), degree):
                code = up_set([sum(1 << source for source in chosen)], num_sources)
                codes, sign = torch.cat([codes, codes | code]), torch.cat([sign, -sign])
            families.append(codes[1:])
            signs.append(sign[1:])
            degrees.append(torch.full_like(codes[1:], degree - 1))
        return torch.cat(families), torch.cat(signs), torch.cat(degrees)


def representational_complexity(
    table: JointRows,
    *,
    method: Literal["auto", "exact", "clock"] = "auto",
    std_error: float = 0.005,
    max_draws: int = 1_000_000,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Mean degree of synergy of the information about the target.

    .. math:: C = \frac{1}{I(S;T)} \sum_\alpha m(\alpha) \Pi(\alpha), \qquad m(\alpha) = \min_{a \in \alpha} |a|

    with atoms by shared exclusions. C is 1 when every piece of information is in some source alone, and grows to n as
    more sources have to be seen together. Surprises of this measure: XOR has C = 1.415, not 2, and a target that copies
    one of two independent bits has C = 1.415, not 1.

    Args:
        table: Joint table: up to 6 sources for ``"exact"``, 2 to 16 for ``"clock"``.
        method: ``"exact"``; ``"clock"``, by sampling with exponential clocks; or ``"auto"``, exact up to 5 sources.
        std_error: Standard error of C at which ``"clock"`` stops.
        max_draws: Number of draws at which it stops in any case.
        generator: Randomness of ``"clock"``, on the table's device; seeded with 0 when ``None``.

    Returns:
        C as an :class:`~lightning_foresight.functional.Estimate`: NaN without information. ``std_error`` is that of the
        sampling of clocks, 0 for ``"exact"``; neither method corrects the plug-in bias, which ``saturation`` and a
        label-shuffled null show. ``exact`` is differentiable in the weights.

    Raises:
        TypeError: If ``table`` is not a table.
        ValueError: If it has too many sources for the method, or an argument is out of range.

    Source:
        Ehrlich, Schneider, Priesemann, Wibral & Makkeh 2023, "A measure of the complexity of neural representations
        based on partial information decomposition", arXiv:2209.10438.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import joint_table, representational_complexity
        >>> pairs = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> representational_complexity(joint_table(pairs, pairs[:, 0] ^ pairs[:, 1])).value
        tensor(1.4150, dtype=torch.float64)
    """
    owner = "representational_complexity"
    check_table(owner, table)
    check_choice(owner, "method", method, ("auto", "exact", "clock"))
    check_int(owner, "max_draws", max_draws, 16)
    if not std_error > 0:
        fail(owner, "std_error", std_error, "expected a number above 0.")
    if method == "auto":
        method = "exact" if table.num_sources < MAX_SOURCES else "clock"
    check_table(owner, table, *((1, MAX_SOURCES) if method == "exact" else (2, MAX_CLOCK_SOURCES)))
    num_samples = int(table.weights.sum()) if table.is_counted else 0
    if method == "exact":
        return make_estimate(
            mean_degree(information_by_degree(table)),
            num_samples=num_samples,
            saturation=counted_saturation(table, num_samples),
            kind="exact",
            method="exact",
        )
    present = table.weights > 0
    rows, p = table.rows[present], table.probabilities().detach()[present]
    target, num_targets = relabel(rows[:, -1])
    h_joint, h_sources = (group_entropy(*row_ids(columns), p) / math.log(2) for columns in (rows, rows[:, :-1]))
    information = _or_nan(h_sources + group_entropy(target, num_targets, p) / math.log(2) - h_joint)
    if information.isnan():
        return make_estimate(information, num_samples=num_samples, saturation=counted_saturation(table, num_samples))
    below, error, draws = sample_information_by_degree(
        rows[:, :-1],
        target,
        p,
        std_error=std_error * float(information),
        max_draws=max_draws,
        generator=generator or own_generator(rows.device),
    )
    return make_estimate(
        table.num_sources - below / information,
        std_error=error / information,
        num_samples=num_samples,
        saturation=counted_saturation(table, num_samples),
        method=f"clock ({draws} draws)",
    )


def mean_degree(by_degree: Tensor) -> Tensor:
    """Return C of sums of atoms by their degree, along the last axis; NaN without information."""
    degrees = torch.arange(1, by_degree.shape[-1] + 1, dtype=by_degree.dtype, device=by_degree.device)
    return (degrees * by_degree).sum(-1) / _or_nan(by_degree.sum(-1))


def _or_nan(information: Tensor) -> Tensor:
    """Keep rounding errors around 0 from being divided by."""
    return torch.where(information.abs() < _NO_INFORMATION, torch.nan, information)


def counted_saturation(table: JointRows, num_samples: int) -> Tensor:
    """Joint entropy of the table over the largest that its samples can show; 0 for a table of probabilities."""
    p = table.probabilities().detach()
    entropy = -torch.special.xlogy(p, p).sum()
    return entropy / math.log(max(2, num_samples)) if num_samples else torch.zeros_like(entropy)
