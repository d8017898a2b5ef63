"""What happens at which event of a Trainer: preparing, measuring, writing, and letting go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from lightning_foresight.callbacks._cost import CostReport
from lightning_foresight.callbacks._failures import FailureReport
from lightning_foresight.callbacks._figures import FigureRecord
from lightning_foresight.callbacks._lightning import Callback
from lightning_foresight.callbacks._progress import Event, completed_epochs, completed_steps, logged_step, moment
from lightning_foresight.callbacks._siblings import check_prefixes, tell_of_idleness, write_bands, write_histories
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.history import History, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import LightningModule, Trainer

Measured = Mapping["str | Sequence[str]", "Estimate | Tensor"]


class RunEvents(Callback):
    """The events of a run, for :class:`~lightning_foresight.callbacks.ForesightCallback`, which says what is asked."""

    # Arguments that make a measurement cheaper, for the note that it takes long.
    cost_arguments: ClassVar[Sequence[str]] = ("layers", "every_n_epochs")

    schedule: Callable[[int], bool]
    prefix: str
    per_layer: bool
    prog_bar: bool
    log_figures: bool

    if TYPE_CHECKING:  # what the subclass says

        def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None: ...
        def should_measure(self, trainer: Trainer, pl_module: LightningModule) -> bool: ...
        def measure(self, trainer: Trainer, pl_module: LightningModule) -> Measured: ...
        def key(self, key: str) -> str: ...
        def release(self) -> None: ...
        def figures(self) -> Mapping[str, Figure]: ...

    def __init__(self) -> None:
        super().__init__()
        self.history = History()
        self.event: Event = "start"
        self._failures = FailureReport(self.name)
        self._cost = CostReport(self.name, self.cost_arguments)
        self._drawing = FigureRecord()
        self._last_global_step = 0
        self._running = self._bands_written = self._told_idle = False
        self._stage: str | None = None

    @property
    def name(self) -> str:
        """Name of the class, for messages."""
        return type(self).__name__

    @property
    def num_failures(self) -> int:
        """How many measurements failed or came out as NaN."""
        return self._failures.count

    # ---- events, in the order in which they come ----

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remember what the Trainer is about to do, and refuse two callbacks under one prefix."""
        self._stage = stage
        check_prefixes(self._siblings(trainer))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare, and take the first measurement."""
        if any(is_lazy(parameter) for parameter in pl_module.parameters()):
            raise ValueError(
                f"{self.name}: the model has lazy layers without weights yet, and measuring would initialise them. "
                "Run a batch through the model first, for instance in configure_model."
            )
        if trainer.global_step == 0 and len(self.history):
            self.history = History()  # a new run, not a resumed one: whoever holds the old history keeps it
        self._running, self._bands_written = True, False
        self._drawing = FigureRecord(trainer.log_dir)  # a collective: asked for once, by every rank
        self._last_global_step = trainer.global_step
        self.prepare(trainer, pl_module)
        self._cost = CostReport(self.name, self.cost_arguments)
        self._handle("start", trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure after an optimizer step, if the schedule says so."""
        if trainer.global_step == self._last_global_step:  # accumulating
            return
        self._last_global_step = trainer.global_step
        self._handle("step", trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure after an epoch, if the schedule says so."""
        self._handle("epoch", trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what is still waiting, and the figures."""
        self._finish(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write what was measured until then; Lightning calls no teardown after an exception."""
        self._finish(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Release what was held for the run."""
        self.release()
        siblings = self._siblings(trainer)
        if siblings[-1:] == [self]:
            untold = [one for one in siblings if not one._told_idle]
            tell_of_idleness(untold, trainer, str(getattr(stage, "value", stage)))
            for one in untold:
                one._told_idle = True

    # ---- inside ----

    @staticmethod
    def _siblings(trainer: Trainer) -> list[Any]:
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        return [callback for callback in callbacks if isinstance(callback, RunEvents)]

    def _handle(self, event: Event, trainer: Trainer, pl_module: LightningModule) -> None:
        self.event = event
        try:  # at every step: cheaper than leaving_the_run_alone
            if self.should_measure(trainer, pl_module):
                with self._cost.measuring():
                    self._record(trainer, pl_module, self.measure(trainer, pl_module))
        except Exception as error:
            self._note(error, trainer)
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if event == "step" and not (every and completed_steps(trainer, event) % every == 0):
            return
        siblings = self._siblings(trainer)
        if siblings[-1:] == [self]:  # the last one writes for all, which have measured by then
            self._write(trainer, siblings)

    def _record(self, trainer: Trainer, pl_module: LightningModule, measured: Measured) -> None:
        step, epoch = logged_step(trainer, self.event), completed_epochs(trainer, self.event)
        if not isinstance(measured, Mapping):
            raise TypeError(f"measure() returned {type(measured).__name__}; expected a mapping of keys to values")
        for key, number in measured.items():
            value = number if isinstance(number, Estimate) else torch.as_tensor(number, device=pl_module.device)
            keys = [self.key(key)] if isinstance(key, str) else [self.key(one) for one in key]
            self.history.add(step=step, epoch=epoch, key=keys, value=value)
            values = (value.value if isinstance(value, Estimate) else value).detach().reshape(-1).unbind()
            # EarlyStopping and ModelCheckpoint read callback_metrics; LearningRateMonitor fills it in this way too.
            trainer.callback_metrics.update(zip(keys, values, strict=True))
            if self.prog_bar:
                for one, number in zip(keys, values, strict=True):
                    if one.count("/") == 1:
                        pl_module.log(one, number, prog_bar=True, logger=False)

    def _write(self, trainer: Trainer, siblings: Sequence[Any]) -> None:
        new = write_histories(siblings, trainer)
        if not self._bands_written and any(new.values()) and trainer.is_global_zero:
            self._bands_written = True
            with self.leaving_the_run_alone(trainer, "writing the layout of the bands"):
                write_bands(siblings, trainer)
        for one, rows in new.items():
            if rows and one.event != "step" and one._drawing.is_due():
                one._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        with self.leaving_the_run_alone(trainer, "drawing"):
            self._drawing.draw(self, trainer)

    def flush(self, trainer: Trainer) -> list[Row]:
        """Fetch the values that wait on the device, and report those that are no numbers."""
        dropped = len(self.history.dropped)
        with self._cost.waiting():
            rows = self.history.flush()
        if len(self.history.dropped) > dropped:
            self._failures.dropped(self.history.dropped[dropped:], trainer.lightning_module)
        if rows:
            self._cost.report(None if self.event == "start" else moment(trainer, self.event))
        return rows

    def _finish(self, trainer: Trainer) -> None:
        if not self._running:
            return
        self._running = False
        self.event = "start"  # no epoch is under way: Lightning has counted the last one
        try:
            self._write(trainer, [self])
            self._draw(trainer)
        finally:  # a logger may fail
            self.release()

    @contextmanager
    def working_on(self, layer: str) -> Iterator[None]:
        """Say which layer a block measures: what fails or takes long in it is reported under that name."""
        self._failures.layer = layer
        with self._cost.layer(layer):
            yield
        self._failures.layer = None

    @contextmanager
    def leaving_the_run_alone(self, trainer: Trainer, what: str = "a measurement") -> Iterator[None]:
        """Turn what a block raises into a warning that names what failed."""
        try:
            yield
        except Exception as error:
            self._note(error, trainer, what)

    def _note(self, error: Exception, trainer: Trainer, what: str = "a measurement") -> None:
        """Warn of an error that a measurement ended with."""
        self._failures.failed(error, moment(trainer, self.event), what)
