"""Where a run stands, in the numbers under which Lightning itself logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

Event = Literal["start", "step", "epoch"]


def logged_step(trainer: Trainer, event: Event) -> int:
    """Return the step under which Lightning logs the batch or epoch that just ended."""
    stepped = trainer.fit_loop.epoch_loop._batches_that_stepped  # there is no public name for it
    return stepped if event == "step" else max(0, stepped - 1)


def completed_steps(trainer: Trainer, event: Event) -> int:
    """Return the number of batches that stepped, however many optimizers stepped in each."""
    stepped = trainer.fit_loop.epoch_loop._batches_that_stepped
    return stepped + (event == "step")  # Lightning counts the batch only after its hooks


def completed_epochs(trainer: Trainer, event: Event) -> float:
    """Return the number of completed epochs, a fraction within an epoch of known length."""
    if event == "start":
        return float(trainer.current_epoch)
    if event == "epoch" and not _stops_within(trainer):
        return float(trainer.current_epoch + 1)
    batches = trainer.num_training_batches
    done = trainer.fit_loop.epoch_loop.batch_idx + 1
    return trainer.current_epoch + (done / batches if batches else 0.0)  # of infinitely many, none


def _stops_within(trainer: Trainer) -> bool:
    """Say whether the run ends before its epoch does, whose last hooks Lightning calls all the same."""
    is_over = trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step
    return is_over and not trainer.is_last_batch


def moment(trainer: Trainer, event: Event) -> str:
    """Return step and epoch in words."""
    return f"step {logged_step(trainer, event)} (epoch {completed_epochs(trainer, event):g})"
