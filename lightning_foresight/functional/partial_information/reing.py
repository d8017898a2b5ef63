"""Information of every set of sources, and how it grows with the size of the set."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base
from lightning_foresight.functional.partial_information._agreement import subset_ids
from lightning_foresight.functional.partial_information._leave_one_out import group_entropy
from lightning_foresight.functional.partial_information._row_ids import relabel
from lightning_foresight.functional.partial_information.joint_table import JointRows, check_table
from lightning_foresight.functional.partial_information.lattice import sets_by_size

MAX_SUBSET_SOURCES = 16


def subset_mutual_information(table: JointRows, *, base: float = 2) -> dict[str, Tensor]:
    r"""Mutual information of every set of sources with the target, :math:`I(S_a; T)`.

    Args:
        table: Joint table of up to 16 sources; differentiable in the weights.
        base: Base of the logarithm; 2 gives bits.

    Returns:
        ``"{1,3}"`` to a scalar; sources count from 1, sets come by size and then in order.

    Raises:
        TypeError: If ``table`` is not a table.
        ValueError: If it has more than 16 sources.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import joint_table, subset_mutual_information
        >>> pairs = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> information = subset_mutual_information(joint_table(pairs, pairs[:, 0] ^ pairs[:, 1]))
        >>> {key: round(float(value), 6) for key, value in information.items()}
        {'{1}': 0.0, '{2}': 0.0, '{1,2}': 1.0}
    """
    check_base("subset_mutual_information", base)
    information = _by_mask("subset_mutual_information", table) / math.log(base)

    def key(mask: int) -> str:
        return "{" + ",".join(str(i + 1) for i in range(table.num_sources) if mask >> i & 1) + "}"

    return {key(mask): information[mask] for mask in sets_by_size(table.num_sources)}


class ReingResult(NamedTuple):
    """Information by the number of sources, after Reing et al.

    Attributes:
        conditional_entropies: C_0 to C_n, the mean of H(T|S_a) over all sets of k sources, ``(n + 1,)``.
        differences: C(k-1||k) = C_{k-1} - C_k for k from 1 to n, what one source more adds, ``(n,)``.
        complexity: Mean order of the differences, ``sum_k k C(k-1||k) / I`` with all orders from 1 to n.
        complexity_nninfo: The same as nninfo computes it, ``sum_{k=1}^{n-1} k C(k||k+1) / sum_{k=1}^{n-1} C(k||k+1)``,
            without the information of single sources: one lower for synergy alone.
    """

    conditional_entropies: Tensor
    differences: Tensor
    complexity: Tensor
    complexity_nninfo: Tensor


def reing(table: JointRows, *, base: float = 2) -> ReingResult:
    r"""Differences of the mean information of k and of k - 1 sources, and their mean order.

    .. math:: C(k-1 \| k) = C_{k-1} - C_k, \qquad C_k = \operatorname{mean}_{|a| = k} H(T \mid S_a)

    Args:
        table: Joint table of up to 16 sources; differentiable in the weights.
        base: Base of the logarithm; 2 gives bits.

    Returns:
        Conditional entropies, differences and both complexities; a complexity is NaN where it has nothing to average.

    Raises:
        TypeError: If ``table`` is not a table.
        ValueError: If it has more than 16 sources.

    Source:
        Reing, Ver Steeg & Galstyan 2021, "Discovering higher-order interactions through neural information
        decomposition"; nninfo's variant: Ehrlich et al. 2023, arXiv:2209.10438.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import joint_table, reing
        >>> pairs = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> result = reing(joint_table(pairs, pairs[:, 0] ^ pairs[:, 1]))
        >>> result.differences, float(result.complexity), float(result.complexity_nninfo)
        (tensor([0.0000, 1.0000], dtype=torch.float64), 2.0, 1.0)
    """
    check_base("reing", base)
    information = _by_mask("reing", table) / math.log(base)
    sizes = torch.tensor([mask.bit_count() for mask in range(len(information))], device=information.device)
    num_sources = table.num_sources
    totals = information.new_zeros(num_sources + 1).index_add(0, sizes, information)
    means = totals / torch.bincount(sizes)
    h_target = group_entropy(*relabel(table.target), table.probabilities()) / math.log(base)
    order = torch.arange(1, num_sources + 1, dtype=means.dtype, device=means.device)
    gains = means.diff()
    # Rounding errors are no information to take a mean order of.
    gains_known = torch.where(gains.abs() < 1e-12, 0, gains)
    return ReingResult(
        h_target - means,
        gains,
        (order * gains).sum() / gains_known.sum(),
        (order[:-1] * gains[1:]).sum() / gains_known[1:].sum(),
    )


def _by_mask(owner: str, table: JointRows) -> Tensor:
    """Information in nats of every set, by its bit mask, ``(2^n,)``."""
    check_table(owner, table, 1, MAX_SUBSET_SOURCES)
    present = table.weights.detach() > 0
    rows, p = table.rows[present], table.probabilities()[present]
    target, num_targets = relabel(rows[:, -1])
    h_target = group_entropy(target, num_targets, p)
    information: list[Tensor] = [h_target] * 2**table.num_sources
    for mask, ids, size in subset_ids(rows[:, :-1]):
        together, joint_size = relabel(ids * num_targets + target)
        information[mask] = group_entropy(ids, size, p) + h_target - group_entropy(together, joint_size, p)
    return torch.stack(information)
