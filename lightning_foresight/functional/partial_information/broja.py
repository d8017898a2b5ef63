"""The BROJA decomposition of two sources, for many pairs of sources at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional import _memory
from lightning_foresight.functional._checks import check_base, fail
from lightning_foresight.functional.partial_information._broja_solver import minimise
from lightning_foresight.functional.partial_information._row_ids import group_sum, relabel
from lightning_foresight.functional.partial_information.joint_table import JointRows, check_table


class BrojaResult(NamedTuple):
    """Atoms of two sources; scalars for a table of two sources, else one value for each pair, ``(pairs,)``.

    Attributes:
        redundancy: What both know, SI.
        unique_1: What only the first knows, UI.
        unique_2: What only the second knows.
        synergy: What only both together know, CI.
        gap: Certified: every atom is within this of the minimum's value.
        mutual_information: I(S1,S2;T), the sum of the atoms.
        pairs: Columns of the two sources, ``(pairs, 2)``.
    """

    redundancy: Tensor
    unique_1: Tensor
    unique_2: Tensor
    synergy: Tensor
    gap: Tensor
    mutual_information: Tensor
    pairs: Tensor

    @property
    def atoms(self) -> dict[str, Tensor]:
        """Atoms by antichain, as those of :func:`sx_pid`."""
        return {"{1}{2}": self.redundancy, "{1}": self.unique_1, "{2}": self.unique_2, "{1,2}": self.synergy}

    @property
    def representational_complexity(self) -> Tensor:
        """Mean degree of synergy of the atoms, 1 without and 2 with nothing but synergy."""
        return 1 + self.synergy / self.mutual_information


def broja_pid(
    table: JointRows, *, tol: float = 1e-7, pairs: Sequence[tuple[int, int]] | None = None, base: float = 2
) -> BrojaResult:
    r"""BROJA decomposition of the information that two sources have about the target.

    .. math:: UI_1 = \min_Q I_Q(S_1; T \mid S_2), \quad SI = I(S_1; T) - UI_1, \quad
        CI = I(S_1, S_2; T) - \min_Q I_Q(S_1, S_2; T)

    where Q runs over the distributions with the marginals of :math:`(S_1, T)` and :math:`(S_2, T)`. The minimum is
    found by an interior-point method that solves all pairs as one batch, and proved by a feasible point of the dual.
    Atoms are never negative (beyond ``gap``): XOR is 1 bit of synergy, a copied bit 1 bit of redundancy.

    Args:
        table: Joint table of at least 2 sources. Weights that require a gradient carry it to the atoms.
        tol: Gap in bits at which a pair is done.
        pairs: Pairs of columns; with more than 2 sources all pairs when ``None``.
        base: Base of the logarithm of the results; 2 gives bits.

    Returns:
        Atoms with their certified gap, which is above ``tol`` only where rounding errors end the search early.

    Raises:
        TypeError: If ``table`` is not a table.
        ValueError: If it has fewer than 2 sources, if a pair is not one of its columns, if ``tol`` is not above 0, or
            if a source has too many levels.

    Source:
        Bertschinger, Rauh, Olbrich, Jost & Ay 2014, "Quantifying unique information", arXiv:1311.2852.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import broja_pid, joint_table
        >>> bits = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> pid = broja_pid(joint_table(bits, bits[:, 0] & bits[:, 1]))
        >>> {key: round(float(value), 4) for key, value in pid.atoms.items()}
        {'{1}{2}': 0.3113, '{1}': 0.0, '{2}': 0.0, '{1,2}': 0.5}
    """
    check_table("broja_pid", table, 2)
    check_base("broja_pid", base)
    if not tol > 0:
        fail("broja_pid", "tol", tol, "expected a number above 0.")
    single = pairs is None and table.num_sources == 2
    columns = _check_pairs(pairs, table)
    relabelled = [relabel(column) for column in table.rows.unbind(1)]
    codes = torch.stack([ids for ids, _ in relabelled], 1)
    num_levels = max(size for _, size in relabelled[:-1])
    num_targets = relabelled[-1][1]
    # The normal equations of a pair are the largest thing held: (targets x levels) squared, a few times.
    bytes_per_pair = 32 * (num_targets * num_levels) ** 2
    if bytes_per_pair > 4 * _memory.MEMORY_BUDGET:
        raise ValueError(
            f"broja_pid(table): got sources of {num_levels} levels and {num_targets} target values, whose program does "
            f"not fit into {_memory.MEMORY_BUDGET >> 20} MiB; use fewer levels, or set LIGHTNING_FORESIGHT_MEMORY_MIB."
        )
    p = table.probabilities()
    shape = (num_targets, num_levels, num_levels)
    found = [
        _solve(codes, p, columns[part], shape, tol * math.log(2))
        for part in _memory.chunks(len(columns), bytes_per_pair)
    ]
    atoms = torch.cat(found, 1) / math.log(base)
    redundancy, unique_1, unique_2, synergy, gap, information = atoms[:, 0] if single else atoms
    return BrojaResult(redundancy, unique_1, unique_2, synergy, gap, information, columns)


def _solve(codes: Tensor, p: Tensor, columns: Tensor, shape: tuple[int, int, int], tol: float) -> Tensor:
    """Atoms, gap and mutual information of some pairs in nats, ``(6, pairs)``."""
    num_targets, levels, _ = shape
    cell = (codes[:, -1:] * levels + codes[:, columns[:, 0]]) * levels + codes[:, columns[:, 1]]  # (m, pairs)
    size = num_targets * levels * levels
    cell = cell + size * torch.arange(len(columns), device=cell.device)
    joint = group_sum(cell.flatten(), size * len(columns), p[:, None].expand(cell.shape).flatten())
    joint = joint.view(len(columns), *shape)
    p_ty, p_tz = joint.sum(3), joint.sum(2)
    minimum = minimise(p_ty.detach(), p_tz.detach(), tol)
    lower = (p_ty * minimum.a).sum((1, 2)) + (p_tz * minimum.b).sum((1, 2))
    # The dual is linear in p with a and b as its slopes, so that its gradient is that of the minimum.
    gap = minimum.upper - minimum.lower
    h_target = _entropy(p_ty.sum(2), 1)
    least = h_target + lower + gap / 2
    i_1, i_2 = (h_target + _entropy(p_s.sum(1), 1) - _entropy(p_s, (1, 2)) for p_s in (p_ty, p_tz))
    information = h_target + _entropy(joint.sum(1), (1, 2)) - _entropy(joint, (1, 2, 3))
    return torch.stack([i_1 + i_2 - least, least - i_2, least - i_1, information - least, gap, information])


def _entropy(p: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    # The inner where keeps cells of zero from an infinite slope.
    return -torch.where(p > 0, p * torch.where(p > 0, p, 1).log(), 0).sum(dim)


def _check_pairs(pairs: Sequence[tuple[int, int]] | None, table: JointRows) -> Tensor:
    count = table.num_sources
    if pairs is None:
        return torch.triu_indices(count, count, 1, device=table.rows.device).T
    columns = torch.as_tensor(pairs, device=table.rows.device)
    fits = columns.ndim == 2 and columns.shape[1] == 2 and len(columns) > 0 and not columns.is_floating_point()
    if not fits or bool((columns < 0).any()) or bool((columns >= count).any()):
        fail("broja_pid", "pairs", pairs, f"expected pairs of columns from 0 to {count - 1}, such as [(0, 1), (0, 2)].")
    return columns
