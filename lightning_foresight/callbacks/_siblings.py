"""All callbacks of this package in one Trainer: no two under one name, and what they measured is written at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightning_utilities.core.rank_zero import rank_zero_info

from lightning_foresight.functional._checks import fail
from lightning_foresight.loggers import write_layout, write_rows

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from lightning_foresight.callbacks._base import ForesightCallback
    from lightning_foresight.history import Row


def check_prefixes(callbacks: Sequence[ForesightCallback]) -> None:
    """Require a prefix of its own of each callback.

    Raises:
        ValueError: If two have the same.
    """
    owners: dict[str, str] = {}
    for callback in callbacks:
        name, prefix = callback.name, callback.prefix
        if prefix in owners:
            fail(
                name,
                "prefix",
                prefix,
                f"{owners[prefix]} in the same Trainer logs under it too; give each callback a prefix of its own, for "
                f"instance {name}(prefix='{prefix}_2').",
            )
        owners[prefix] = name


def tell_of_idleness(callbacks: Sequence[ForesightCallback], trainer: Trainer, stage: str) -> None:
    """Say once, of all callbacks together, why a call of the Trainer that is over measured nothing.

    Args:
        callbacks: Those that have not been told of.
        trainer: Whose call it was.
        stage: ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``.
    """
    idle = ", ".join(callback.name for callback in callbacks if not len(callback.history))
    if not idle:
        return
    if stage != "fit":
        rank_zero_info(
            f"{idle}: nothing is measured by trainer.{stage}, only while trainer.fit trains. "
            "lightning_foresight.measure.measure_checkpoints measures models that are trained already."
        )
    elif trainer.global_step == 0:
        rank_zero_info(f"{idle}: nothing was measured, as the run took no step.")


def write_histories(callbacks: Sequence[ForesightCallback], trainer: Trainer) -> dict[ForesightCallback, list[Row]]:
    """Fetch what waits in all histories and write it: one entry a step, however many callbacks measured at it.

    Returns:
        The new rows of each callback.
    """
    new: dict[ForesightCallback, list[Row]] = {}
    for callback in callbacks:
        with callback.leaving_the_run_alone(trainer):
            new[callback] = callback.flush(trainer)
    shown = [
        one.as_logged(row) for one, rows in new.items() for row in rows if one.per_layer or row.key.count("/") == 1
    ]
    if shown and trainer.is_global_zero:
        with callbacks[-1].leaving_the_run_alone(trainer, "writing to the loggers"):
            write_rows(trainer.loggers, shown)
    return new


def write_bands(callbacks: Sequence[ForesightCallback], trainer: Trainer) -> None:
    """Lay out the bands of all callbacks, except those of values whose error turned out to be unknown."""
    bands = {}
    for callback in callbacks:
        last = callback.history.last()
        keys = [callback.key(key) for key in callback.bands()]
        bands[callback.prefix] = [key for key in keys if key not in last or last[key].has_interval]
    write_layout(trainer.loggers, bands)
