"""PIDCallback: how a layer's knowledge of the target is spread over its neurons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_foresight.callbacks._base import ForesightCallback, Measured
from lightning_foresight.callbacks._pid_arguments import check_arguments, check_measures, predictions
from lightning_foresight.callbacks._pid_codes import Limits, Quantizer
from lightning_foresight.callbacks._pid_layers import Recipe
from lightning_foresight.callbacks._pid_measures import KEYS
from lightning_foresight.callbacks._pid_saturation import SaturationWarning
from lightning_foresight.callbacks._pid_sources import SourceRule
from lightning_foresight.callbacks._plane_samples import PlaneSamples, TargetRule, TargetRules
from lightning_foresight.callbacks._samples import leading_batches
from lightning_foresight.callbacks._watched_layers import watched_layers
from lightning_foresight.functional._checks import fail
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.metrics.joint_table import JointTable
from lightning_foresight.probes.activations import REDUCTIONS, capture_activations
from lightning_foresight.probes.isolation import undisturbed
from lightning_foresight.probes.layers import LayerSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import LightningModule, Trainer

_FIGURES = {
    "complexity": ("Representational complexity", "C in neurons"),
    "redundancy": ("Degree of redundancy", "r in neurons"),
    "vulnerability": ("Degree of vulnerability", "v in neurons"),
    "mi": ("Information about the target", "I(S;T) in bits"),
}
_FEW = 64  # samples that are tried before training


class PIDCallback(ForesightCallback):
    r"""Log how many neurons it takes to find what a layer knows of the target, and how often it is told.

    Activations are quantised and counted; everything is the plug-in value on these samples. Its bias is the pitfall of
    this field: look at ``saturation`` first (above 0.5 the callback warns: nearly every sample is a state of its own,
    and vulnerability tends to 0 whatever the layer does) and at the nulls second, which are what the same samples read
    with shuffled labels, where there is nothing to know. Figures draw them as dashed lines.

    Logged metrics:
        - ``pid/<layer>/mi``: I(S;T) in bits.
        - ``pid/<layer>/complexity``: representational complexity C (shared exclusions), 1 to the number of sources.
        - ``pid/<layer>/redundancy`` and ``pid/<layer>/vulnerability``: Shannon invariants r and v.
        - ``pid/<layer>/mi_null`` and ``pid/<layer>/complexity_null``: the same with shuffled labels.
        - ``pid/<layer>/saturation``: H(S,T) over log2 of the number of samples, in [0, 1];
          ``pid/<layer>/complexity_saturation`` where the complexity has other sources than the rest.
        - ``pid/<layer>/<name of a metric>`` for metrics of your own.
        - figures ``pid/complexity``, ``pid/redundancy``, ``pid/vulnerability``, ``pid/mi``.

    With several sets of sources (``"random:26x5"``) a value is their mean, with the standard error of that mean; with
    ``bootstrap`` its error is that of resampled samples; for a band over seeds see
    :class:`~lightning_foresight.ensemble.SeedEnsemble`.

    Args:
        measure: ``"complexity"``, ``"invariants"``, a :class:`~lightning_foresight.metrics.JointTable` metric, or a
            sequence of them. The mutual information and its null come with any of them.
        sources: What a source is: ``"neurons"``; ``"groups:5"``, neighbouring neurons in 5 groups; groups of one's own,
            ``[(0, 1), (2, 3)]``; ``"random:26x5"``, 26 random sets of 5 neurons (layers of no more are taken whole);
            or ``"auto"``: all neurons of layers of up to 6, and for wider ones ``"random:10x5"`` for the complexity
            and all neurons for the rest.
        target: ``"label"``, ``"prediction"`` (largest output), ``"input"`` (which sample it is), or a function from a
            batch to integer labels.
        quantizer: Number of levels, or ``"center:8"``: the nearest of 8 levels, two of them on the limits;
            ``"stochastic:8"``: one of the two next levels at random, so that the mean is kept; ``"bins:30"``: 30 bins
            of equal width between the limits; ``"noisy:8x0.1"``: bins for neurons with Gaussian noise of standard
            deviation 0.1, see :func:`~lightning_foresight.functional.noisy_table`; a
            :class:`~lightning_foresight.training.QuantizeActivations`; or a function from activations to codes. A
            layer that is a ``QuantizeActivations`` keeps its own levels.
        limits: Where the levels or bins lie: ``"activation"``, the range of the layer's activation function where it
            has one, else that of its data; ``"data"``; or a pair ``(low, high)``.
        correction: Bias correction of the entropies in ``mi``, ``mi_null`` and, for up to 64 sources, in redundancy
            and vulnerability, a name that :func:`~lightning_foresight.functional.discrete_entropy` knows. Shared
            exclusions are logarithms of unions and no entropies: the complexity has no correction, only its null.
        null: Measure the nulls.
        bootstrap: Number of resamples for error bars; 0 for none.
        dataloader: Where the samples come from: ``"val"`` (training data where there is no validation loader),
            ``"train"``, a DataLoader, or tensors ``(inputs, targets)``.
        num_samples: How many samples; the same ones for the whole run.
        reduce: How an activation becomes neurons, as in InfoPlaneCallback.
        layers: Which outputs to watch; by default those of activation modules, of linear layers that lead straight into
            the next one, as a bare bottleneck does, and of the last layer with weights, as far as they give a row for
            each sample.
        every_n_epochs: See :class:`ForesightCallback`, as for all further arguments.
        every_n_steps: See :class:`ForesightCallback`.
        schedule: See :class:`ForesightCallback`.
        prefix: See :class:`ForesightCallback`.
        per_layer: See :class:`ForesightCallback`.
        prog_bar: See :class:`ForesightCallback`.
        log_figures: See :class:`ForesightCallback`.
        seed: See :class:`ForesightCallback`.

    Raises:
        TypeError: If a switch is neither True nor False, or ``dataloader`` holds no batches.
        ValueError: For an unknown measure, rule of sources, target, quantizer, correction or layer, sources that no
            layer has, targets that are no labels, predictions of a model with one output, a layer whose first axis is
            not that of the samples, or fewer than two samples.

    Example:
        >>> from lightning_foresight.callbacks import PIDCallback
        >>> PIDCallback(sources="random:26x5", quantizer=8, num_samples=5000).prefix
        'pid'
    """

    default_prefix: ClassVar[str] = "pid"
    cost_arguments: ClassVar[Sequence[str]] = ("layers", "every_n_epochs", "num_samples", "sources")

    def __init__(
        self,
        *,
        measure: str | JointTable | Sequence[str | JointTable] = ("complexity", "invariants"),
        sources: SourceRule = "auto",
        target: Literal["label", "prediction", "input"] | TargetRule = "label",
        quantizer: Quantizer = 8,
        limits: Limits = "activation",
        correction: str = "none",
        null: bool = True,
        bootstrap: int = 0,
        dataloader: Any = "val",
        num_samples: int = 10_000,
        reduce: str | Callable[[Tensor], Tensor] = "flatten",
        layers: LayerSpec | None = None,
        every_n_epochs: int | None = 1,
        every_n_steps: int | None = None,
        schedule: Callable[[int], bool] | None = None,
        prefix: str | None = None,
        per_layer: bool = True,
        prog_bar: bool = False,
        log_figures: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(
            every_n_epochs=every_n_epochs,
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
            sources=sources,
            target=target,
            quantizer=quantizer,
            limits=limits,
            correction=correction,
            null=null,
            bootstrap=bootstrap,
            dataloader=dataloader,
            num_samples=num_samples,
            reduce=reduce,
        )
        self.measures = check_measures(self.name, measure, quantizer)
        self.sources = sources
        self.target = target
        self.quantizer = quantizer
        self.limits = limits
        self.correction = correction
        self.null = null
        self.bootstrap = bootstrap
        self.dataloader = dataloader
        self.num_samples = num_samples
        self.reduce = reduce if callable(reduce) else REDUCTIONS[reduce]
        self._modules: dict[str, nn.Module] = {}
        self._samples = PlaneSamples()
        self._saturation = SaturationWarning(self.name)

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the layers, fix the samples, and measure a few of them, so that mistakes show before training."""
        self._saturation = SaturationWarning(self.name)
        rule: TargetRules = self.target if callable(self.target) else None if self.target == "label" else {}
        self._samples = PlaneSamples.draw(
            trainer,
            pl_module,
            self.dataloader,
            self.num_samples,
            rule,
            seed=self.seed,
            owner=self.name,
            argument="target",
        )
        if rule is None and not self._samples.labels:
            expected = "the batches hold no labels; pass target='prediction', target='input' (which sample it is) or a "
            fail(self.name, "target", self.target, f"{expected}function of the batch.")
        self._modules = watched_layers(self, trainer, pl_module, self._samples.batches[0], self.reduce)
        with undisturbed(pl_module, seed=self.seed), trainer.precision_plugin.forward_context():
            try:
                self._attempt(pl_module, leading_batches(self._samples.batches, _FEW), _FEW)
            except (TypeError, ValueError):  # which more samples may help
                self._attempt(pl_module, self._samples.batches, None)

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> Measured:
        """Run the model on the samples, count the codes of every layer, and decompose."""
        with undisturbed(pl_module, seed=self.seed), trainer.precision_plugin.forward_context():
            captured, outputs = self._run(pl_module, self._samples.batches)
        target = self._target(outputs)
        shuffled = target[self._samples.shuffle.to(target.device)]
        measured: dict[str | Sequence[str], Estimate | Tensor] = {}
        for layer, activation in captured.items():
            with self.working_on(layer):
                values = self._recipe.measure(layer, self._module_of(layer), activation.float(), target, shuffled)
                self._saturation.look(layer, values)
                measured |= {f"{layer}/{key}": value for key, value in values.items()}
        self._saturation.tell(target)
        return measured

    def bands(self) -> Sequence[str]:
        """Values that may have an error: all of them with a bootstrap, else means over random sets."""
        keys = ["mi", *(key for measure in self.measures if isinstance(measure, str) for key in KEYS[measure])]
        return [f"{layer}/{key}" for layer in self._modules for key in keys]

    def figures(self) -> Mapping[str, Figure]:
        """Draw complexity, redundancy and vulnerability of every layer over training."""
        from lightning_foresight.plotting.curves import curves

        figures = {}
        keys = self.history.keys()
        for measure, (title, label) in _FIGURES.items():
            lines = {key.split("/")[1]: self.history[key] for key in keys if key.endswith(f"/{measure}")}
            nulls = {key.split("/")[1]: self.history[key] for key in keys if key.endswith(f"/{measure}_null")}
            if lines:
                figures[measure] = curves(lines, ylabel=label, title=title, nulls=nulls)
        return figures

    def release(self) -> None:
        """Drop the samples and the model's layers."""
        self._modules = {}
        self._samples = PlaneSamples()

    def _run(self, pl_module: LightningModule, batches: list[Any]) -> tuple[dict[str, Tensor], list[Any]]:
        """Return the activations of every layer and what the model returned."""
        outputs: list[Any] = []
        captured = capture_activations(
            self._modules, batches, lambda batch: outputs.append(self.run_model(pl_module, batch)), self.reduce
        )
        return captured, outputs

    def _attempt(self, pl_module: LightningModule, batches: list[Any], num_rows: int | None) -> None:
        captured, outputs = self._run(pl_module, batches)
        for layer, activation in captured.items():
            self._recipe.attempt(layer, self._module_of(layer), activation[:num_rows].float(), self._target(outputs))

    def _target(self, outputs: list[Any]) -> Tensor:
        if self.target == "prediction":
            return torch.cat([predictions(output) for output in outputs])
        if self.target == "input":
            return torch.arange(len(self._samples.shuffle), device=self._samples.shuffle.device)
        return next(iter(self._samples.labels.values()))

    @property
    def _recipe(self) -> Recipe:
        return Recipe(
            self.name,
            self.measures,
            self.sources,
            self.quantizer,
            self.limits,
            self.correction,
            self.null,
            self.bootstrap,
            self.seed,
        )

    def _module_of(self, layer: str) -> nn.Module:
        return self._modules[layer.split(":")[0]]
