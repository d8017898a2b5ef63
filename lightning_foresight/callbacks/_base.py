"""What all callbacks share: when to measure, where the numbers go, and that the run is left alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.nn.parameter import is_lazy

from lightning_foresight.callbacks._lightning import Callback
from lightning_foresight.callbacks._progress import Event, completed_epochs, completed_steps, logged_step
from lightning_foresight.functional._checks import check_bool, check_int, fail
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.history import History
from lightning_foresight.loggers import write_figure, write_layout, write_rows
from lightning_foresight.probes.layers import LayerSpec
from lightning_foresight.probes.samples import call_model, split_batch
from lightning_foresight.schedule import resolve_schedule, schedule_unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import LightningModule, Trainer

Measured = Mapping["str | Sequence[str]", "Estimate | Tensor"]


class ForesightCallback(Callback):
    """Base of all callbacks: subclass it, write :meth:`measure`, and get schedule, history, loggers and checkpoints.

    A measurement that fails in the middle of a run warns once, logs nothing for that step and lets training go on.
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
    """

    default_prefix: ClassVar[str] = "foresight"
    # Whether `measure` looks at the model alone, so that saved checkpoints can be measured later.
    measures_at_rest: ClassVar[bool] = True

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
        self.num_failures = 0
        self._num_writes = 0
        self._num_drawn = 0
        self._last_global_step = 0
        self._folder: str | None = None
        self._running = False
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
    def state_key(self) -> str:
        """Identifies this callback in a checkpoint; distinct prefixes make distinct keys."""
        return f"{type(self).__qualname__}[{self.prefix}]"

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
        """Remember what the Trainer is about to do."""
        self._stage = stage

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare, write the layout of the error bands, and take the first measurement."""
        self._check_prefix(trainer)
        if any(is_lazy(parameter) for parameter in pl_module.parameters()):
            raise ValueError(
                f"{self.name}: the model has lazy layers without weights yet, and measuring would initialise them. "
                "Run a batch through the model first, for instance in configure_model."
            )
        if trainer.global_step == 0 and len(self.history):
            self.history = History()  # a new run, not a resumed one: whoever holds the old history keeps it
        self._running = True
        self._num_writes = self._num_drawn = 0
        self._folder = trainer.log_dir  # a collective: asked for once, by every rank
        self._last_global_step = trainer.global_step
        self.prepare(trainer, pl_module)
        siblings = self._siblings(trainer)
        if siblings[-1] is self and trainer.is_global_zero:
            # All siblings have prepared by now; TensorBoard keeps only one layout, so one of them writes it for all.
            write_layout(trainer.loggers, {one.prefix: [one.key(key) for key in one.bands()] for one in siblings})
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

    def _check_prefix(self, trainer: Trainer) -> None:
        for other in self._siblings(trainer):
            if other is not self and other.prefix == self.prefix:
                fail(
                    self.name,
                    "prefix",
                    self.prefix,
                    f"{other.name} in the same Trainer logs under it too; give each callback a prefix of its own.",
                )

    def _missed_epoch(self, trainer: Trainer) -> bool:
        # Before training; or after a resume from a checkpoint that was written before its epoch was measured.
        completed = trainer.current_epoch
        if completed == 0:
            return trainer.global_step == 0
        last = max((row.epoch for row in self.history), default=0.0)
        return last < completed and self.schedule(completed)

    def _handle(self, event: Event, trainer: Trainer, pl_module: LightningModule) -> None:
        self.event = event
        with self._leaving_the_run_alone(trainer):
            if self.should_measure(trainer, pl_module):
                self._record(trainer, pl_module, self.measure(trainer, pl_module))
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if event != "step" or (every and completed_steps(trainer, event) % every == 0):
            with self._leaving_the_run_alone(trainer):
                self._write(trainer)

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

    def _write(self, trainer: Trainer) -> None:
        dropped = self.history.num_dropped
        rows = self.history.flush()
        if self.history.num_dropped > dropped:
            self._count_failure(trainer, f"{self.history.num_dropped - dropped} values came out as NaN")
        if rows and trainer.is_global_zero:
            write_rows(trainer.loggers, [row for row in rows if self.per_layer or row.key.count("/") == 1])
        if rows and self.event != "step":
            self._num_writes += 1
            # 4, 16, 64, ...: a figure costs far more than a number, and one of a single point shows nothing.
            if self._num_writes >= 4 and math.log(self._num_writes, 4).is_integer():
                self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        if not self.log_figures or trainer.fast_dev_run or not trainer.is_global_zero or not trainer.loggers:  # type: ignore[attr-defined]
            return
        if find_spec("matplotlib") is None:
            rank_zero_info(f"{self.name}: figures need matplotlib; pip install 'lightning-foresight[plot]'.")
            self.log_figures = False
        elif len(self.history) > self._num_drawn:
            self._num_drawn = len(self.history)
            step = max(row.step for row in self.history)
            for key, figure in self.figures().items():
                write_figure(trainer.loggers, self.key(key), figure, step, self._folder)

    def _finish(self, trainer: Trainer) -> None:
        if not self._running:
            return
        self._running = False
        for last in (self._write, self._draw):
            with self._leaving_the_run_alone(trainer):
                last(trainer)
        self.release()

    @contextmanager
    def _leaving_the_run_alone(self, trainer: Trainer) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._count_failure(trainer, f"{type(error).__name__}: {error}")

    def _count_failure(self, trainer: Trainer, what: str) -> None:
        self.num_failures += 1
        if self.num_failures == 1:
            rank_zero_warn(
                f"{self.name}: a measurement at step {logged_step(trainer, self.event)} failed ({what}). Nothing is "
                "logged for this step and training goes on. Further failures are counted in num_failures, not shown."
            )
