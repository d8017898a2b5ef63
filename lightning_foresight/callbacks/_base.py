"""What all callbacks share: when to measure, where the numbers go, and that the run is left alone."""

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
from lightning_foresight.callbacks._siblings import check_prefixes, write_bands, write_histories
from lightning_foresight.functional._checks import check_bool, check_int, fail
from lightning_foresight.functional._repr import ShowsArguments
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.history import History, Row
from lightning_foresight.probes.layers import LayerSpec
from lightning_foresight.probes.samples import call_model, split_batch
from lightning_foresight.schedule import resolve_schedule, schedule_unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import LightningModule, Trainer

Measured = Mapping["str | Sequence[str]", "Estimate | Tensor"]


class ForesightCallback(ShowsArguments, Callback):
    """Base of all callbacks: subclass it, write :meth:`measure`, and get schedule, history, loggers and checkpoints.

    A measurement that fails in the middle of a run warns once for each layer and kind of failure, logs nothing for that
    step and lets training go on. Measurements that take long say so once, and what to set.
    Every process of a distributed run measures the same thing on the same samples, so no rank waits for another.

    Args:
        every_n_epochs: Measure after every n-th epoch, and once before training.
        every_n_steps: Measure after every n-th optimizer step instead.
        schedule: Measure when ``schedule(count)`` says so, for instance :class:`~lightning_foresight.LogSchedule`.
        layers: What to measure: names, globs, module types, rules ``(name, module) -> bool``, or a sequence of them.
        prefix: First segment of all keys; give each instance its own when you use two of one class.
        per_layer: Log the values of single layers besides those of the network; the history has them in any case.
        prog_bar: Show the values of the network in the progress bar.
        log_figures: Draw figures at the end and at measurements 4, 16, 64, ... (needs the ``plot`` extra).
        seed: Seed of everything random in the measurement; the run's own random state is never touched.

    Attributes:
        history: All values measured so far (:class:`~lightning_foresight.history.History`).
        event: What :meth:`should_measure` is asked about: ``"start"``, ``"step"`` or ``"epoch"``.
        num_failures: Measurements that failed or came out as NaN.
    """

    default_prefix: ClassVar[str] = "foresight"
    # Whether `measure` looks at the model alone, so that saved checkpoints can be measured later.
    measures_at_rest: ClassVar[bool] = True
    # Arguments that make a measurement cheaper, for the note that it takes long.
    cost_arguments: ClassVar[Sequence[str]] = ("layers", "every_n_epochs")

    def __init__(
        self,
        *,
        every_n_epochs: int | None = 1,
        every_n_steps: int | None = None,
        schedule: Callable[[int], bool] | None = None,
        layers: LayerSpec | None = None,
        prefix: str | None = None,
        per_layer: bool = True,
        prog_bar: bool = False,
        log_figures: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.schedule = resolve_schedule(self.name, every_n_epochs, every_n_steps, schedule)
        if prefix is not None and (not isinstance(prefix, str) or not prefix.strip() or "/" in prefix):
            fail(self.name, "prefix", prefix, "expected a name without slashes: it is the first segment of all keys.")
        check_int(self.name, "seed", seed, minimum=0)
        if seed >= 2**63:
            fail(self.name, "seed", seed, "expected an integer below 2**63, which is what a torch.Generator takes.")
        for argument, value in (("per_layer", per_layer), ("prog_bar", prog_bar), ("log_figures", log_figures)):
            check_bool(self.name, argument, value)
        self.layers = layers
        self.prefix = prefix or self.default_prefix
        self.per_layer = per_layer
        self.prog_bar = prog_bar
        self.log_figures = log_figures
        self.seed = seed
        self.history = History()
        self.event: Event = "start"
        self._failures = FailureReport(self.name)
        self._cost = CostReport(self.name, self.cost_arguments)
        self._figures = FigureRecord()
        self._last_global_step = 0
        self._running = self._bands_written = False
        self._stage: str | None = None

    # ---- what a subclass writes ----

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose layers and samples once before training; what is raised here stops the run before it starts."""

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> Measured:
        """Return the values to log by key (without the prefix); a sequence of keys takes a vector of values."""
        raise NotImplementedError

    def run_model(self, pl_module: LightningModule, batch: Any) -> Any:
        """Run the model on a batch; override it for a ``forward`` that takes something else than the inputs."""
        return call_model(pl_module, split_batch(batch)[0])

    def bands(self) -> Sequence[str]:
        """Return the keys (without the prefix) that have an interval, for TensorBoard's error bands."""
        return ()

    def figures(self) -> Mapping[str, Figure]:
        """Return figures of the history so far, by key (without the prefix); override it for better ones."""
        from lightning_foresight.plotting.curves import curves

        lines = {key.split("/", 1)[1]: self.history[key] for key in self.history.keys()}  # noqa: SIM118
        return {"values": curves(lines, ylabel=self.prefix)} if lines else {}

    def release(self) -> None:
        """Remove hooks and drop what was held for the run; called when it ends, fails or is interrupted."""

    def should_measure(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Say whether to measure now; override it for a rule of your own.

        It is asked before training, after every optimizer step and after every epoch; ``self.event`` tells which.
        """
        unit = schedule_unit(self.schedule)
        if self.event == "start":
            return unit == "epochs" and self._missed_epoch(trainer)
        if self.event == "step":
            return unit == "steps" and self.schedule(completed_steps(trainer, self.event))
        return unit == "epochs" and self.schedule(trainer.current_epoch + 1)

    # ---- for users ----

    def plot(self) -> Figure:
        """Return the main figure of the history so far."""
        figures = self.figures()
        if not figures:
            raise ValueError(
                f"{self.name}.plot(): nothing to draw: {len(self.history)} values were measured, {self.num_failures} "
                "measurements failed. Train first; look at the warnings of the run if you did."
            )
        return next(iter(figures.values()))

    @property
    def name(self) -> str:
        """Name of the class, for messages."""
        return type(self).__name__

    @property
    def num_failures(self) -> int:
        """How many measurements failed or came out as NaN."""
        return self._failures.count

    @property
    def state_key(self) -> str:
        """Identifies this callback in a checkpoint; distinct prefixes make distinct keys."""
        key = f"{type(self).__qualname__}[{self.prefix}]"
        # Of two equal keys a new Trainer would complain in words that do not say what to do, before `setup` can.
        return f"{key} {id(self)}" if self._stage is None else key

    def state_dict(self) -> dict[str, Any]:
        """Return the history for a checkpoint."""
        return {"history": self.history.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the history of a checkpoint, so that a resumed run goes on with it."""
        if self._stage not in (None, "fit"):  # validating or testing an old checkpoint forgets nothing
            return
        self.history.load_state_dict(state_dict["history"])

    # ---- Trainer events ----

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
        self._figures = FigureRecord(trainer.log_dir)  # a collective: asked for once, by every rank
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

    # ---- inside ----

    def key(self, key: str) -> str:
        """Return a key with the prefix."""
        return f"{self.prefix}/{key}"

    @staticmethod
    def _siblings(trainer: Trainer) -> list[ForesightCallback]:
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        return [callback for callback in callbacks if isinstance(callback, ForesightCallback)]

    def _missed_epoch(self, trainer: Trainer) -> bool:
        # Before training; or after a resume from a checkpoint that was written before its epoch was measured.
        completed = trainer.current_epoch
        if completed == 0:
            return trainer.global_step == 0
        last = max((row.epoch for row in self.history), default=0.0)
        return last < completed and self.schedule(completed)

    def _handle(self, event: Event, trainer: Trainer, pl_module: LightningModule) -> None:
        self.event = event
        with self.leaving_the_run_alone(trainer):
            if self.should_measure(trainer, pl_module):
                with self._cost.counting():
                    self._record(trainer, pl_module, self.measure(trainer, pl_module))
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        siblings = self._siblings(trainer)
        # The last one writes for all, which have measured by then.
        if siblings[-1] is self and (event != "step" or (every and completed_steps(trainer, event) % every == 0)):
            self._write(trainer, siblings)

    def _record(self, trainer: Trainer, pl_module: LightningModule, measured: Measured) -> None:
        step, epoch = logged_step(trainer, self.event), completed_epochs(trainer, self.event)
        if not isinstance(measured, Mapping):
            raise TypeError(f"measure() returned {type(measured).__name__}; expected a mapping of keys to values")
        for key, number in measured.items():
            value = number if isinstance(number, Estimate) else torch.as_tensor(number, device=pl_module.device)
            keys = [self.key(key)] if isinstance(key, str) else [self.key(one) for one in key]
            self.history.add(step=step, epoch=epoch, key=keys, value=value)
            values = (value.value if isinstance(value, Estimate) else value).detach().reshape(-1)
            # EarlyStopping and ModelCheckpoint read callback_metrics; LearningRateMonitor fills it in this way too.
            trainer.callback_metrics.update(zip(keys, values.unbind(), strict=True))
            if self.prog_bar:
                for one, number in zip(keys, values.unbind(), strict=True):
                    if one.count("/") == 1:
                        pl_module.log(one, number, prog_bar=True, logger=False)

    def _write(self, trainer: Trainer, siblings: Sequence[ForesightCallback]) -> None:
        new = write_histories(siblings, trainer)
        if not self._bands_written and any(new.values()) and trainer.is_global_zero:
            self._bands_written = True
            with self.leaving_the_run_alone(trainer):
                write_bands(siblings, trainer)
        for one, rows in new.items():
            if rows and one.event != "step" and one._figures.is_due():
                one._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        with self.leaving_the_run_alone(trainer):
            self._figures.draw(self, trainer)

    def flush(self, trainer: Trainer) -> list[Row]:
        """Fetch the values that wait on the device, and report those that are no numbers."""
        dropped = len(self.history.dropped)
        with self._cost.counting():
            rows = self.history.flush()
        if len(self.history.dropped) > dropped:
            self._failures.dropped(self.history.dropped[dropped:], trainer.lightning_module)
        if rows:
            self._cost.report(moment(trainer, self.event))
        return rows

    def _finish(self, trainer: Trainer) -> None:
        if not self._running:
            return
        self._running = False
        self._write(trainer, [self])
        self._draw(trainer)
        self.release()

    @contextmanager
    def working_on(self, layer: str) -> Iterator[None]:
        """Say which layer a block measures: what fails or takes long in it is reported under that name."""
        self._failures.layer = layer
        with self._cost.counting(layer):
            yield
        self._failures.layer = None

    @contextmanager
    def leaving_the_run_alone(self, trainer: Trainer) -> Iterator[None]:
        """Turn what a block raises into a warning."""
        try:
            yield
        except Exception as error:
            self._failures.failed(error, moment(trainer, self.event))
