"""Gradient noise scale while training: how large a batch would still pay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor, nn

from lightning_foresight.callbacks._base import ForesightCallback, Measured
from lightning_foresight.callbacks._noise_runs import (
    METHODS,
    check_run,
    default_period,
    has_micro_batches,
    make_observer,
)
from lightning_foresight.callbacks._noise_stream import BANDS, NoiseStream, make_streams
from lightning_foresight.callbacks._progress import completed_steps
from lightning_foresight.functional._checks import check_choice, fail
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.gradient_noise import BatchSizeSuggestion, suggest_batch_size
from lightning_foresight.probes.gradient_groups import Groups, parameter_groups, select_parameters
from lightning_foresight.probes.gradient_observer import GradientObserver
from lightning_foresight.probes.gradient_windows import MicroBatch
from lightning_foresight.probes.layers import LayerSpec
from lightning_foresight.probes.samples import batch_length
from lightning_foresight.schedule import Every, schedule_unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import LightningModule, Trainer
    from torch.optim import Optimizer


class GradientNoiseScaleCallback(ForesightCallback):
    r"""Logs the simple gradient noise scale, with a confidence interval, from the gradients training computes anyway.

    .. math:: \mathcal B_\text{simple} = \frac{\operatorname{tr}\Sigma}{|G|^2}

    in examples: :math:`\Sigma` is the covariance of per-example gradients, :math:`G` their mean. Batches well below
    it are dominated by noise, so doubling them nearly halves the number of steps; batches well above it waste examples.

    Every observation compares gradients of one step, at the same weights. Numerator and denominator are averaged
    separately, never clamped, and the ratio is taken last; gradients are measured before clipping and without the
    scaling of mixed precision. The run itself stays bit-identical.

    Logged metrics:
        - ``gns/b_simple`` with ``gns/b_simple_lower`` and ``gns/b_simple_upper``, Fieller's interval. Where noise hides
          the gradient an end is infinite.
        - ``gns/trace_sigma`` and ``gns/grad_sq_norm``, the parts, with intervals.
        - ``gns/batch_size``, the examples of the latest step, all micro-batches and devices together.
        - ``gns/efficiency``, :math:`B / (B + \mathcal B_\text{simple})` at that batch size: the progress of a step over
          that of a step without noise. Near 0 larger batches pay, near 1 they do not.
        - ``gns/b_simple/<group>`` for the groups of ``groups``; ``gns/b_simple/optimizer_<i>`` instead of
          ``gns/b_simple`` when there are several optimizers.

    They are written every ``log_every_n_steps`` of the Trainer and at the end of every epoch.

    Args:
        method: ``"micro_batches"`` compares the micro-batches of ``accumulate_grad_batches`` and of all devices with
            their mean, at almost no cost. ``"split"`` sends a randomly signed gradient through the network's graph
            once more, which compares random halves of one batch. ``"per_example"`` works out the norm of every
            example's gradient from layer inputs and output gradients, for networks of linear, convolutional, embedding
            and normalisation layers. ``"auto"`` takes micro-batches where a step has more than one, else splits, and
            says what it chose.
        groups: ``"layers"``, ``"types"``, ``"param_groups"``, or a mapping from names to layers: noise scales of
            groups of parameters, besides the one of all.
        decay: Weight of an observation relative to the next one; 1 is the mean since the start.
        confidence: Coverage of the intervals of ``b_simple``.
        budget: Share of the training time that ``"split"`` and ``"per_example"`` may take; sets the period if
            ``every_n_steps`` is ``None``.
        every_n_steps: Observe at every n-th optimizer step; ``None`` is, for micro-batches, every step (every fourth
            where parameters are tiny), and else what ``budget`` allows.
        schedule: Observe when ``schedule(count)`` says so.
        layers: Measure the parameters of these layers only: names, globs, types, or rules.
        prefix: First segment of all keys, ``"gns"`` by default.
        per_layer: Log the values of groups; the history has them in any case.
        prog_bar: Show ``b_simple`` in the progress bar.
        log_figures: Draw the figure (needs the ``plot`` extra).
        seed: Seed of the signs of splits.

    Attributes:
        method_in_use: What ``method="auto"`` chose.

    Raises:
        ValueError: If an argument is out of range; and at the start of training, if the run cannot be measured.

    References:
        McCandlish et al. (2018), An empirical model of large-batch training, arXiv 1812.06162.

    Example:
        >>> from lightning_foresight.callbacks import GradientNoiseScaleCallback
        >>> callback = GradientNoiseScaleCallback(groups="layers")
        >>> # Trainer(callbacks=[callback], accumulate_grad_batches=4).fit(model)
        >>> callback.key("b_simple")
        'gns/b_simple'
    """

    default_prefix: ClassVar[str] = "gns"
    measures_at_rest: ClassVar[bool] = False

    def __init__(
        self,
        *,
        method: Literal["auto", "micro_batches", "split", "per_example"] = "auto",
        groups: Groups = None,
        decay: float = 0.99,
        confidence: float = 0.95,
        budget: float = 0.02,
        every_n_steps: int | None = None,
        schedule: Callable[[int], bool] | None = None,
        layers: LayerSpec | None = None,
        prefix: str | None = None,
        per_layer: bool = True,
        prog_bar: bool = False,
        log_figures: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(
            every_n_steps=every_n_steps,
            schedule=schedule,
            layers=layers,
            prefix=prefix,
            per_layer=per_layer,
            prog_bar=prog_bar,
            log_figures=log_figures,
            seed=seed,
        )
        check_choice(self.name, "method", method, METHODS)
        if not 0 < decay <= 1:
            fail(self.name, "decay", decay, "expected a factor in (0, 1], such as 0.99.")
        if not 0 < confidence < 1:
            fail(self.name, "confidence", confidence, "expected a probability between 0 and 1, such as 0.95.")
        if not budget > 0:
            fail(self.name, "budget", budget, "expected a positive share of the training time, such as 0.02.")
        self.method = method
        self.groups = groups
        self.decay = decay
        self.confidence = confidence
        self.budget = budget
        self.method_in_use: str | None = None
        self._paced = every_n_steps is None and schedule is None
        self._pace = Every(1, "steps")
        self._streams: list[NoiseStream] = []
        self._parameters: list[nn.Parameter] = []
        self._observer: GradientObserver | None = None
        self._restored: list[dict[str, Any]] = []
        self._batch: tuple[Any, int] = (None, -1)  # with its index
        self._last_count = 1  # micro-batches of the last optimizer step, for manual optimization

    # ---- before training ----

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set up one window and one metric for each optimizer, and choose the method."""
        check_run(self.name, trainer, self.method)
        named = select_parameters(pl_module, self.layers, owner=self.name)
        groups = parameter_groups(pl_module, named, self.groups, trainer.optimizers, owner=self.name)
        self._parameters = list(named.values())
        if self._streams:  # the same callback goes on in another fit
            self._restored = self._restored or [stream.state() for stream in self._streams]
        self._last_count = 1
        self.method_in_use, self._observer = None, None
        self._streams = make_streams(
            trainer.optimizers, named, groups, device=pl_module.device, decay=self.decay, level=self.confidence
        )
        if not any(stream.window.members for stream in self._streams):
            fail(self.name, "layers", self.layers, "no optimizer updates the parameters of these layers.")
        previous, self._restored = self._restored, []
        for stream, state in zip(self._streams, previous if trainer.global_step else [], strict=False):
            stream.load_state(state)
        self._choose(trainer)

    def _choose(self, trainer: Trainer) -> None:
        chosen: str = self.method
        if chosen == "auto":
            chosen = "micro_batches" if has_micro_batches(trainer, chosen, self._last_count) else "split"
        if chosen == self.method_in_use:
            return
        self.method_in_use = chosen
        if self._observer is not None:
            self._observer.remove()
        self._observer = make_observer(chosen, trainer.lightning_module, self._parameters)
        self._pace = Every(default_period(chosen, self._parameters, self.budget), "steps")
        when = f", one step in {self._pace.n}" if self._paced else ""
        rank_zero_info(f"{self.name}: measuring by method={chosen!r}{when}.")

    # ---- during training ----

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember the batch, for its size; at the first one of an epoch, take up what other callbacks changed."""
        self._batch = (batch, batch_idx)
        if batch_idx == 0:
            with self._leaving_the_run_alone(trainer):
                for stream in self._streams:
                    stream.refresh()
                self._choose(trainer)
        with self._leaving_the_run_alone(trainer):
            if self._observer is not None and self._is_due(trainer):
                self._observer.before_forward(batch_length(batch))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Look at the backward pass of this micro-batch, if the schedule says so."""
        with self._leaving_the_run_alone(trainer):
            for stream in self._streams:
                stream.window.restart_if_zeroed()
            if self._observer is None or not self._is_due(trainer):
                return
            if not (self._observer.once_a_step and any(stream.window.has_seen for stream in self._streams)):
                seed = self.seed + trainer.global_step
                self._observer.before_backward(loss, batch_length(self._batch[0]), seed)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put what this micro-batch showed into the windows of the optimizers whose parameters it reached."""
        with self._leaving_the_run_alone(trainer):
            assert self._observer is not None
            batch, batch_idx = self._batch
            micro = MicroBatch(self._observer.collect(), batch_length(batch), batch_idx, self._observer.kind)
            for stream in self._streams:
                stream.window.add(micro)

    def on_before_zero_grad(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Begin the optimizer's window anew."""
        for stream in self._streams:
            if stream.optimizer is optimizer:
                stream.window.micro_batches.clear()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Make one observation of the window's micro-batches; gradients are reduced, unscaled and not yet clipped."""
        pairs = zip(self._streams, trainer.optimizers, strict=False)
        stream = next((stream for stream, held in pairs if held is optimizer), None)
        if stream is None:  # the user's own optimizer, unknown to the Trainer
            return
        micro_batches = stream.window.micro_batches
        self._last_count = len(micro_batches)
        due = False
        with self._leaving_the_run_alone(trainer):
            due = self._is_due(trainer)
        if not due:
            micro_batches.clear()
            return
        observation = None
        kind = micro_batches[0].kind if micro_batches else ""
        with self._leaving_the_run_alone(trainer):
            scaler = getattr(trainer.precision_plugin, "scaler", None)
            observation = stream.window.observe(
                divisor=trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1,
                # The public get_scale() waits for the device.
                scale=None if scaler is None else scaler._get_scale_async(),
            )
        if self._observer is not None and self._pace.n > 1:
            self._observer.remove()  # hooks that only pass by would cost time, too
        stream.add(observation, self._last_count, kind, several_ranks=trainer.world_size > 1)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Let the batch go, and report after an optimizer step if Lightning logs at it."""
        self._batch = (None, -1)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def should_measure(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Say whether to report: at the Trainer's logging steps and after every epoch, if anything was observed."""
        if not any(len(stream) for stream in self._streams):
            return False
        if self.event == "start":  # resumed from a checkpoint that was written before its epoch was reported
            return max((row.epoch for row in self.history), default=0.0) < trainer.current_epoch
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        return self.event == "epoch" or bool(every and completed_steps(trainer, self.event) % every == 0)

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> Measured:
        """Return the noise scales, with the observations since the last report."""
        values: dict[str | Sequence[str], Estimate | Tensor] = {}
        for stream in self._streams:
            if len(stream):
                values |= stream.report(trainer)
        return values

    def suggest_batch_size(self, optimizer: int | None = None) -> BatchSizeSuggestion:
        """Say whether to raise or lower the batch size, from the latest noise scale in the history.

        Args:
            optimizer: Which optimizer's, when there are several.

        Raises:
            ValueError: If nothing has been measured.
        """
        suffix = "" if optimizer is None else f"/optimizer_{optimizer}"
        last = self.history.last()
        scale, size = (last.get(self.key(f"{name}{suffix}")) for name in ("b_simple", "batch_size"))
        if scale is None or size is None:
            raise ValueError(f"{self.name}.suggest_batch_size(): nothing has been measured yet; train first.")
        return suggest_batch_size(scale.value, scale.lower, scale.upper, size.value)

    def bands(self) -> Sequence[str]:
        """Return the keys that have an interval."""
        return [f"{name}{s.suffix}" for s in self._streams for name in BANDS]

    def figures(self) -> Mapping[str, Figure]:
        """Return the noise scale with its band beside the batch size, over training."""
        from lightning_foresight.plotting.noise_scale import noise_scale

        table = {row.key for row in self.history}
        figures = {}
        for stream in self._streams:
            key = self.key(f"b_simple{stream.suffix}")
            if key in table:
                groups = {group: f"{key}/{group}" for group in stream.window.groups}
                figures[f"noise_scale{stream.suffix}"] = noise_scale(
                    self.history[key],
                    self.history[self.key(f"batch_size{stream.suffix}")],
                    {group: self.history[name] for group, name in groups.items() if name in table},
                )
        return figures

    def release(self) -> None:
        """Remove the hooks."""
        if self._observer is not None:
            self._observer.remove()
        self._batch = (None, -1)
        for stream in self._streams:
            stream.window.micro_batches.clear()

    def _finish(self, trainer: Trainer) -> None:
        # After an exception the other processes may be gone: no collective operation then.
        if self._running and trainer.world_size == 1:
            self.event = "step"
            with self._leaving_the_run_alone(trainer):
                if any(len(stream) for stream in self._streams):
                    model = trainer.lightning_module
                    self._record(trainer, model, self.measure(trainer, model))
        super()._finish(trainer)

    def _is_due(self, trainer: Trainer) -> bool:
        count = completed_steps(trainer, "start") + 1  # of the step that is being prepared
        if not self._paced:
            return self.schedule(trainer.current_epoch + 1 if schedule_unit(self.schedule) == "epochs" else count)
        return count == 1 or self._pace(count)

    # ---- checkpoints ----

    def state_dict(self) -> dict[str, Any]:
        """Return the history and the moments, with the observations that are not in them yet."""
        return super().state_dict() | {"streams": [stream.state() for stream in self._streams]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the history and the moments of a checkpoint."""
        super().load_state_dict(state_dict)
        self._restored = state_dict["streams"]
