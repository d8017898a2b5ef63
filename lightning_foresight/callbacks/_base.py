"""What all callbacks share: when to measure, where the numbers go, and that the run is left alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from lightning_foresight.callbacks._events import Measured, RunEvents
from lightning_foresight.callbacks._progress import completed_steps, logged_step
from lightning_foresight.functional._checks import check_bool, check_int, fail
from lightning_foresight.functional._repr import ShowsArguments
from lightning_foresight.probes.layers import LayerSpec
from lightning_foresight.probes.samples import call_model, split_batch
from lightning_foresight.schedule import resolve_schedule, schedule_unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import LightningModule, Trainer

    from lightning_foresight.history import Row


__all__ = ["ForesightCallback", "Measured"]


class ForesightCallback(ShowsArguments, RunEvents):
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

    def as_logged(self, row: Row) -> Row:
        """Return a row as loggers get it; the history keeps what was measured."""
        return row

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

    def _missed_epoch(self, trainer: Trainer) -> bool:
        # Before training; or after a resume from a checkpoint that was written before its epoch was measured.
        completed = trainer.current_epoch
        if completed == 0:
            return trainer.global_step == 0
        epoch = max((row.epoch for row in self.history), default=0.0)
        step = max((row.step for row in self.history), default=-1)  # of a run that stopped within its last epoch
        return epoch < completed and step < logged_step(trainer, "start") and self.schedule(completed)

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
    def state_key(self) -> str:
        """Identifies this callback in a checkpoint; distinct prefixes make distinct keys."""
        key = f"{type(self).__qualname__}[{self.prefix}]"
        # Of two equal keys a new Trainer would complain in words that do not say what to do, before `setup` can.
        before_setup = self._stage is None and type(self).setup is RunEvents.setup
        return f"{key} {id(self)}" if before_setup else key

    def key(self, key: str) -> str:
        """Return a key with the prefix."""
        return f"{self.prefix}/{key}"

    def state_dict(self) -> dict[str, Any]:
        """Return the history for a checkpoint."""
        return {"history": self.history.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the history of a checkpoint, so that a resumed run goes on with it."""
        if self._stage not in (None, "fit"):  # validating or testing an old checkpoint forgets nothing
            return
        self.history.load_state_dict(state_dict["history"])
