"""How far several variables are from independence: total correlation and its kin."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from lightning_foresight.functional._checks import check_base
from lightning_foresight.functional.partial_information._column_entropies import column_entropies
from lightning_foresight.functional.partial_information._leave_one_out import LeaveOneOut
from lightning_foresight.functional.partial_information.joint_table import JointRows, check_table, float_dtype


class _Entropies(NamedTuple):
    singles: Tensor  # (variables,)
    all_but: Tensor  # (variables,)
    joint: Tensor


def _entropies(owner: str, table: JointRows, target: bool, base: float) -> _Entropies:
    check_table(owner, table)
    check_base(owner, base)
    weights = table.weights.to(float_dtype(table.weights.device))
    present = weights.detach() > 0
    weights, rows = weights[present], table.rows[present]
    columns = rows if target else rows[:, :-1]
    p = weights / weights.sum()
    joint, all_but = LeaveOneOut(columns).entropies(p)
    singles, _ = column_entropies(columns, rows[:, -1], weights)
    unit = math.log(base)
    return _Entropies(singles / unit, all_but / unit, joint / unit)


def total_correlation(table: JointRows, *, target: bool = False, base: float = 2) -> Tensor:
    r"""Total correlation of the sources, what they say more than their joint entropy.

    .. math:: TC = \sum_i H(X_i) - H(X)

    Args:
        table: Joint table with any number of sources; differentiable in the weights up to 64 sources.
        target: Whether the target is one of the variables.
        base: Base of the logarithm; 2 gives bits.

    Returns:
        A scalar of at least 0, and 0 for independent variables alone.

    Raises:
        TypeError: If ``table`` is not a table.
        ValueError: If its shapes or weights do not fit.

    Source:
        Watanabe 1960, "Information theoretical analysis of multivariate correlation".

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import joint_table, total_correlation
        >>> bit = torch.tensor([0, 1])
        >>> total_correlation(joint_table(torch.stack([bit, bit, bit], 1), bit))
        tensor(2., dtype=torch.float64)
    """
    h = _entropies("total_correlation", table, target, base)
    return h.singles.sum() - h.joint


def dual_total_correlation(table: JointRows, *, target: bool = False, base: float = 2) -> Tensor:
    r"""Dual total correlation of the sources, what is shared among at least two of them.

    .. math:: DTC = H(X) - \sum_i H(X_i \mid X_{-i}) = \sum_i H(X_{-i}) - (n - 1) H(X)

    Args:
        table: Joint table with any number of sources; differentiable in the weights up to 64 sources.
        target: Whether the target is one of the variables.
        base: Base of the logarithm; 2 gives bits.

    Returns:
        A scalar of at least 0.

    Raises:
        TypeError: If ``table`` is not a table.
        ValueError: If its shapes or weights do not fit.

    Source:
        Han 1978, "Nonnegative entropy measures of multivariate symmetric correlations".

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import dual_total_correlation, joint_table
        >>> bit = torch.tensor([0, 1])
        >>> dual_total_correlation(joint_table(torch.stack([bit, bit, bit], 1), bit))
        tensor(1., dtype=torch.float64)
    """
    h = _entropies("dual_total_correlation", table, target, base)
    return h.all_but.sum() - (len(h.singles) - 1) * h.joint


def o_information(table: JointRows, *, target: bool = False, base: float = 2) -> Tensor:
    r"""O-information of the sources: positive when redundancy prevails among them, negative for synergy.

    .. math:: \Omega = TC - DTC

    Discrete values do not need the Gaussian copula, which has the wrong sign on saturated units.

    Args:
        table: Joint table with any number of sources; differentiable in the weights up to 64 sources.
        target: Whether the target is one of the variables.
        base: Base of the logarithm; 2 gives bits.

    Returns:
        A scalar.

    Raises:
        TypeError: If ``table`` is not a table.
        ValueError: If its shapes or weights do not fit.

    Source:
        Rosas, Mediano, Gastpar & Jensen 2019, "Quantifying high-order interdependencies via multivariate extensions of
        the mutual information", arXiv:1902.11239.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import joint_table, o_information
        >>> pairs = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> o_information(joint_table(pairs, pairs[:, 0] ^ pairs[:, 1]), target=True)
        tensor(-1., dtype=torch.float64)
    """
    h = _entropies("o_information", table, target, base)
    return h.singles.sum() - h.all_but.sum() + (len(h.singles) - 2) * h.joint


def s_information(table: JointRows, *, target: bool = False, base: float = 2) -> Tensor:
    r"""S-information of the sources, the sum of what each shares with all others.

    .. math:: \Sigma = TC + DTC = \sum_i I(X_i; X_{-i})

    Args:
        table: Joint table with any number of sources; differentiable in the weights up to 64 sources.
        target: Whether the target is one of the variables.
        base: Base of the logarithm; 2 gives bits.

    Returns:
        A scalar of at least 0.

    Raises:
        TypeError: If ``table`` is not a table.
        ValueError: If its shapes or weights do not fit.

    Source:
        Rosas, Mediano, Gastpar & Jensen 2019, arXiv:1902.11239.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import joint_table, s_information
        >>> pairs = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> s_information(joint_table(pairs, pairs[:, 0] ^ pairs[:, 1]), target=True)
        tensor(3., dtype=torch.float64)
    """
    h = _entropies("s_information", table, target, base)
    return h.singles.sum() + h.all_but.sum() - len(h.singles) * h.joint
