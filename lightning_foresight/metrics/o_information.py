"""O-information as a torchmetrics metric."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lightning_foresight.functional._checks import check_base
from lightning_foresight.functional.partial_information import o_information
from lightning_foresight.metrics.joint_table import JointTable


class OInformation(JointTable):
    """O-information of all samples seen; see :func:`~lightning_foresight.functional.o_information`.

    Args:
        target: Whether the target is one of the variables.
        base: Base of the logarithm; 2 gives bits.
        kwargs: Passed on to :class:`JointTable`.

    Raises:
        ValueError: If ``base`` is not above 1.

    Example:
        >>> import torch
        >>> from lightning_foresight.metrics import OInformation
        >>> metric = OInformation(target=True)
        >>> bits = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> metric.update(bits, bits[:, 0] ^ bits[:, 1])
        >>> metric.compute()
        tensor(-1., dtype=torch.float64)
    """

    def __init__(self, *, target: bool = False, base: float = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_base("OInformation", base)
        self.target, self.base = target, base

    def compute(self) -> Tensor:
        """Return the O-information."""
        return o_information(self.table(), target=self.target, base=self.base)
