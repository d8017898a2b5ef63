"""The information plane of hidden layers, while the network trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor, nn

from lightning_foresight.callbacks._base import ForesightCallback, Measured
from lightning_foresight.callbacks._samples import run_samples
from lightning_foresight.functional._checks import check_int, describe, fail
from lightning_foresight.functional.entropy import entropy
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.mutual_information import (
    check_plane_estimator,
    input_information,
    plane_information,
)
from lightning_foresight.probes.activations import capture_activations
from lightning_foresight.probes.isolation import undisturbed
from lightning_foresight.probes.layers import LayerSpec, select_layers
from lightning_foresight.probes.samples import batch_length, split_batch

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import LightningModule, Trainer


class InfoPlaneCallback(ForesightCallback):
    r"""Log I(X;T) and I(T;Y) of hidden layers on a fixed set of samples, and draw the information plane.

    For a deterministic layer with continuous activations I(X;T) is infinite; what a finite value shows is the geometry
    of the activations at the resolution of the estimator: a bin width, or the variance of added noise. Look at
    ``saturation`` first: near 1, I(X;T) is log2 of the number of samples and says nothing about the layer.

    Logged metrics:
        - ``info_plane/<layer>/I_XT`` with ``_lower`` and ``_upper``: information about the input, in bits.
        - ``info_plane/<layer>/I_TY`` with ``_lower`` and ``_upper``: information about the target, in bits.
        - ``info_plane/<layer>/saturation``: I(X;T) over its largest possible value, in [0, 1].
        - figure ``info_plane/plane``.

    Args:
        estimator: ``"binned"`` (options ``bins``, ``bin_width``, ``correction``) or ``"kde"`` (``noise_variance``,
            ``bound``); see :func:`~lightning_foresight.functional.input_information`.
        options: Options of the estimator, as a mapping.
        dataloader: Where the samples come from: ``"val"``, ``"train"``, a DataLoader, or tensors ``(inputs, targets)``.
        num_samples: How many samples; the same ones for the whole run.
        targets: Targets of a batch, as a function ``batch -> integer labels``; by default the second entry of a tuple,
            or ``label``, ``labels``, ``target``, ``targets`` or ``y`` of a mapping.
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
        ValueError: For an unknown estimator, option or layer, fewer than two samples, or targets that are no labels.

    Example:
        >>> from lightning_foresight import InfoPlaneCallback
        >>> callback = InfoPlaneCallback(estimator="binned", options={"bins": 30}, num_samples=1000)
        >>> callback.prefix
        'info_plane'
    """

    default_prefix: ClassVar[str] = "info_plane"

    def __init__(
        self,
        *,
        estimator: str = "binned",
        options: dict[str, Any] | None = None,
        dataloader: Any = "val",
        num_samples: int = 2000,
        targets: Callable[[Any], Tensor] | None = None,
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
        self.options = dict(options or {})
        check_plane_estimator(self.name, estimator, self.options)
        self.estimator = estimator
        self.dataloader = dataloader
        self.num_samples = num_samples
        self.targets = targets
        self._modules: dict[str, nn.Module] = {}
        self._batches: list[Any] = []
        self._labels: Tensor | None = None
        self._limits: tuple[float, float | None] | None = None  # log2 n and H(Y), for the figure

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the layers and fix the samples."""
        self._modules = select_layers(
            pl_module, self.layers, measurable=_has_output, default=_default_layers(pl_module), owner=self.name
        )
        self._batches = run_samples(
            trainer, pl_module, self.dataloader, self.num_samples, seed=self.seed, owner=self.name
        )
        count = sum(batch_length(split_batch(batch)[0]) for batch in self._batches)
        if count < 2:
            fail(
                self.name,
                "dataloader",
                f"{count} sample",
                "expected at least 2 samples; pass a loader that holds more.",
            )
        self._labels = self._collect_labels(count)

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> Measured:
        """Run the model on the samples and estimate both informations of every layer."""
        activations = self._activations(trainer, pl_module)
        measured: dict[str, Estimate | Tensor] = {}
        for layer, activation in activations.items():
            if self._labels is None:
                about_input = input_information(activation, estimator=self.estimator, **self.options)
            else:
                about_input, about_target = plane_information(
                    activation, self._labels, estimator=self.estimator, **self.options
                )
                measured[f"{layer}/I_TY"] = about_target
            measured[f"{layer}/I_XT"] = about_input
            measured[f"{layer}/saturation"] = about_input.saturation
        return measured

    def bands(self) -> Sequence[str]:
        """Both informations of every layer."""
        kinds = ("I_XT", "I_TY") if self._labels is not None else ("I_XT",)
        return [f"{layer}/{kind}" for layer in self._modules for kind in kinds]

    def figures(self) -> Mapping[str, Figure]:
        """Draw the plane; curves of I(X;T) where there are no targets."""
        from lightning_foresight.plotting._paths import plane_paths
        from lightning_foresight.plotting.curves import curves
        from lightning_foresight.plotting.information_plane import information_plane

        table = self.history.to_dict()
        paths = plane_paths(table, self.prefix, x="I_XT", y="I_TY")
        if paths:
            limits = self._limits or (None, None)
            return {
                "plane": information_plane(
                    paths, input_limit=limits[0], label_limit=limits[1], estimator=self.estimator
                )
            }
        lines = {key.split("/")[1]: self.history[key] for key in table if key.endswith("/I_XT")}
        return {"I_XT": curves(lines, ylabel="I(X;T) in bits")} if lines else {}

    def release(self) -> None:
        """Drop the samples."""
        self._batches, self._labels, self._modules = [], None, {}

    def _activations(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Tensor]:
        with undisturbed(pl_module, seed=self.seed), trainer.precision_plugin.forward_context():
            captured = capture_activations(self._modules, self._batches, lambda batch: self.run_model(pl_module, batch))
        return {layer: activation.float() for layer, activation in captured.items()}

    def _collect_labels(self, count: int) -> Tensor | None:
        pieces = [self.targets(batch) if self.targets else split_batch(batch)[1] for batch in self._batches]
        if any(piece is None for piece in pieces):
            rank_zero_info(
                f"{self.name}: the batches hold no targets, so I(T;Y) is not measured. Pass targets=function."
            )
            return None
        labels = torch.cat([torch.as_tensor(piece) for piece in pieces])
        if labels.is_floating_point() or labels.is_complex() or labels.shape != (count,):
            raise ValueError(
                f"{self.name}(targets): got {describe(labels)} for {count} samples; expected one integer label each. "
                "Pass targets=function that turns a batch into labels, for instance lambda batch: batch[1].argmax(1)."
            )
        counts = labels.unique(return_counts=True)[1].double()
        self._limits = (math.log2(len(labels)), float(entropy(counts / counts.sum())))
        return labels


def _has_output(name: str, module: nn.Module) -> bool:
    return name != "" and not isinstance(module, (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict))


def _default_layers(model: nn.Module) -> Callable[[str, nn.Module], bool]:
    leaves = [module for module in model.modules() if next(module.children(), None) is None]
    weighted = [module for module in leaves if any(p.ndim > 1 for p in module.parameters(recurse=False))]
    activations = [
        module
        for module in leaves
        if type(module).__module__ == "torch.nn.modules.activation" and not isinstance(module, nn.MultiheadAttention)
    ]
    # A model that calls its activations as functions is watched behind its weights instead.
    chosen = {id(module) for module in ([*activations, *weighted[-1:]] if activations else weighted)}
    return lambda name, module: id(module) in chosen
