"""Partial information decomposition by shared exclusions as a torchmetrics metric."""

from __future__ import annotations

from typing import Any, Literal

from lightning_foresight.functional._checks import check_base, check_choice
from lightning_foresight.functional.partial_information import SxPIDResult, sx_pid
from lightning_foresight.metrics.joint_table import JointTable


class SxPID(JointTable):
    """Atoms of shared exclusions of all samples seen; see :func:`~lightning_foresight.functional.sx_pid`.

    Args:
        by: ``"all"``, ``"target"`` or ``"row"``.
        parts: Whether to compute the informative and misinformative atoms as well.
        base: Base of the logarithm; 2 gives bits.
        kwargs: Passed on to :class:`JointTable`.

    Raises:
        ValueError: If an argument is not known.

    Example:
        >>> import torch
        >>> from lightning_foresight.metrics import SxPID
        >>> metric = SxPID(num_sources=2, levels=2, num_targets=2)
        >>> for bits in torch.tensor([[[0, 0], [0, 1]], [[1, 0], [1, 1]]]):
        ...     metric.update(bits, bits[:, 0] ^ bits[:, 1])
        >>> metric.compute().atoms["{1}{2}"]
        tensor(-0.5850, dtype=torch.float64)
    """

    def __init__(
        self, *, by: Literal["all", "target", "row"] = "all", parts: bool = False, base: float = 2, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_choice("SxPID", "by", by, ("all", "target", "row"))
        check_base("SxPID", base)
        self.by, self.parts, self.base = by, parts, base

    def compute(self) -> SxPIDResult:
        """Return the atoms."""
        return sx_pid(self.table(), by=self.by, parts=self.parts, base=self.base)
