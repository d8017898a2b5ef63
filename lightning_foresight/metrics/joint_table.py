"""Base of the metrics on one joint table of sources and target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_foresight.functional._checks import check_int, check_same_length, data, describe, fail, takes
from lightning_foresight.functional._repr import ShowsArguments
from lightning_foresight.functional.partial_information import JointRows, joint_table

_MAX_CELLS = 2**22
_MERGE_ENTRIES = 2**22


class JointTable(ShowsArguments, Metric):
    """Counts how often each combination of source codes and target code occurs, over batches and ranks.

    With ``num_sources``, ``levels`` and ``num_targets`` given and at most 4 million cells, the counts are one dense
    tensor that ranks add up. Otherwise rows are kept, equal ones merged from time to time, and gathered from all ranks.
    Either way the table is that of all samples at once, to the bit: rows come sorted.

    A measure of one's own is a subclass with a ``compute`` that reads ``self.table()``.

    Args:
        num_sources: Number of source columns.
        levels: Number of codes of the sources, from 0; one number, or one for each source.
        num_targets: Number of target values, from 0.
        dtype: Integer type of rows that are kept; ``torch.uint8`` suits layers of thousands of neurons.
        kwargs: Passed on to :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> from lightning_foresight.metrics import JointTable
        >>> class NumStates(JointTable):
        ...     def compute(self):
        ...         return len(self.table().rows)
        >>> metric = NumStates()
        >>> metric.update(torch.tensor([[0, 0], [0, 1], [0, 0]]), torch.tensor([0, 1, 0]))
        >>> metric.compute()
        2
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False
    counts: Tensor
    codes: list[Tensor]
    weights: list[Tensor]
    num_columns: Tensor

    def __init__(
        self,
        num_sources: int | None = None,
        levels: int | Sequence[int] | None = None,
        num_targets: int | None = None,
        *,
        dtype: torch.dtype = torch.long,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.row_dtype = dtype
        self.shape = self._shape(num_sources, levels, num_targets)
        if self.shape is not None:
            self.add_state("counts", torch.zeros(math.prod(self.shape), dtype=torch.long), dist_reduce_fx="sum")
        else:
            # Flat, so that a rank without samples has the same number of axes as the others.
            self.add_state("codes", [], dist_reduce_fx="cat")
            self.add_state("weights", [], dist_reduce_fx="cat")
            self.add_state("num_columns", torch.tensor(0), dist_reduce_fx="max")
            self._pending = 0

    @takes(sources=data, target=data)
    def update(self, sources: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            sources: Integer codes ``(n, k)``.
            target: Integer codes ``(n,)``.
        """
        owner = f"{type(self).__name__}.update"
        for name, codes, ndim in (("sources", sources, 2), ("target", target, 1)):
            if codes.is_floating_point() or codes.ndim != ndim:
                shape = "(samples, sources)" if ndim == 2 else "(samples,)"
                raise ValueError(f"{owner}({name}): got {describe(codes)}; expected integer codes of shape {shape}.")
        check_same_length(owner, "sources", sources, "target", target)
        if self.shape is not None:
            self._count(owner, sources, target)
            return
        rows = torch.cat([sources.to(self.row_dtype), target.to(self.row_dtype)[:, None]], 1)
        if self.codes and int(self.num_columns) != rows.shape[1]:
            fail(owner, "sources", sources.shape[1], f"expected {int(self.num_columns) - 1} sources, as before.")
        self.num_columns = torch.full_like(self.num_columns, rows.shape[1])
        self.codes.append(rows.flatten())
        self.weights.append(torch.ones(len(rows), dtype=torch.long, device=rows.device))
        self._pending += rows.numel()
        # Merging when the rows have doubled keeps its cost in proportion to the samples seen.
        if self._pending > _MERGE_ENTRIES and self._pending > sum(map(torch.numel, self.codes)) // 2:
            self._merge()

    def table(self) -> JointRows:
        """Return the joint table of all samples so far.

        Raises:
            ValueError: If there are none.
        """
        if self.shape is not None:
            cells = self.counts.nonzero()[:, 0]
            self._check_samples(len(cells))
            rows = torch.stack(torch.unravel_index(cells, self.shape), 1).to(self.row_dtype)
            return JointRows(rows, self.counts[cells])
        self._check_samples(int(self.num_columns))
        states = self.codes, self.weights
        codes, weights = (torch.cat(state) if isinstance(state, list) else state for state in states)
        rows = codes.view(-1, int(self.num_columns))
        return joint_table(rows[:, :-1], rows[:, -1], weights=weights, dtype=self.row_dtype)

    def reset(self) -> None:
        """Forget all samples."""
        super().reset()
        self._pending = 0

    def _check_samples(self, seen: int) -> None:
        if not seen:
            raise ValueError(
                f"{type(self).__name__}.compute(): there are no samples yet; call update(sources, target) first."
            )

    def _count(self, owner: str, sources: Tensor, target: Tensor) -> None:
        assert self.shape is not None
        if sources.shape[1] != len(self.shape) - 1:
            fail(owner, "sources", sources.shape[1], f"expected {len(self.shape) - 1} sources, as in num_sources.")
        rows = torch.cat([sources.long(), target.long()[:, None]], 1)
        sizes = torch.tensor(self.shape, device=rows.device)
        if not bool(((rows >= 0) & (rows < sizes)).all()):
            seen = f"{rows.amin(0).tolist()} to {rows.amax(0).tolist()}"
            fail(owner, "sources, target", seen, f"expected codes from 0 to below {list(self.shape)}.")
        strides = sizes.flip(0).cumprod(0).flip(0) // sizes
        self.counts += torch.bincount((rows * strides).sum(1), minlength=len(self.counts))

    def _merge(self) -> None:
        table = self.table()
        self.codes, self.weights = [table.rows.flatten()], [table.weights]
        self._pending = 0

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        if self.shape is None and not self.codes:
            self.codes = [torch.empty(0, dtype=self.row_dtype, device=self.device)]
            self.weights = [torch.empty(0, dtype=torch.long, device=self.device)]
        super()._sync_dist(*args, **kwargs)

    def _shape(
        self, num_sources: int | None, levels: int | Sequence[int] | None, num_targets: int | None
    ) -> tuple[int, ...] | None:
        """Sizes of the dense table, or ``None`` when it is not known or too large."""
        owner = type(self).__name__
        if num_sources is not None:
            check_int(owner, "num_sources", num_sources, 1)
        if num_targets is not None:
            check_int(owner, "num_targets", num_targets, 1)
        if levels is None or num_targets is None or (num_sources is None and isinstance(levels, int)):
            return None
        sizes = [levels] * (num_sources or 1) if isinstance(levels, int) else list(levels)
        for size in sizes:
            check_int(owner, "levels", size, 1)
        if num_sources is not None and len(sizes) != num_sources:
            fail(owner, "levels", levels, f"expected one number, or {num_sources} of them.")
        shape = (*sizes, num_targets)
        return shape if math.prod(shape) <= _MAX_CELLS else None
