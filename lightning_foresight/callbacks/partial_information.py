"""PIDCallback: how a layer's knowledge of the target is spread over its neurons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor, nn

from lightning_foresight.callbacks._base import ForesightCallback, Measured
from lightning_foresight.callbacks._pid_measures import averaged, mutual_information_of
from lightning_foresight.callbacks._pid_sources import (
    Codes,
    SourceRule,
    check_sources,
    codes_of,
    source_sets,
    table_of,
)
from lightning_foresight.callbacks._plane_samples import (
    PlaneSamples,
    TargetRule,
    TargetRules,
    default_layers,
    has_output,
    reached_layers,
)
from lightning_foresight.functional._checks import check_choice, check_int, fail
from lightning_foresight.functional._trace import first_tensor
from lightning_foresight.functional.discrete_entropy import CORRECTIONS
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.partial_information import JointRows
from lightning_foresight.metrics.joint_table import JointTable
from lightning_foresight.probes.activations import REDUCTIONS, capture_activations
from lightning_foresight.probes.isolation import undisturbed
from lightning_foresight.probes.layers import LayerSpec, select_layers

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import LightningModule, Trainer

_KEYS = {"complexity": ("complexity",), "invariants": ("mi", "redundancy", "vulnerability")}
_FIGURES = {
    "complexity": "representational complexity C",
    "redundancy": "degree of redundancy r",
    "vulnerability": "degree of vulnerability v",
}
_FEW = 6  # sources that the lattice can take
_WARN_SATURATION = 0.5


class PIDCallback(ForesightCallback):
    r"""Log how many neurons it takes to find what a layer knows of the target, and how often it is told.

    Activations are quantised and counted; everything is the plug-in value on these samples. Its bias is the pitfall of
    this field: look at ``saturation`` first (above 0.5 the callback warns: nearly every sample is a state of its own,
    and vulnerability tends to 0 whatever the layer does) and at ``mi_null`` second, which is what the same samples read
    with shuffled labels, where the truth is 0.

    Logged metrics:
        - ``pid/<layer>/complexity``: representational complexity C (shared exclusions), 1 to the number of sources.
        - ``pid/<layer>/mi`` and ``pid/<layer>/mi_null``: I(S;T) in bits, and with shuffled labels.
        - ``pid/<layer>/redundancy`` and ``pid/<layer>/vulnerability``: Shannon invariants r and v.
        - ``pid/<layer>/saturation``: H(S,T) over log2 of the number of samples, in [0, 1].
        - ``pid/<layer>/<name of a metric>`` for metrics of your own.
        - figures ``pid/complexity``, ``pid/redundancy``, ``pid/vulnerability``.

    With several sets of sources (``"random:26x5"``) a value is their mean, with the standard error of that mean; with
    ``bootstrap`` its error is that of resampled rows.

    Args:
        measure: ``"complexity"``, ``"invariants"``, a :class:`~lightning_foresight.metrics.JointTable` metric, or a
            sequence of them.
        sources: What a source is: ``"neurons"``; ``"groups:5"``, neighbouring neurons in 5 groups; groups of one's own,
            ``[(0, 1), (2, 3)]``; ``"random:26x5"``, 26 random sets of 5 neurons; or ``"auto"``: all neurons of layers
            of up to 6, and for wider ones ``"random:10x5"`` for the complexity and all neurons for the rest.
        target: ``"label"``, ``"prediction"`` (largest output), ``"input"`` (which sample it is), or a function from a
            batch to integer labels.
        quantizer: Number of levels, between the limits of the layer's activation function, else of its data; a
            :class:`~lightning_foresight.training.QuantizeActivations`; or a function from activations to codes.
        correction: Bias correction of ``mi`` and ``mi_null``, a name that
            :func:`~lightning_foresight.functional.discrete_entropy` knows.
        null: Measure ``mi_null``.
        bootstrap: Number of resamples for error bars; 0 for none.
        dataloader: Where the samples come from: ``"val"`` (training data where there is no validation loader),
            ``"train"``, a DataLoader, or tensors ``(inputs, targets)``.
        num_samples: How many samples; the same ones for the whole run.
        reduce: How an activation becomes neurons, as in InfoPlaneCallback.
        layers: Which outputs to watch; by default those of activation modules and of the last layer with weights.
        every_n_epochs: See :class:`ForesightCallback`, as for all further arguments.
        every_n_steps: See :class:`ForesightCallback`.
        schedule: See :class:`ForesightCallback`.
        prefix: See :class:`ForesightCallback`.
        per_layer: See :class:`ForesightCallback`.
        prog_bar: See :class:`ForesightCallback`.
        log_figures: See :class:`ForesightCallback`.
        seed: See :class:`ForesightCallback`.

    Raises:
        ValueError: For an unknown measure, rule of sources, target, correction or layer, or fewer than two samples.

    Example:
        >>> from lightning_foresight.callbacks import PIDCallback
        >>> PIDCallback(sources="random:26x5", quantizer=8, num_samples=5000).prefix
        'pid'
    """

    default_prefix: ClassVar[str] = "pid"

    def __init__(
        self,
        *,
        measure: str | JointTable | Sequence[str | JointTable] = ("complexity", "invariants"),
        sources: SourceRule = "auto",
        target: Literal["label", "prediction", "input"] | TargetRule = "label",
        quantizer: Codes = 8,
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
        measures = [measure] if isinstance(measure, (str, JointTable)) else list(measure)
        for one in measures:
            if not isinstance(one, JointTable):
                check_choice(self.name, "measure", one, _KEYS)
        if sources != "auto":
            check_sources(self.name, sources)
        if not callable(target):
            check_choice(self.name, "target", target, ("label", "prediction", "input"))
        if not callable(quantizer):
            check_int(self.name, "quantizer", quantizer, 2)
        check_choice(self.name, "correction", correction, CORRECTIONS)
        check_int(self.name, "bootstrap", bootstrap, 0)
        check_int(self.name, "num_samples", num_samples, 2)
        if not callable(reduce):
            check_choice(self.name, "reduce", reduce, REDUCTIONS)
        self.measures = measures
        self._has_invariants = any(isinstance(one, str) and one == "invariants" for one in measures)
        self.sources = sources
        self.target = target
        self.quantizer = quantizer
        self.correction = correction
        self.null = null
        self.bootstrap = bootstrap
        self.dataloader = dataloader
        self.num_samples = num_samples
        self.reduce = reduce if callable(reduce) else REDUCTIONS[reduce]
        self._modules: dict[str, nn.Module] = {}
        self._samples = PlaneSamples()
        self._warned: set[str] = set()

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the layers and fix the samples."""
        self._modules = select_layers(
            pl_module, self.layers, measurable=has_output, default=default_layers(pl_module), owner=self.name
        )
        rule: TargetRules = self.target if callable(self.target) else None if self.target == "label" else {}
        self._samples = PlaneSamples.draw(
            trainer, pl_module, self.dataloader, self.num_samples, rule, seed=self.seed, owner=self.name
        )
        if rule is None and not self._samples.labels:
            fail(self.name, "target", self.target, "the batches hold no labels; pass target=function of the batch.")
        with undisturbed(pl_module, seed=self.seed), trainer.precision_plugin.forward_context():
            self._modules = reached_layers(
                self._modules,
                self.layers is not None,
                lambda: self.run_model(pl_module, self._samples.batches[0]),
                self.name,
            )

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> Measured:
        """Run the model on the samples, count the codes of every layer, and decompose."""
        outputs: list[Tensor] = []
        with undisturbed(pl_module, seed=self.seed), trainer.precision_plugin.forward_context():
            captured = capture_activations(
                self._modules,
                self._samples.batches,
                lambda batch: outputs.append(self.run_model(pl_module, batch)),
                self.reduce,
            )
        target = self._target(outputs)
        measured: dict[str | Sequence[str], Estimate | Tensor] = {}
        for layer, activation in captured.items():
            module = self._modules[layer.split(":")[0]]
            codes = codes_of(activation.float(), module, self.quantizer)
            for key, value in self._decompose(layer, codes, target).items():
                measured[f"{layer}/{key}"] = value
        return measured

    def bands(self) -> Sequence[str]:
        """Values with an error bar: all of them with a bootstrap, else those of random sets."""
        keys = [key for measure in self.measures if isinstance(measure, str) for key in _KEYS[measure]]
        return [f"{layer}/{key}" for layer in self._modules for key in keys] if self.bootstrap else []

    def figures(self) -> Mapping[str, Figure]:
        """Draw complexity, redundancy and vulnerability of every layer over training."""
        from lightning_foresight.plotting.curves import curves

        figures = {}
        keys = self.history.keys()
        for measure, label in _FIGURES.items():
            lines = {key.split("/")[1]: self.history[key] for key in keys if key.endswith(f"/{measure}")}
            if lines:
                figures[measure] = curves(lines, ylabel=label)
        return figures

    def release(self) -> None:
        """Drop the samples and the model's layers."""
        self._modules = {}
        self._samples = PlaneSamples()

    def _target(self, outputs: list[Tensor]) -> Tensor:
        if self.target == "prediction":
            return torch.cat([_first(output).flatten(1).argmax(1) for output in outputs])
        if self.target == "input":
            return torch.arange(len(self._samples.shuffle), device=self._samples.shuffle.device)
        return next(iter(self._samples.labels.values()))

    def _decompose(self, layer: str, codes: Tensor, target: Tensor) -> dict[str, Estimate | Tensor]:
        target = target.to(codes.device)
        width = codes.shape[1]
        auto = self.sources == "auto"
        rule = "neurons" if auto else self.sources
        narrow = rule if not auto or width <= _FEW else "random:10x5"
        generator = torch.Generator(codes.device).manual_seed(self.seed)
        found: dict[str, Estimate | Tensor] = {}
        tables: dict[str, list[JointRows]] = {}
        for measure in self.measures:
            sources = narrow if isinstance(measure, str) and measure == "complexity" else rule
            if str(sources) not in tables:
                sets = source_sets(self.name, sources, width, self.seed)
                tables[str(sources)] = [table_of(codes, groups, target) for groups in sets]
            values = averaged(tables[str(sources)], measure, self.correction, self.bootstrap, generator)
            # Without information a ratio is no number: the layer has no complexity then, rather than a failed one.
            found |= {key: value for key, value in values.items() if not bool(value.value.isnan())}
        if self._has_invariants and self.null:
            shuffled = target[self._samples.shuffle.to(target.device)]
            sets = source_sets(self.name, rule, width, self.seed)
            null = [mutual_information_of(table_of(codes, groups, shuffled), self.correction) for groups in sets]
            # A number to compare with, not an estimate of anything: it has no interval of its own.
            found["mi_null"] = torch.stack(null).mean()
        self._warn_of_saturation(layer, found.get("saturation"))
        return found

    def _warn_of_saturation(self, layer: str, saturation: Estimate | Tensor | None) -> None:
        if not isinstance(saturation, Estimate) or layer in self._warned:
            return
        value = float(saturation.value)
        if value > _WARN_SATURATION:
            self._warned.add(layer)
            rank_zero_warn(
                f"{self.name}: layer {layer!r} has a saturation of {value:.2f}: its samples are nearly all states of "
                "their own, so that the values say more about their number than about the layer. Take more samples "
                "(num_samples=), fewer levels (quantizer=), or fewer sources (sources='random:10x3')."
            )


def _first(output: Any) -> Tensor:
    tensor = first_tensor(output)
    if tensor is None:
        raise TypeError("PIDCallback(target='prediction'): the model returned no tensor; pass target=function instead.")
    return tensor
