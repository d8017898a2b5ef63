"""Shannon invariants: redundancy and vulnerability of any number of sources."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_choice, fail
from lightning_foresight.functional.discrete_entropy import CORRECTIONS
from lightning_foresight.functional.partial_information._column_entropies import column_entropies
from lightning_foresight.functional.partial_information._leave_one_out import LeaveOneOut, group_entropy
from lightning_foresight.functional.partial_information._row_ids import MAX_EXACT_COLUMNS, relabel
from lightning_foresight.functional.partial_information.joint_table import JointRows, check_table, float_dtype


class ShannonInvariantsResult(NamedTuple):
    """Shannon invariants of sources and target; informations and entropies in units of the base.

    Attributes:
        redundancy: Average degree of redundancy r: in how many sources alone a bit about the target is found.
        vulnerability: Average degree of vulnerability v: how many sources cannot be lost without losing a bit.
        mutual_information: I(S;T) of all sources together.
        per_source: ``I(S_i;T)``, ``(n,)``.
        all_but: ``I(S_-i;T)`` of all sources but one, ``(n,)``.
        entropy: H(S).
        entropy_redundancy: ``sum_i H(S_i) / H(S)``.
        entropy_vulnerability: ``sum_i H(S_i|S_-i) / H(S)``.
        redundancy_minus_synergy: ``sum_i I(S_i;T) - I(S;T)``; positive means redundancy (RSI).
        dual_redundancy_minus_synergy: ``sum_i I(S_i;T|S_-i) - I(S;T)``.
        saturation: H(S,T) over the logarithm of the number of samples, the largest value they can express; near 1
            nearly every row is seen once and v is near 0 whatever the layer does. 0 for a table of probabilities.
    """

    redundancy: Tensor
    vulnerability: Tensor
    mutual_information: Tensor
    per_source: Tensor
    all_but: Tensor
    entropy: Tensor
    entropy_redundancy: Tensor
    entropy_vulnerability: Tensor
    redundancy_minus_synergy: Tensor
    dual_redundancy_minus_synergy: Tensor
    saturation: Tensor


def shannon_invariants(table: JointRows, *, correction: str = "none", base: float = 2) -> ShannonInvariantsResult:
    r"""Degrees of redundancy and vulnerability, averages over the atoms that any decomposition agrees on.

    .. math:: r = \frac{\sum_i I(S_i;T)}{I(S;T)}, \qquad v = \frac{\sum_i I(S_i;T \mid S_{-i})}{I(S;T)}
        = \frac{n I(S;T) - \sum_i I(S_{-i};T)}{I(S;T)}

    and the same for the entropy of the sources. XOR has r = 0 and v = 2; a copied bit r = n and v = 0. Differentiable
    in the weights. Up to 64 sources rows are compared exactly; above, by 64-bit fingerprints, which take rows of
    different codes for one with a probability below one in a million for any layer that fits into memory.

    Args:
        table: Joint table with any number of sources. ``joint_table(..., dtype=torch.uint8)`` saves memory and time on
            wide layers.
        correction: Correction of the bias of every entropy, a name that
            :func:`~lightning_foresight.functional.discrete_entropy` knows; for counts of up to 64 sources.
            Corrected degrees may leave the range of the true ones.
        base: Base of the logarithm; 2 gives bits.

    Returns:
        The invariants. Ratios are NaN where their denominator is 0.

    Raises:
        TypeError: If ``table`` is not a table.
        ValueError: If its shapes or weights do not fit, or the correction is not known or not possible.

    Source:
        Gutknecht, Ehrlich, Makkeh & Wibral 2025, "Shannon invariants: a scalable approach to information
        decomposition", arXiv:2504.15779.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import joint_table, shannon_invariants
        >>> sources = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> result = shannon_invariants(joint_table(sources, sources[:, 0] ^ sources[:, 1]))
        >>> float(result.redundancy), float(result.vulnerability)
        (0.0, 2.0)
    """
    check_table("shannon_invariants", table)
    check_base("shannon_invariants", base)
    _check_correction(correction, table)
    weights = table.weights.to(float_dtype(table.weights.device))
    present = weights.detach() > 0
    rows, weights = (table.rows, weights) if bool(present.all()) else (table.rows[present], weights[present])
    p, num_sources = weights / weights.sum() if correction == "none" else weights, table.num_sources
    target = relabel(rows[:, -1])
    h_target = group_entropy(*target, p, correction)
    h_source, h_source_target = column_entropies(rows[:, :-1], rows[:, -1], weights, correction)
    leave_one_out = LeaveOneOut(rows[:, :-1])
    h_all, h_all_but = leave_one_out.entropies(p, correction=correction)
    h_joint, h_joint_but = leave_one_out.entropies(p, target, correction)
    plug_in = h_joint if correction == "none" else leave_one_out.entropies(weights / weights.sum(), target)[0]
    information = h_all + h_target - h_joint
    per_source = h_source + h_target - h_source_target
    all_but = h_all_but + h_target - h_joint_but
    lost = num_sources * information - all_but.sum()
    # An information of rounding errors alone is none: a ratio of two such numbers would look like a result.
    nothing = information.abs() < 1e-12
    known = torch.where(nothing, torch.nan, information)
    unit = math.log(base)
    log_samples = math.log(max(2, int(table.weights.sum()))) if table.is_counted else math.inf
    return ShannonInvariantsResult(
        per_source.sum() / known,
        lost / known,
        information / unit,
        per_source / unit,
        all_but / unit,
        h_all / unit,
        h_source.sum() / h_all,
        (num_sources * h_all - h_all_but.sum()) / h_all,
        (per_source.sum() - information) / unit,
        (lost - information) / unit,
        plug_in.detach() / log_samples,
    )


def _check_correction(correction: str, table: JointRows) -> None:
    owner = "shannon_invariants"
    check_choice(owner, "correction", correction, CORRECTIONS)
    if correction == "none":
        return
    if not table.is_counted:
        fail(owner, "correction", correction, "a bias is corrected from counts, and this table holds probabilities.")
    if table.num_sources > MAX_EXACT_COLUMNS:
        fail(
            owner,
            "correction",
            correction,
            f"got {table.num_sources} sources; a correction needs the counts of every subset, which are kept for up to "
            f"{MAX_EXACT_COLUMNS}. Take groups or random sets of neurons.",
        )
