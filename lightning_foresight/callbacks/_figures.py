"""When a callback's figures are drawn, and where they go."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import TYPE_CHECKING

from lightning_utilities.core.rank_zero import rank_zero_info

from lightning_foresight.loggers import write_figure

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from lightning_foresight.callbacks._events import RunEvents


class FigureRecord:
    """Draws the figures of a run.

    Args:
        folder: Where figures go that no logger takes.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder
        self._num_writes = 0
        self._num_drawn = 0

    def is_due(self) -> bool:
        """Count a measurement, and say whether its figures are drawn: those of 4, 16, 64, ..."""
        self._num_writes += 1
        # A figure costs far more than a number, and one of a single point shows nothing.
        return self._num_writes >= 4 and math.log(self._num_writes, 4).is_integer()

    def draw(self, callback: RunEvents, trainer: Trainer) -> None:
        """Draw what was measured since the last time, if anything was."""
        trial = trainer.fast_dev_run  # type: ignore[attr-defined]
        if not callback.log_figures or trial or not trainer.is_global_zero or not trainer.loggers:
            return
        if find_spec("matplotlib") is None:
            rank_zero_info(f"{callback.name}: figures need matplotlib; pip install 'lightning-foresight[plot]'.")
            callback.log_figures = False
        elif len(callback.history) > self._num_drawn:
            self._num_drawn = len(callback.history)
            step = max(row.step for row in callback.history)
            for key, figure in callback.figures().items():
                write_figure(trainer.loggers, callback.key(key), figure, step, self.folder)
