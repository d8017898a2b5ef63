"""What a callback says of measurements that fail or come out as no number: once for each cause, and never an error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor, nn

if TYPE_CHECKING:
    from lightning_foresight.history import Row

_SHOWN = 5  # names in one warning


class FailureReport:
    """Counts failures, and warns of the first of each kind with its place, its moment and its reason.

    Args:
        owner: Name of the callback, for the texts.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.count = 0
        self.layer: str | None = None  # what is being measured just now
        self._told: set[object] = set()

    def failed(self, error: Exception, moment: str, what: str = "a measurement") -> None:
        """Take note of an exception.

        Args:
            error: What was raised.
            moment: Step and epoch, in words.
            what: What failed.
        """
        layer, self.layer = self.layer, None
        self.count += 1
        if self._is_told((what, layer, type(error))):
            return
        where = "" if layer is None else f" in layer {layer!r}"
        reason = f"{type(error).__name__}: {error}"
        rank_zero_warn(
            f"{self.owner}: {what} at {moment} failed{where} ({reason}). Nothing is logged for this step and "
            "training goes on. The same failure later is counted in num_failures, not shown."
        )

    def dropped(self, rows: Sequence[Row], model: nn.Module) -> None:
        """Take note of values that are NaN.

        Args:
            rows: The values.
            model: Whose parameters tell whether it is the run that went wrong.
        """
        self.count += 1
        new = [row for row in rows if not self._is_told(row.key)]
        if not new:
            return
        keys = _listed(dict.fromkeys(row.key for row in new))
        broken = [name for name, parameter in model.named_parameters() if not _is_finite(parameter)]
        reason = (
            f"the parameters {_listed(broken)} hold NaN or infinity: the run has diverged"
            if broken
            else "all parameters are finite, so that it is the measure that has no value there"
        )
        rank_zero_warn(
            f"{self.owner}: a measurement at step {new[0].step} (epoch {new[0].epoch:g}) came out as NaN under {keys}; "
            f"{reason}. NaN is not logged. Later ones under these keys are counted in num_failures, not shown."
        )

    def _is_told(self, what: object) -> bool:
        told = what in self._told
        self._told.add(what)
        return told


def _is_finite(parameter: Tensor) -> bool:
    # Of a sharded parameter the part that is here: asking for all of it would wait for the other ranks.
    part = parameter.to_local() if hasattr(parameter, "to_local") else parameter
    return bool(part.isfinite().all())


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
