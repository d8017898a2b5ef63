"""Degrees of redundancy and vulnerability as a torchmetrics metric."""

from __future__ import annotations

from typing import Any

from lightning_foresight.functional._checks import check_base, check_choice
from lightning_foresight.functional.discrete_entropy import CORRECTIONS
from lightning_foresight.functional.partial_information import ShannonInvariantsResult, shannon_invariants
from lightning_foresight.metrics.joint_table import JointTable


class ShannonInvariants(JointTable):
    """Shannon invariants of all samples seen; see :func:`~lightning_foresight.functional.shannon_invariants`.

    Args:
        correction: Bias correction of every entropy, for up to 64 sources.
        base: Base of the logarithm; 2 gives bits.
        kwargs: Passed on to :class:`JointTable`.

    Raises:
        ValueError: If the correction is not known or ``base`` is not above 1.

    Example:
        >>> import torch
        >>> from lightning_foresight.metrics import ShannonInvariants
        >>> metric = ShannonInvariants()
        >>> bits = torch.tensor([[0, 0], [1, 1]])
        >>> metric.update(bits, bits[:, 0])
        >>> result = metric.compute()
        >>> float(result.redundancy), float(result.vulnerability)
        (2.0, 0.0)
    """

    def __init__(self, *, correction: str = "none", base: float = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_choice("ShannonInvariants", "correction", correction, CORRECTIONS)
        check_base("ShannonInvariants", base)
        self.correction, self.base = correction, base

    def compute(self) -> ShannonInvariantsResult:
        """Return the invariants."""
        return shannon_invariants(self.table(), correction=self.correction, base=self.base)
