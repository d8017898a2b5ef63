"""The information plane of hidden layers, while the network trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor, nn

from lightning_foresight.callbacks._base import ForesightCallback, Measured
from lightning_foresight.callbacks._plane_arguments import check_switch, check_targets, resolve_estimator
from lightning_foresight.callbacks._plane_layers import layers_in_words
from lightning_foresight.callbacks._plane_samples import PlaneSamples, TargetRules
from lightning_foresight.callbacks._plane_saturation import SATURATED, SaturationNotice
from lightning_foresight.callbacks._plane_trial import try_measure
from lightning_foresight.callbacks._plane_values import PlaneValues
from lightning_foresight.callbacks._samples import check_source
from lightning_foresight.callbacks._watched_layers import watched_layers
from lightning_foresight.functional._checks import check_choice, check_int
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.mutual_information import check_layer_pair_estimator
from lightning_foresight.metrics.dependence import DependenceMetric
from lightning_foresight.probes.activations import REDUCTIONS, capture_activations
from lightning_foresight.probes.isolation import undisturbed
from lightning_foresight.probes.layers import LayerSpec
from lightning_foresight.probes.samples import cut_batch

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import LightningModule, Trainer

    from lightning_foresight.history import Row


class InfoPlaneCallback(ForesightCallback):
    r"""Log I(X;T) and I(T;Y) of hidden layers on a fixed set of samples, and draw the information plane.

    For a deterministic layer with continuous activations I(X;T) is infinite; what a finite value shows is the geometry
    of the activations at the resolution of the estimator: a bin width, or the variance of added noise. Look at
    ``saturation`` first: near 1, I(X;T) is log2 of the number of samples and says nothing about the layer. Look at
    ``I_TY_null`` second: what the same estimator reads for shuffled labels, where the truth is 0.

    Logged metrics:
        - ``info_plane/<layer>/I_XT`` with ``_lower`` and ``_upper``: information about the input, in bits. With noise
          the ends are a bracket for all inputs of which these are samples, so that the upper one may exceed log2 n.
          Loggers get that of a saturated layer as infinite, so that TensorBoard draws no band; the history has it.
        - ``info_plane/<layer>/I_TY`` with ``_lower`` and ``_upper``: information about the target, in bits;
          ``I_TY_<name>`` for several targets.
        - ``info_plane/<layer>/I_TY_null``: the same for shuffled labels.
        - ``info_plane/<layer>/saturation``: I(X;T) over its largest possible value, in [0, 1]; above 0.95 the callback
          says so, once a run.
        - ``info_plane/<layer>/I_TT`` (with ``adjacent``): information between a layer and the next one, and
          ``info_plane/data_processing_gap``: the largest rise of I(X;T) from one layer to the next, which no chain of
          layers can have, so that it measures how far the estimator's resolution differs between layers.
        - figures ``info_plane/plane`` and, with ``adjacent``, ``info_plane/I_TT``.

    Args:
        estimator: A name: ``"auto"`` (noise of 5% of a layer's size, the root mean square of its units' standard
            deviations, for I(X;T), or as the options ``relative_noise``, ``noise_std`` say; nearest neighbours for
            I(T;Y)),
            ``"binned"`` (options ``bins``, ``bin_width``, ``correction``), ``"kde"`` (``noise_variance``, ``bound``)
            or another one of :data:`~lightning_foresight.functional.ESTIMATORS`, see
            :func:`~lightning_foresight.functional.input_information`; or an instance of
            :class:`~lightning_foresight.metrics.DependenceMetric`, which compares the inputs with the activations and
            the activations with the labels (one-hot rows). ``"hsic"``, ``"nhsic"``, ``"cka"`` and
            ``"distance_correlation"`` are measures of dependence: what they log is no bits. Use several callbacks for
            several estimators.
        options: Options of the estimator, as a mapping.
        preset: Estimator and options of a published plane instead: ``"shwartz-ziv-2017"``, ``"saxe-2018"``,
            ``"goldfeld-2019"`` or ``"pyglow"``.
        dataloader: Where the samples come from: ``"val"`` (training data where there is no validation loader),
            ``"train"``, a DataLoader, or tensors ``(inputs, targets)``. The model is run on them batch by batch, in
            evaluation mode, and transfer hooks are called as in validation, without the augmentations of training.
        num_samples: How many samples; the same ones for the whole run.
        targets: Targets of a batch, as a function ``batch -> integer labels``, or several by name; by default the
            second entry of a tuple, or ``label``, ``labels``, ``target``, ``targets`` or ``y`` of a mapping.
        reduce: How an activation becomes a row of features: ``"flatten"``, ``"mean_tokens"`` or ``"last_token"``
            (samples, tokens, features), ``"mean_pixels"`` (samples, channels, ...), or a function.
        null: Measure I(T;Y) of shuffled labels, too.
        adjacent: Measure the information between adjacent layers, too.
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
        seed: See :class:`ForesightCallback`; that of the estimator's draws, too, unless ``options`` have a ``seed``.
            All layers share it.

    Raises:
        ValueError: For an unknown estimator, option, reduction or layer, fewer than two samples, targets that are no
            labels, or a layer whose first axis is not that of the samples.
        TypeError: For an argument of a type that it cannot have.

    Example:
        >>> from lightning_foresight import InfoPlaneCallback
        >>> callback = InfoPlaneCallback(estimator="binned", options={"bins": 30}, num_samples=1000)
        >>> callback.prefix
        'info_plane'
    """

    default_prefix: ClassVar[str] = "info_plane"
    cost_arguments: ClassVar[Sequence[str]] = ("layers", "every_n_epochs", "num_samples", "estimator")

    def __init__(
        self,
        *,
        estimator: str | DependenceMetric = "auto",
        options: dict[str, Any] | None = None,
        preset: Literal["shwartz-ziv-2017", "saxe-2018", "goldfeld-2019", "pyglow"] | None = None,
        dataloader: Any = "val",
        num_samples: int = 2000,
        targets: TargetRules = None,
        reduce: str | Callable[[Tensor], Tensor] = "flatten",
        null: bool = True,
        adjacent: bool = False,
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
        check_int(self.name, "num_samples", num_samples, minimum=2)
        if not callable(reduce):
            check_choice(self.name, "reduce", reduce, REDUCTIONS)
        check_source(self.name, dataloader)
        check_targets(self.name, targets)
        check_switch(self.name, "null", null)
        check_switch(self.name, "adjacent", adjacent)
        estimator, self.options = resolve_estimator(self.name, estimator, options, preset)
        if adjacent and isinstance(estimator, str):
            check_layer_pair_estimator(self.name, estimator, self.options)
        self.estimator = estimator
        self.dataloader = dataloader
        self.num_samples = num_samples
        self.targets = targets
        self.reduce = reduce if callable(reduce) else REDUCTIONS[reduce]
        self.null = null
        self.adjacent = adjacent
        self._modules: dict[str, nn.Module] = {}
        self._samples = PlaneSamples()
        self._values = PlaneValues(estimator, self.options, null=null, seed=seed)
        self._saturation = SaturationNotice(self.name, estimator, self.options)

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the layers and fix the samples."""
        self._samples = PlaneSamples.draw(
            trainer, pl_module, self.dataloader, self.num_samples, self.targets, seed=self.seed, owner=self.name
        )
        if isinstance(self.estimator, str) and not self._values.unit:
            what = "What is logged as I_XT and I_TY is its value between layer and inputs or labels, not bits."
            rank_zero_info(f"{self.name}: {self.estimator!r} has no unit. {what}")
        if not self._samples.labels:
            missing = "the batches hold no targets, so I(T;Y) is not measured. Pass targets=function."
            rank_zero_info(f"{self.name}: {missing}")
        batch = self._samples.batches[0]
        self._modules = watched_layers(self, trainer, pl_module, batch, self.reduce)
        if self.layers is None:
            few = cut_batch(batch, 2)  # all tensors between the layers are kept for a moment
            with undisturbed(pl_module, seed=self.seed), trainer.precision_plugin.forward_context():
                words = layers_in_words(pl_module, self._modules, lambda: self.run_model(pl_module, few))
            rank_zero_info(f"{self.name}: {words}")
        self._saturation = SaturationNotice(self.name, self.estimator, self.options)
        if isinstance(self.estimator, DependenceMetric):
            layer, activation = next(iter(self._activations(trainer, pl_module).items()))
            labels = next(iter(self._samples.labels.values()), None)
            try_measure(self.name, self.estimator, layer, self._samples.inputs(), activation, labels)

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> Measured:
        """Run the model on the samples and estimate the informations of every layer."""
        activations = self._activations(trainer, pl_module)
        inputs = self._samples.inputs() if self._values.compares_inputs else None
        measured: dict[str | Sequence[str], Estimate | Tensor] = {}
        for layer, activation in activations.items():
            with self.working_on(layer):
                for key, value in self._values.of_layer(layer, activation, self._samples, inputs).items():
                    measured[f"{layer}/{key}"] = value
        if self.adjacent:
            measured.update(self._values.between_layers(activations, measured))
        self._saturation.look(measured, len(self._samples.shuffle))
        return measured

    def bands(self) -> Sequence[str]:
        """Both informations of every layer."""
        kinds = ["I_XT", *(f"I_TY{suffix}" for suffix in self._samples.labels)]
        return [f"{layer}/{kind}" for layer in self._modules for kind in kinds]

    def as_logged(self, row: Row) -> Row:
        """Return a saturated I(X;T) without the upper end of its bracket, far above what the samples can express."""
        limit = self._samples.input_limit
        if limit is None or self._values.unit != "bits" or not row.key.endswith("/I_XT"):
            return row
        return row._replace(upper=math.inf) if row.value > SATURATED * limit and row.upper > limit else row

    def figures(self) -> Mapping[str, Figure]:
        """Draw the plane of every target, curves of I(X;T) where there are none, and curves between layers."""
        from lightning_foresight.plotting._paths import plane_paths
        from lightning_foresight.plotting.curves import curves
        from lightning_foresight.plotting.information_plane import information_plane

        table = self.history.to_dict()
        figures = {}
        in_bits = self._values.unit == "bits"
        for suffix in self._samples.label_limits or ("",):
            paths = plane_paths(table, self.prefix, x="I_XT", y=f"I_TY{suffix}")
            if paths:
                figures[f"plane{suffix}"] = information_plane(
                    paths,
                    nulls=plane_paths(table, self.prefix, x="I_XT", y=f"I_TY{suffix}_null"),
                    input_limit=self._samples.input_limit if in_bits else None,
                    label_limit=self._samples.label_limits.get(suffix) if in_bits else None,
                    estimator=self._values.title,
                    unit=self._values.unit,
                    input_interval=self._values.input_interval,
                )
        names = {"I_XT": "I(X;T)", "I_TT": "I(T;T of the next layer)"}
        if not self._values.unit:
            names = {"I_XT": "dependence of the inputs and T", "I_TT": "dependence of T and the next layer"}
        for kind, label in names.items():
            lines = {key.split("/")[1]: self.history[key] for key in table if key.endswith(f"/{kind}")}
            if lines and (kind == "I_TT" or not figures):
                ylabel = f"{label} in {self._values.unit}" if self._values.unit else label
                figures[kind] = curves(
                    lines,
                    ylabel=ylabel,
                    title=self._values.input_title,
                    limit=self._samples.input_limit if in_bits else None,
                    bands=self._values.input_interval if kind == "I_XT" else "",
                )
        return figures

    def state_dict(self) -> dict[str, Any]:
        """Return the history, the limits of the figures, and the critics where there are any."""
        critics = {} if self._values.critics is None else {"critics": self._values.critics.state_dict()}
        return super().state_dict() | {"limits": self._samples.limits()} | critics

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the history, the limits of the figures and the critics of a checkpoint."""
        super().load_state_dict(state_dict)
        if self._stage in (None, "fit"):
            self._samples = self._samples.with_limits(state_dict.get("limits", {}))
        if self._values.critics is not None and "critics" in state_dict:
            self._values.critics.load_state_dict(state_dict["critics"])

    def release(self) -> None:
        """Drop the samples; what the figure needs of them stays."""
        self._modules = {}
        self._samples = self._samples.without_data()

    def _activations(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Tensor]:
        with undisturbed(pl_module, seed=self.seed), trainer.precision_plugin.forward_context():
            captured = capture_activations(
                self._modules, self._samples.batches, lambda batch: self.run_model(pl_module, batch), self.reduce
            )
        return {layer: activation.float() for layer, activation in captured.items()}
