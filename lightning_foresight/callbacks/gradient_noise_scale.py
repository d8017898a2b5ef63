"""Gradient noise scale while training: how large a batch would still pay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import Tensor, nn

from lightning_foresight.callbacks._noise_arguments import check_arguments, count_examples
from lightning_foresight.callbacks._noise_curvature import CurvatureRecord
from lightning_foresight.callbacks._noise_methods import Averaging, check_streams, make_streams, norm_parameters
from lightning_foresight.callbacks._noise_pace import NoisePace
from lightning_foresight.callbacks._noise_recorder import NoiseRecorder
from lightning_foresight.callbacks._noise_report import NoiseReport
from lightning_foresight.callbacks._noise_runs import check_run
from lightning_foresight.callbacks._progress import completed_steps
from lightning_foresight.callbacks._quiet_hooks import QuietHooks, silenceable, silenced, wake
from lightning_foresight.probes.gradient_groups import Groups, parameter_groups, select_parameters
from lightning_foresight.probes.gradient_preconditioner import OptimizerMetric
from lightning_foresight.probes.layers import LayerSpec
from lightning_foresight.probes.samples import batch_length

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer
    from torch.optim import Optimizer

HOOKS_OF_OBSERVED_STEPS = (
    *("on_before_backward", "on_after_backward", "on_before_zero_grad"),
    *("on_before_optimizer_step", "on_train_batch_end"),
)


class GradientNoiseScaleCallback(NoiseReport):
    r"""Logs the simple gradient noise scale, with a confidence interval, from the gradients training computes anyway.

    .. math:: \mathcal B_\text{simple} = \frac{\operatorname{tr}\Sigma}{|G|^2}

    in examples: :math:`\Sigma` is the covariance of per-example gradients, :math:`G` their mean. Batches well below
    it are dominated by noise, so doubling them nearly halves the number of steps; batches well above it waste examples.

    Every observation compares gradients of one step, at the same weights. Numerator and denominator are averaged
    separately, never clamped, and the ratio is taken last; gradients are measured before clipping and without the
    scaling of mixed precision. The run itself stays bit-identical.

    Logged metrics, every ``log_every_n_steps`` of the Trainer and at the end of every epoch:
        - ``gns/b_simple`` with ``gns/b_simple_lower`` and ``gns/b_simple_upper``, Fieller's interval. Where noise hides
          the gradient an end is infinite.
        - ``gns/trace_sigma`` and ``gns/grad_sq_norm``, the parts, with intervals.
        - ``gns/batch_size``, the examples of a step, all micro-batches and devices together: the most frequent of the
          latest 32 observed.
        - ``gns/efficiency``, :math:`B / (B + \mathcal B_\text{simple})` at that batch size: the progress of a step over
          that of a step without noise. Near 0 larger batches pay, near 1 they do not; 0 where ``grad_sq_norm`` is not
          positive, as nothing but noise is seen then.
        - ``gns/b_simple/<group>`` for the groups of ``groups``; ``gns/b_simple/optimizer_<i>`` instead of
          ``gns/b_simple`` when there are several optimizers.
        - ``gns/b_norm_layers`` with ``method="norm_layers"``: what these layers say before they are calibrated.
        - ``gns/b_noise``, ``gns/trace_h_sigma``, ``gns/grad_h_grad`` with ``hessian``:
          :math:`\operatorname{tr}(H\Sigma) / (G^\top H G)` and its parts. Where a part is negative there is no
          ``b_noise``, and a warning once.

    Args:
        method: ``"micro_batches"`` compares the micro-batches of ``accumulate_grad_batches`` and of all devices with
            their mean, at almost no cost. ``"split"`` sends a randomly signed gradient through the network's graph
            once more, which compares random halves of one batch. ``"per_example"`` works out the norm of every
            example's gradient from layer inputs and output gradients, for networks of linear, convolutional, embedding
            and normalisation layers. ``"norm_layers"`` does so for normalisation layers alone, more often, and
            calibrates them by one of the first two now and then. ``"auto"`` takes micro-batches where a step has more
            than one, else splits, and says what it chose.
        groups: ``"layers"``, ``"types"``, ``"param_groups"``, or a mapping from names to layers: noise scales of
            groups of parameters, besides the one of all.
        decay: Weight of an observation relative to the next one; 1 is the mean since the start.
        window: Average so many of the latest observations alike instead.
        confidence: Coverage of the intervals.
        budget: Share of the training time that each of ``"split"``, ``"per_example"``, ``"norm_layers"``, calibration
            and ``hessian`` may take; sets their period if ``every_n_steps`` is ``None``.
        preconditioner: ``"adam"`` measures in the metric of the optimizer, :math:`g^\top P g` with :math:`P = 1 /
            (\sqrt{\hat v} + \epsilon)` as it stands before the step; from the second step on.
        hessian: Measure ``b_noise``, too, by running ``training_step`` again on parts of the batch, in evaluation mode:
            as often as ``budget`` allows (ten times the cost of a step), or every so many steps.
        batch_size: Counts the examples of a batch, where that is not the length of its first tensor.
        every_n_steps: Observe at every n-th optimizer step; ``None`` is, for micro-batches, every step (every fifth
            where parameters are tiny), and else what ``budget`` allows.
        schedule: Observe when ``schedule(count)`` says so.
        layers: Measure the parameters of these layers only: names, globs, types, or rules.
        prefix: First segment of all keys, ``"gns"`` by default.
        per_layer: Log the values of groups; the history has them in any case.
        prog_bar: Show ``b_simple`` in the progress bar.
        log_figures: Draw the figure (needs the ``plot`` extra).
        seed: Seed of the signs of splits, and of the blocks of ``hessian``.

    Raises:
        ValueError: If an argument is out of range; and at the start of training, if the run cannot be measured.

    References:
        McCandlish et al. (2018), An empirical model of large-batch training, arXiv 1812.06162; Gray et al. (2024),
        Normalization layer per-example gradients are sufficient to predict gradient noise scale, arXiv 2411.00999.

    Example:
        >>> from lightning_foresight.callbacks import GradientNoiseScaleCallback
        >>> callback = GradientNoiseScaleCallback(groups="layers")
        >>> # Trainer(callbacks=[callback], accumulate_grad_batches=4).fit(model)
        >>> callback.key("b_simple")
        'gns/b_simple'
    """

    default_prefix: ClassVar[str] = "gns"
    measures_at_rest: ClassVar[bool] = False
    cost_arguments: ClassVar[Sequence[str]] = ("layers", "every_n_steps", "groups", "hessian")

    def __init__(
        self,
        *,
        method: Literal["auto", "micro_batches", "split", "per_example", "norm_layers"] = "auto",
        groups: Groups = None,
        decay: float = 0.99,
        window: int | None = None,
        confidence: float = 0.95,
        budget: float = 0.02,
        preconditioner: Literal["adam"] | None = None,
        hessian: bool | int = False,
        batch_size: Callable[[Any], int] | None = None,
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
        check_arguments(
            self.name,
            method=method,
            decay=decay,
            window=window,
            confidence=confidence,
            budget=budget,
            preconditioner=preconditioner,
            hessian=hessian,
            batch_size=batch_size,
        )
        self.method = method
        self.groups = groups
        self.averaging = Averaging(decay, window, confidence)
        self.budget = budget
        self.preconditioner = preconditioner
        self.hessian = hessian
        self.batch_size = batch_size or batch_length
        self._pace = NoisePace(
            self.name,
            method=method,
            schedule=None if every_n_steps is None and schedule is None else self.schedule,
            budget=budget,
            batch_size_known=batch_size is not None,
        )
        self._parameters: list[nn.Parameter] = []
        self._count = partial(count_examples, self.name, self.batch_size)
        self._recorder = NoiseRecorder([], nullcontext, self._count)
        self._curvature = CurvatureRecord(self.name, self.averaging, hessian, budget)
        self._restored: dict[str, Any] = {}
        self._planned, self._stepped, self._num_stepped = 0, False, 0
        self._hooks, self._rest_until = QuietHooks(self, ()), 0

    # ---- before training ----

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set up windows and memory for each optimizer, and choose the method."""
        # A run that ended with an error in another callback's on_exception never came to ours.
        wake(self, HOOKS_OF_OBSERVED_STEPS)
        self._recorder.let_go()
        check_run(self.name, trainer, self.method, adaptive=self.preconditioner is not None, curved=bool(self.hessian))
        named = select_parameters(pl_module, self.layers, owner=self.name)
        groups = parameter_groups(pl_module, named, self.groups, trainer.optimizers, owner=self.name)
        self._parameters = list(named.values())
        calibrated = self.method == "norm_layers"
        self._norm_layers = norm_parameters(self.name, pl_module, self._parameters) if calibrated else None
        self._metric = OptimizerMetric(trainer.optimizers, self._parameters) if self.preconditioner else None
        if self._recorder.streams:  # the same callback goes on in another fit
            self._restored = self._restored or self._state()
        streams = make_streams(
            trainer.optimizers, named, groups, self._norm_layers,
            device=pl_module.device, averaging=self.averaging, metric=self._metric,
        )  # fmt: skip
        check_streams(self.name, self.layers, streams)
        self._recorder = NoiseRecorder(streams, partial(self.leaving_the_run_alone, trainer), self._count)
        self._curvature = CurvatureRecord(self.name, self.averaging, self.hessian, self.budget)
        self._planned, self._stepped, self._num_stepped = 0, False, 0
        self._hooks, self._rest_until = QuietHooks(self, self._hooks_of_observed_steps(trainer, pl_module)), 0
        self._pace.restart()
        previous, self._restored = self._restored, {}
        if trainer.global_step and previous:
            self._go_on(previous)
        self._choose(trainer)

    def _hooks_of_observed_steps(self, trainer: Trainer, pl_module: LightningModule) -> list[str]:
        # In manual optimization a step may begin within a batch; a rule of the user's own may report at any step.
        if not pl_module.automatic_optimization or type(self).should_measure is not NoiseReport.should_measure:
            return []
        return silenceable(self, GradientNoiseScaleCallback, HOOKS_OF_OBSERVED_STEPS, trainer)

    def _choose(self, trainer: Trainer) -> None:
        self._pace.choose(trainer, self._recorder, self._parameters, self._norm_layers, self._metric)

    # ---- during training ----

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Decide who looks at the step that begins; at the first of an epoch, take up what other callbacks changed."""
        if batch_idx and trainer.fit_loop.epoch_loop._batches_that_stepped < self._rest_until:
            return
        automatic = pl_module.automatic_optimization
        # In manual optimization a batch need not step, and only the first step tells how many of them make one.
        if batch_idx == 0 or (not automatic and self._num_stepped == 1 == self._planned):
            with self.leaving_the_run_alone(trainer):
                for stream in self._recorder.streams:
                    stream.refresh()
                self._choose(trainer)
        # Of the step that is being prepared.
        count = 1 + (completed_steps(trainer, "start") if automatic else self._num_stepped)
        if count != self._planned:  # else it goes on accumulating
            self._plan(trainer, pl_module, count, batch, batch_idx)
        if self._recorder.is_looking:
            self._recorder.before_forward(batch)

    def _plan(self, trainer: Trainer, pl_module: LightningModule, count: int, batch: Any, batch_idx: int) -> None:
        self._planned = count
        try:
            self._recorder.look(self._pace.who_looks(trainer, count, len(self._recorder.observers)))
        except Exception as error:  # of the user's schedule
            self._recorder.look([])
            self._note(error, trainer)
        if self._curvature.is_due(count):
            with self.leaving_the_run_alone(trainer):
                size, seed = self._count(batch), self.seed + trainer.global_step
                self._curvature.observe(
                    pl_module, self._parameters, batch, batch_idx, size, self._pace.num_due, seed=seed
                )
        if not self._hooks.names:
            return
        # The last callback of ours writes for all of them.
        reports = self._has_news() or len(self._siblings(trainer)) > 1
        every = trainer.log_every_n_steps if reports else 0  # type: ignore[attr-defined]
        if self._recorder.is_looking or (every and count % every == 0):
            self._hooks.wake()
            return
        self._hooks.hush()
        periods = [period for period in (self._pace.period, self._curvature.period, every) if period]
        self._rest_until = min(count // period * period + period for period in periods) - 1

    # What follows is passed over in automatic optimization where nobody looks, and costs next to nothing elsewhere.

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Look at the backward pass of this micro-batch."""
        if self._recorder.is_looking:
            self._recorder.before_backward(loss, seed=self.seed + trainer.global_step)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what this micro-batch showed."""
        self._recorder.after_backward()

    def on_before_zero_grad(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Begin the optimizer's step anew."""
        self._recorder.restart(optimizer)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Make one observation of the step's micro-batches; gradients are reduced, unscaled and not yet clipped."""
        self._stepped = True
        if not self._recorder.is_looking:
            self._recorder.pass_by(optimizer)
            return
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        count = self._recorder.before_step(
            optimizer,
            divisor=trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1,
            # The public get_scale() waits for the device.
            scale=None if scaler is None else scaler._get_scale_async(),
            several_ranks=trainer.world_size > 1,
        )
        # A step without a backward pass, as when training_step returned None, is made up for by the next one.
        self._pace.owe(not count and trainer.world_size == 1)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Let the batch go, and report after an optimizer step if Lightning logs at it."""
        if self._recorder.is_looking:
            if self._stepped and not self._pace.every_step:
                self._recorder.remove()  # hooks that only pass by would cost time, too
            self._recorder.forget_batch()
        if self._stepped:  # else it goes on accumulating
            self._stepped = False
            self._num_stepped += 1
            self._handle("step", trainer, pl_module)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out which hooks are silent: a copy is in no run."""
        quiet = silenced(self, HOOKS_OF_OBSERVED_STEPS)
        return {name: value for name, value in vars(self).items() if name not in quiet}

    def release(self) -> None:
        """Remove the hooks."""
        self._hooks.wake()
        self._recorder.let_go()
