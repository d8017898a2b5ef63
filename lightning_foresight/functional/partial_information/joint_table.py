"""The joint table of sources and target: distinct rows with counts or probabilities."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_same_length, data, describe, fail, optional, takes
from lightning_foresight.functional.partial_information._row_ids import group_sum, row_ids


class JointRows(NamedTuple):
    """Rows ``(s_1, ..., s_k, t)`` of integer codes and how often each occurs.

    Attributes:
        rows: Integer codes, ``(m, k + 1)``, the target in the last column.
        weights: ``(m,)``, integer counts or floating-point probabilities; only their ratios matter.
    """

    rows: Tensor
    weights: Tensor

    @property
    def num_sources(self) -> int:
        """Number of source columns."""
        return self.rows.shape[1] - 1

    @property
    def sources(self) -> Tensor:
        """Codes of the sources, ``(m, k)``."""
        return self.rows[:, :-1]

    @property
    def target(self) -> Tensor:
        """Codes of the target, ``(m,)``."""
        return self.rows[:, -1]

    @property
    def is_counted(self) -> bool:
        """Whether the weights are counts, so that a number of samples is known."""
        return not self.weights.is_floating_point()

    def probabilities(self) -> Tensor:
        """Weights divided by their sum, in float64 (float32 on devices without it), differentiable in the weights."""
        weights = self.weights.to(float_dtype(self.weights.device))
        return weights / weights.sum()


def float_dtype(device: torch.device) -> torch.dtype:
    """Return the widest float of a device."""
    return torch.float32 if device.type == "mps" else torch.float64


@takes(sources=data, target=data, weights=optional(data))
def joint_table(
    sources: Tensor, target: Tensor, *, weights: Tensor | None = None, dtype: torch.dtype = torch.long
) -> JointRows:
    """Count how often each combination of source codes and target code occurs.

    Rows come sorted by their codes (from the first source to the target), so that the same samples in any order,
    batching or split over processes give the same table to the bit. Above 64 columns they are sorted by a 64-bit
    fingerprint instead, and two different rows share one with a probability below ``n^2 / 2^63``.

    Args:
        sources: Integer codes ``(n, k)``, one column a source (``(n,)`` for one source).
        target: Integer codes ``(n,)``.
        weights: Counts or probabilities of the samples, ``(n,)``; every sample counts once when ``None``. May require
            a gradient.
        dtype: Integer type of the rows; ``torch.uint8`` saves memory on layers of thousands of neurons.

    Returns:
        The distinct rows and their summed weights; rows of zero weight are kept out.

    Raises:
        TypeError: If codes are not integers.
        ValueError: If shapes do not fit, if there are no samples, or if a weight is negative or not finite.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import joint_table
        >>> sources = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [1, 1]])
        >>> table = joint_table(sources, sources[:, 0] ^ sources[:, 1])
        >>> table.rows.tolist(), table.weights.tolist()
        ([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]], [1, 1, 1, 2])
    """
    sources = sources[:, None] if sources.ndim == 1 else sources
    check_codes("joint_table", "sources", sources, 2)
    check_codes("joint_table", "target", target, 1)
    check_same_length("joint_table", "sources", sources, "target", target)
    if weights is None:
        weights = torch.ones(len(target), dtype=torch.long, device=sources.device)
    else:
        check_same_length("joint_table", "sources", sources, "weights", weights)
        _check_weights("joint_table", weights)
    rows = torch.cat([sources.to(dtype), target.to(dtype)[:, None]], 1)
    ids, num_rows = row_ids(rows)
    first = torch.full((num_rows,), len(rows), dtype=torch.long, device=rows.device)
    first = first.scatter_reduce(0, ids, torch.arange(len(rows), device=rows.device), "amin")
    totals = group_sum(ids, num_rows, weights)
    present = totals > 0
    return JointRows(rows[first][present], totals[present])


def check_table(owner: str, table: JointRows, min_sources: int = 1, max_sources: int | None = None) -> None:
    """Require a well-formed table with a number of sources that ``owner`` can handle."""
    if not isinstance(table, JointRows):
        got = describe(table) if isinstance(table, Tensor) else type(table).__name__
        raise TypeError(
            f"{owner}(table): got {got}; expected JointRows. Build it with joint_table(sources, target), or "
            "JointRows(rows, weights) from a distribution."
        )
    check_codes(owner, "table.rows", table.rows, 2)
    check_same_length(owner, "table.rows", table.rows, "table.weights", table.weights)
    _check_weights(owner, table.weights)
    count = table.num_sources
    if count < min_sources or (max_sources is not None and count > max_sources):
        most = "any number" if max_sources is None else str(max_sources)
        raise ValueError(
            f"{owner}(table): got {count} sources; expected from {min_sources} to {most}. Group neurons into fewer "
            "sources, take random subsets, or use shannon_invariants, which has no limit."
        )


def check_codes(owner: str, argument: str, codes: Tensor, ndim: int) -> None:
    """Require integer codes, ``(samples,)`` or ``(samples, sources)``."""
    if codes.is_floating_point() or codes.is_complex():
        raise TypeError(
            f"{owner}({argument}): got {describe(codes)}; expected integer codes. Quantise activations first, for "
            "instance with lightning_foresight.training.QuantizeActivations or torch.bucketize."
        )
    if codes.ndim != ndim or codes.shape[0] == 0:
        shape = "(samples, sources)" if ndim == 2 else "(samples,)"
        raise ValueError(
            f"{owner}({argument}): got {describe(codes)}; expected shape {shape} with at least one sample."
        )


def _check_weights(owner: str, weights: Tensor) -> None:
    detached = weights.detach()
    if weights.ndim != 1:
        raise ValueError(f"{owner}(weights): got {describe(weights)}; expected one weight for every row.")
    if not bool((torch.isfinite(detached) & (detached >= 0)).all()) or not bool(detached.sum() > 0):
        fail(owner, "weights", detached.min().item(), "expected finite weights of at least 0 that do not sum to 0.")
