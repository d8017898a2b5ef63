"""Which method observes the gradient noise, at which steps, and what a user should know about that."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from torch import nn

from lightning_foresight.callbacks._noise_methods import BACKWARD_SHARE, default_period, make_observer, share_of_step
from lightning_foresight.callbacks._noise_recorder import NoiseRecorder
from lightning_foresight.callbacks._noise_runs import doubt_of_pace, doubts_of_examples, has_micro_batches
from lightning_foresight.probes.gradients import Metric
from lightning_foresight.schedule import Every, schedule_unit

if TYPE_CHECKING:
    from pytorch_lightning import Trainer


class NoisePace:
    """Chooses the method of a run and says which steps are observed; warns of each thing once, however many runs.

    Args:
        owner: Who measures, for messages.
        method: What the user asked for.
        schedule: When the user wants to observe; ``None`` follows the budget.
        budget: Share of the training time that observations may take.
        batch_size_known: Whether the user said how many examples a batch has.

    Attributes:
        method_in_use: What ``"auto"`` chose; ``None`` before a run.
        num_due: Observations asked for so far.
    """

    def __init__(
        self,
        owner: str,
        *,
        method: str,
        schedule: Callable[[int], bool] | None,
        budget: float,
        batch_size_known: bool,
    ) -> None:
        self.owner = owner
        self.method = method
        self.budget = budget
        self.batch_size_known = batch_size_known
        self._paced = schedule is None
        self._schedule = schedule or Every(1, "steps")
        self._warned: set[str] = set()
        self._calibration_period = 1
        self.restart()

    def restart(self, num_due: int = 0) -> None:
        """Begin a run, or go on with one that has made some observations."""
        self.method_in_use: str | None = None
        self.num_due = num_due
        self._owed = False

    @property
    def every_step(self) -> bool:
        """Whether all steps are observed."""
        return isinstance(self._schedule, Every) and self._schedule.n == 1

    @property
    def period(self) -> int:
        """Steps from one observation to the next; 1 where only the schedule knows."""
        return self._schedule.n if isinstance(self._schedule, Every) and self._schedule.unit == "steps" else 1

    def choose(
        self,
        trainer: Trainer,
        recorder: NoiseRecorder,
        parameters: Sequence[nn.Parameter],
        norm_layers: Sequence[nn.Parameter] | None,
        metric: Metric | None,
    ) -> None:
        """Give the recorder its observers, unless it has the right ones.

        Args:
            trainer: The run.
            recorder: Knows how many micro-batches the last step had.
            parameters: The parameters to measure.
            norm_layers: Those of the normalisation layers, if these are calibrated.
            metric: The diagonal metric of the norms, by position of the parameter.
        """
        several = has_micro_batches(trainer, self.method, recorder.last_count)
        whole = "micro_batches" if several else "split"  # what sees all parameters
        chosen = whole if self.method == "auto" else self.method
        wanted = (whole, "per_example") if chosen == "norm_layers" else (chosen,)
        if wanted == tuple(observer.kind for observer in recorder.observers):
            return
        self.method_in_use = chosen
        model, watched = trainer.lightning_module, (parameters, norm_layers or [])
        recorder.use(
            [
                make_observer(kind, model, members, model.device, metric)
                for kind, members in zip(wanted, watched, strict=False)
            ]
        )
        period = default_period(chosen, parameters, self.budget)
        if self._paced:
            self._schedule = Every(period, "steps")
        # The normalisation layers come with all parameters at some of their observations only.
        calibrated = math.ceil(math.ceil(BACKWARD_SHARE / self.budget) / period)
        self._calibration_period = calibrated if chosen == "norm_layers" else 1
        when = f", one step in {period}" if self._paced else ""
        if chosen == "norm_layers":
            when += f", calibrated by {whole!r} once in {calibrated} observations"
        pace = None
        if self._paced and chosen != "micro_batches":
            share = share_of_step(chosen, parameters)
            pace = doubt_of_pace(trainer.estimated_stepping_batches, period, self.budget, share)
        if pace is None:
            rank_zero_info(f"{self.owner}: measuring by method={chosen!r}{when}.")
        else:  # one line of both, which would say the same
            self._warn("pace", f"measuring by method={chosen!r}. {pace}")
        for doubt in doubts_of_examples(model, split="split" in wanted, batch_size_known=self.batch_size_known):
            self._warn(doubt, doubt)

    def who_looks(self, trainer: Trainer, count: int, num_observers: int) -> list[bool]:
        """Say of each observer whether it looks at the ``count``-th step, and count that as an observation."""
        by_epoch = not self._paced and schedule_unit(self._schedule) == "epochs"
        due = self._schedule(trainer.current_epoch + 1 if by_epoch else count)
        if not (due or (self._paced and (count == 1 or self._owed))):
            return [False] * num_observers
        self.num_due += 1
        return [(self.num_due - 1) % self._calibration_period == 0, *[True] * (num_observers - 1)]

    def owe(self, owed: bool) -> None:
        """Remember whether an observation came to nothing, as when ``training_step`` returned ``None``."""
        self._owed = owed

    def _warn(self, key: str, text: str | None) -> None:
        if text and key not in self._warned:
            self._warned.add(key)
            rank_zero_warn(f"{self.owner}: {text}")
