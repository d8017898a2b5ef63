"""Representational complexity as a torchmetrics metric."""

from __future__ import annotations

from typing import Any, Literal

from lightning_foresight.functional._checks import check_choice
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.partial_information import representational_complexity
from lightning_foresight.metrics.joint_table import JointTable


class RepresentationalComplexity(JointTable):
    """Mean degree of synergy; see :func:`~lightning_foresight.functional.representational_complexity`.

    Args:
        method: ``"auto"``, ``"exact"`` or ``"clock"``.
        std_error: Standard error at which ``"clock"`` stops.
        kwargs: Passed on to :class:`JointTable`.

    Raises:
        ValueError: If an argument is not known.

    Example:
        >>> import torch
        >>> from lightning_foresight.metrics import RepresentationalComplexity
        >>> metric = RepresentationalComplexity()
        >>> bits = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> metric.update(bits, bits[:, 0] ^ bits[:, 1])
        >>> metric.compute().value
        tensor(1.4150, dtype=torch.float64)
    """

    def __init__(
        self, *, method: Literal["auto", "exact", "clock"] = "auto", std_error: float = 0.005, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_choice("RepresentationalComplexity", "method", method, ("auto", "exact", "clock"))
        self.method, self.std_error = method, std_error

    def compute(self) -> Estimate:
        """Return the complexity."""
        return representational_complexity(self.table(), method=self.method, std_error=self.std_error)
