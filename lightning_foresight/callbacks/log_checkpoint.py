"""Checkpoints at chosen moments of a run, to be measured later."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lightning_foresight.callbacks._events import RunEvents
from lightning_foresight.callbacks._lightning import Callback
from lightning_foresight.callbacks._progress import completed_epochs
from lightning_foresight.functional._checks import check_bool, fail
from lightning_foresight.functional._repr import ShowsArguments
from lightning_foresight.schedule import schedule_unit

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer


class LogCheckpoint(ShowsArguments, Callback):
    """Save checkpoints that are dense at first and rarer later, with the random states, before training and at the end.

    A run that is resumed from such a checkpoint (at the end of an epoch) goes on with the same random numbers as one
    that was never interrupted. Measure them with :func:`~lightning_foresight.measure.measure_checkpoints`.

    Args:
        dirpath: The folder for the checkpoints, ``epoch=<epochs completed>.ckpt``; ``-step=<steps>`` is added within
            epochs of unknown length, and moments there are those of the end of the epoch.
        schedule: Save when ``schedule(count)`` says so: :class:`~lightning_foresight.LogSchedule`, ``Every``, any
            function of the number of completed epochs (of steps, if its ``unit`` is ``"steps"``).
        epochs: Or the moments themselves, fractions of an epoch among them: ``(0.1, 0.5, 1, 10)``.
        start: Save before training, too.

    Raises:
        TypeError: If ``dirpath`` is no path, or ``start`` neither True nor False.
        ValueError: If not exactly one of ``schedule`` and ``epochs`` is given, or an epoch is not positive.

    Example:
        >>> from lightning_foresight import LogCheckpoint, LogSchedule
        >>> LogCheckpoint("runs/checkpoints", schedule=LogSchedule(1000, 30)).schedule.points[:5]
        (1, 2, 3, 4, 5)
    """

    def __init__(
        self,
        dirpath: str | Path,
        *,
        schedule: Callable[[int], bool] | None = None,
        epochs: Sequence[float] | None = None,
        start: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(dirpath, (str, Path)):
            fail("LogCheckpoint", "dirpath", dirpath, "expected the path of a folder.", TypeError)
        if (schedule is None) == (epochs is None):
            fail("LogCheckpoint", "schedule", schedule, "expected exactly one of schedule= and epochs=.")
        if schedule is not None and not callable(schedule):
            fail("LogCheckpoint", "schedule", schedule, "expected LogSchedule(...) or a function of a count.")
        if epochs is not None and not _are_positive(epochs):
            fail(
                "LogCheckpoint",
                "epochs",
                epochs,
                "expected positive numbers, as (0.1, 1, 10); start=True saves epoch 0.",
            )
        check_bool("LogCheckpoint", "start", start)
        self.dirpath = Path(dirpath)
        self.schedule = schedule
        self.epochs = sorted(epochs or ())
        self.start = start
        self.saved: list[Path] = []
        self._restored: dict[str, Any] | None = None
        self._last_global_step = 0
        self._reached = 0.0
        self._epoch, self._step = 0.0, -1
        self._precision = ""
        self._stage: str | None = None

    @property
    def state_key(self) -> str:
        """Identifies this callback in a checkpoint."""
        key = f"LogCheckpoint[{self.dirpath}]"
        # As with measuring callbacks: `setup` says what to do about two equal keys.
        return f"{key} {id(self)}" if self._stage is None else key

    def state_dict(self) -> dict[str, Any]:
        """Return the moment, the precision, and the random states of torch (all devices), numpy and Python."""
        version, numbers, gauss = random.getstate()
        name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
        return {
            "epoch": self._epoch,
            "step": self._step,
            "precision": self._precision,
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "numpy": [str(name), [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
            "python": [version, list(numbers), gauss],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the random states until training goes on."""
        if self._stage in (None, "fit"):  # validating an old checkpoint says nothing about the next run
            self._restored = state_dict

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Move behind the callbacks that measure: a checkpoint holds what they measured at its step."""
        self._stage = stage
        self._precision = str(trainer.precision)
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        others = [callback for callback in callbacks if callback is not self]
        if any(isinstance(other, LogCheckpoint) and other.dirpath == self.dirpath for other in others):
            fail("LogCheckpoint", "dirpath", str(self.dirpath), "another one saves there; give each its own folder.")
        measuring = [place for place, other in enumerate(others) if isinstance(other, RunEvents)]
        place = max(callbacks.index(self), *(before + 1 for before in measuring), 0)
        trainer.callbacks = [*others[:place], self, *others[place:]]  # type: ignore[attr-defined]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the random states of a checkpoint from another folder, too: runs are moved."""
        states = [state for key, state in checkpoint["callbacks"].items() if key.startswith("LogCheckpoint[")]
        if states:
            self.load_state_dict(states[0])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the random states of a checkpoint, before the loaders of the run draw their order."""
        if self._restored is None:
            return
        state, self._restored = self._restored, None
        torch.set_rng_state(state["torch"].cpu())
        if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
            torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
        name, keys, *rest = state["numpy"]
        np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
        version, numbers, gauss = state["python"]
        random.setstate((version, tuple(numbers), gauss))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the untrained network."""
        self._last_global_step = trainer.global_step
        self._reached = completed_epochs(trainer, "step") if trainer.global_step else 0.0
        if self.start and trainer.global_step == 0:
            self._save(trainer, 0.0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save within an epoch, after an optimizer step."""
        if trainer.global_step == self._last_global_step:
            return
        self._last_global_step = trainer.global_step
        now = completed_epochs(trainer, "step")
        if trainer.is_last_batch or (now == int(now) and now > trainer.current_epoch):
            return  # the end of an epoch has a hook of its own, after validation
        if self.schedule is not None:
            due = schedule_unit(self.schedule) == "steps" and self.schedule(trainer.global_step)
        else:
            due = self._has_come(now)
        if due:
            self._save(trainer, now)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after an epoch."""
        epoch = completed_epochs(trainer, "epoch")
        if self.schedule is not None:
            by_steps = schedule_unit(self.schedule) == "steps"
            due = self.schedule(trainer.global_step if by_steps else trainer.current_epoch + 1)
        else:
            due = self._has_come(epoch)
        if due:
            self._save(trainer, epoch)

    def _has_come(self, now: float) -> bool:
        """Say whether one of the moments lies between the last question and now; within rounding, now is now."""
        before, self._reached = self._reached, now + 1e-9
        return any(before < moment <= self._reached for moment in self.epochs)

    def _save(self, trainer: Trainer, epoch: float) -> None:
        self._epoch, self._step = epoch, trainer.global_step
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        # Within an epoch of unknown length all steps have the same number of completed epochs.
        unknown = epoch == trainer.current_epoch and trainer.global_step > 0
        step = f"-step={trainer.global_step}" if unknown else ""
        path = self.dirpath / f"epoch={epoch:012.5f}{step}.ckpt"
        trainer.save_checkpoint(path)
        self.saved.append(path)


def _are_positive(epochs: Any) -> bool:
    return (
        isinstance(epochs, Sequence)
        and len(epochs) > 0
        and all(isinstance(epoch, (int, float)) and not isinstance(epoch, bool) and epoch > 0 for epoch in epochs)
    )
