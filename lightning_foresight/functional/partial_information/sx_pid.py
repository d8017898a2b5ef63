"""Partial information decomposition by shared exclusions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_choice
from lightning_foresight.functional.partial_information._agreement import agreement_weights
from lightning_foresight.functional.partial_information._row_ids import group_sum, relabel, row_ids
from lightning_foresight.functional.partial_information._unions import log_unions, plan_rows, sum_log_unions
from lightning_foresight.functional.partial_information.joint_table import JointRows, check_table, float_dtype
from lightning_foresight.functional.partial_information.lattice import (
    MAX_SOURCES,
    antichain_code,
    antichain_key,
    lattice,
)

_MAX_ROW_ATOMS = 2**28  # 2 GiB


class Atoms(Mapping[str, Tensor]):
    """Atoms by antichain, ``"{1}{2,3}"`` to bits; read-only, in the order of the lattice.

    Args:
        values: Atoms along the last axis.
        num_sources: Number of sources.
    """

    def __init__(self, values: Tensor, num_sources: int) -> None:
        self.values_tensor = values
        self._num_sources = num_sources
        self._codes = lattice(num_sources).codes

    def __getitem__(self, key: str) -> Tensor:
        position = torch.searchsorted(self._codes, antichain_code(key, self._num_sources))
        return self.values_tensor[..., int(position)]

    def __iter__(self) -> Iterator[str]:
        if self._num_sources == MAX_SOURCES:  # millions of keys: made one by one
            return (antichain_key(int(code), self._num_sources) for code in self._codes)
        return iter(_all_keys(self._num_sources))

    def __len__(self) -> int:
        return len(self._codes)

    def __repr__(self) -> str:
        if self.values_tensor.ndim > 1 or len(self) > 18:
            return f"Atoms({len(self)} antichains, values of shape {tuple(self.values_tensor.shape)})"
        return "Atoms({" + ", ".join(f"{key!r}: {float(value):.6g}" for key, value in self.items()) + "})"


@lru_cache(maxsize=8)
def _all_keys(num_sources: int) -> list[str]:
    return [antichain_key(code, num_sources) for code in lattice(num_sources).codes.tolist()]


class SxPIDResult(NamedTuple):
    """Atoms of a decomposition by shared exclusions.

    Attributes:
        num_sources: Number of sources.
        average: Average atoms along the last axis: ``(antichains,)``, with one row for each target value with
            ``by="target"``, and one for each row of the table with ``by="row"``.
        informative_part: Informative atoms, likewise; ``None`` without ``parts=True``.
        misinformative_part: Misinformative atoms, likewise.
        targets: The target values of the rows of ``average`` with ``by="target"``.
        rows: The table's rows of positive weight with ``by="row"``.
    """

    num_sources: int
    average: Tensor
    informative_part: Tensor | None = None
    misinformative_part: Tensor | None = None
    targets: Tensor | None = None
    rows: Tensor | None = None

    @property
    def atoms(self) -> Atoms:
        """Average atoms by antichain, such as ``atoms["{1}{2,3}"]``; may be negative."""
        return Atoms(self.average, self.num_sources)

    @property
    def informative(self) -> Atoms:
        """Informative atoms by antichain, never negative."""
        return Atoms(self._part(self.informative_part), self.num_sources)

    @property
    def misinformative(self) -> Atoms:
        """Misinformative atoms by antichain, never negative."""
        return Atoms(self._part(self.misinformative_part), self.num_sources)

    @property
    def mutual_information(self) -> Tensor:
        """Sum of the atoms: I(S;T), or its part for a target value or a row."""
        return self.average.sum(-1)

    @property
    def degree_of_synergy_atoms(self) -> Tensor:
        """Sums of the average atoms of each degree of synergy, from 1 to n, along the last axis."""
        degree = lattice(self.num_sources).degree_of_synergy().to(self.average.device) - 1
        sums = self.average.new_zeros(*self.average.shape[:-1], self.num_sources)
        return sums.index_add(-1, degree, self.average)

    @property
    def representational_complexity(self) -> Tensor:
        """Mean degree of synergy of the atoms, ``sum(m * atom) / I``; NaN when nothing is known of the target."""
        by_degree = self.degree_of_synergy_atoms
        return by_degree @ by_degree.new_tensor(range(1, self.num_sources + 1)) / by_degree.sum(-1)

    def _part(self, part: Tensor | None) -> Tensor:
        if part is None:
            raise ValueError("sx_pid(parts=False): the informative and misinformative parts need sx_pid(parts=True).")
        return part


def sx_pid(
    table: JointRows, *, by: Literal["all", "target", "row"] = "all", parts: bool = False, base: float = 2
) -> SxPIDResult:
    r"""Partial information decomposition by shared exclusions, for 1 to 6 sources.

    The redundancy of an antichain :math:`\alpha` at a row :math:`(s, t)` is the information in learning that one of its
    sets agrees with :math:`s`, with :math:`E_a = \{s' : s'_a = s_a\}`:

    .. math:: i_\cap(\alpha; s, t) = \log \frac{P(\bigcup_{a \in \alpha} E_a \mid t)}{P(\bigcup_{a \in \alpha} E_a)}
        = \sum_{\beta \preceq \alpha} \pi(\beta; s, t)

    and the atoms :math:`\Pi` are averages of :math:`\pi`. The informative part holds :math:`-\log P(\cup E_a)`
    alone, the misinformative part :math:`-\log P(\cup E_a \mid t)`; atoms are their difference and may be negative: XOR
    has -0.585 bits of redundancy. 16,982 distinct rows of 5 sources take under a second on one core; 6 sources have
    7,828,352 atoms.

    Args:
        table: Joint table of 1 to 6 sources and the target. Weights that require a gradient carry it to the atoms.
        by: ``"all"`` averages over the table, ``"target"`` over :math:`p(s \mid t)` for each target value, and
            ``"row"`` keeps rows apart.
        parts: Whether to compute the informative and misinformative atoms as well.
        base: Base of the logarithm; 2 gives bits.

    Returns:
        The atoms, as a tensor and by antichain.

    Raises:
        TypeError: If ``table`` is not a table.
        ValueError: If it has more than 6 sources, or an argument is not known.

    Source:
        Makkeh, Gutknecht & Wibral 2021, "Introducing a differentiable measure of pointwise shared information",
        arXiv:2002.03356.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import joint_table, sx_pid
        >>> sources = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> sx_pid(joint_table(sources, sources[:, 0] ^ sources[:, 1])).atoms
        Atoms({'{1,2}': 0.415037, '{2}': 0.584963, '{1}': 0.584963, '{1}{2}': -0.584963})
    """
    check_table("sx_pid", table, 1, MAX_SOURCES)
    check_choice("sx_pid", "by", by, ("all", "target", "row"))
    check_base("sx_pid", base)
    structure = lattice(table.num_sources)
    if by == "row" and len(table.rows) * len(structure) > _MAX_ROW_ATOMS:
        raise ValueError(
            f"sx_pid(by='row'): {len(table.rows)} rows of {len(structure)} atoms do not fit; expected at most "
            f"{_MAX_ROW_ATOMS} in all. Pass fewer rows or sources, or by='target'."
        )
    terms = shared_exclusions(table, structure.codes, by)
    scale = math.log(2) / math.log(base)
    informative = misinformative = None
    if parts:
        both = structure.moebius(torch.cat([terms.informative, terms.misinformative])) * scale
        informative, misinformative = (part[0] if by == "all" else part for part in both.chunk(2))
        average = informative - misinformative
    else:
        average = structure.moebius(terms.informative - terms.misinformative) * scale
        average = average[0] if by == "all" else average
    return SxPIDResult(table.num_sources, average, informative, misinformative, terms.targets, terms.rows)


class SharedExclusions(NamedTuple):
    """Cumulative terms of antichains, ``(outputs, antichains)``, in bits."""

    informative: Tensor
    misinformative: Tensor
    targets: Tensor | None = None
    rows: Tensor | None = None


def shared_exclusions(table: JointRows, codes: Tensor, by: str = "all") -> SharedExclusions:
    """Redundancies of antichains, given as up-sets; see :class:`Lattice`."""
    weights = table.weights.to(float_dtype(table.weights.device))
    present = weights.detach() > 0
    weights, rows, codes = weights[present], table.rows[present], codes.to(table.rows.device)
    if not table.is_counted:
        weights = weights / weights.detach().min()  # no union below 1, so that their products cannot underflow
    (target, num_targets), total = relabel(rows[:, -1]), weights.sum()
    of_target = group_sum(target, num_targets, weights)[target]
    # Without the target, rows that differ in it alone are one: often half as many.
    state, num_states = row_ids(rows[:, :-1])
    states = rows.new_empty(num_states, rows.shape[1] - 1).index_put((state,), rows[:, :-1])
    of_state = group_sum(state, num_states, weights)
    everyone = agreement_weights(states, of_state)
    same_target = agreement_weights(rows[:, :-1], weights, given=target)
    if by == "row":
        informative = torch.log2(total) - log_unions(everyone, codes)[state]
        return SharedExclusions(informative, torch.log2(of_target)[:, None] - log_unions(same_target, codes), rows=rows)
    shares = weights / (total if by == "all" else of_target)
    outputs = target if by == "target" else torch.zeros_like(target)
    seen_given = average_log_unions(same_target, codes, shares, outputs)
    if by == "all":
        seen = average_log_unions(everyone, codes, of_state / total, outputs[:num_states])
    else:
        seen = average_log_unions(everyone[:, state], codes, shares, outputs)
    given = group_sum(outputs, len(seen), shares * torch.log2(of_target))[:, None]
    targets = torch.unique(rows[:, -1]) if by == "target" else None
    return SharedExclusions(torch.log2(total) - seen, given - seen_given, targets)


def average_log_unions(agreement: Tensor, codes: Tensor, shares: Tensor, outputs: Tensor) -> Tensor:
    """Logarithms of unions, averaged over the rows of each output."""
    num_outputs = int(outputs.max()) + 1
    if shares.requires_grad:
        into = shares.new_zeros(num_outputs, len(shares)).scatter(0, outputs[None], shares[None])
        return into @ log_unions(agreement, codes)
    largest = float(agreement.sum(0).max())
    return sum_log_unions(agreement, codes, plan_rows(shares, outputs, num_outputs, largest))
