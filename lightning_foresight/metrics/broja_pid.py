"""The BROJA decomposition of pairs of sources as a torchmetrics metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning_foresight.functional._checks import check_base, fail
from lightning_foresight.functional.partial_information import BrojaResult, broja_pid
from lightning_foresight.metrics.joint_table import JointTable


class BrojaPID(JointTable):
    """BROJA atoms of all samples seen; see :func:`~lightning_foresight.functional.broja_pid`.

    Args:
        tol: Gap in bits at which a pair is done.
        pairs: Pairs of columns; with more than 2 sources all pairs when ``None``.
        base: Base of the logarithm; 2 gives bits.
        kwargs: Passed on to :class:`JointTable`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> from lightning_foresight.metrics import BrojaPID
        >>> metric = BrojaPID()
        >>> bits = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> metric.update(bits, bits[:, 0] ^ bits[:, 1])
        >>> metric.compute().synergy
        tensor(1.0000, dtype=torch.float64)
    """

    def __init__(
        self,
        *,
        tol: float = 1e-7,
        pairs: Sequence[tuple[int, int]] | None = None,
        base: float = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_base("BrojaPID", base)
        if not tol > 0:
            fail("BrojaPID", "tol", tol, "expected a number above 0.")
        self.tol, self.pairs, self.base = tol, pairs, base

    def compute(self) -> BrojaResult:
        """Return the atoms and their certified gap."""
        return broja_pid(self.table(), tol=self.tol, pairs=self.pairs, base=self.base)
