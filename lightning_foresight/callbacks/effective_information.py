"""Effective information of layers, while the network trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor

from lightning_foresight.callbacks._base import ForesightCallback, Measured
from lightning_foresight.callbacks._ei_layers import (
    TOTALS,
    layers_of_run,
    out_range_of,
    range_of_inputs,
    sampled_keys,
    with_bounds,
)
from lightning_foresight.callbacks._samples import example_batch, run_example
from lightning_foresight.functional import Estimate, causal_measures, make_estimate, weight_ei
from lightning_foresight.functional._checks import check_choice, check_int, check_range, fail
from lightning_foresight.functional._random import own_generator
from lightning_foresight.functional._trace import LayerCall
from lightning_foresight.functional.effective_information.totals import network_total
from lightning_foresight.probes.isolation import undisturbed
from lightning_foresight.probes.layers import LayerSpec
from lightning_foresight.probes.perturbation import PerturbedLayer

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import LightningModule, Trainer

MEASURES = ("weights", "parts", "sensitivity", "vector")
_PANELS = {
    "EI of the network: degeneracy \N{MINUS SIGN} determinism": "network",
    "determinism: mean entropy of out-weights (0: one target a node)": "network_determinism",
    "degeneracy: entropy of the mean of out-weights (0: all on one node)": "network_degeneracy",
}


class EICallback(ForesightCallback):
    r"""Log the effective information of a network's weights, and of its layers under perturbation.

    From the weights (``"weights"``), each layer is a bipartite graph of nodes; by perturbation (``"parts"``,
    ``"sensitivity"``, ``"vector"``) the inputs of a layer are set to uniform noise and its outputs observed, through
    the activation that follows. Parts and sensitivity are exact for affine layers with a monotone activation, GELU or
    SiLU; a convolution is measured on one receptive field, pooling on one window.

    ``network_determinism`` and ``network_degeneracy`` are torch-foresight's :math:`\langle H(W_{out}) \rangle` and
    :math:`H(\langle W_{out} \rangle)`: 0 and :math:`\log_2 N` for an identity. Klein & Hoel call :math:`\log_2 N` minus
    each by these names.

    Logged metrics, in bits:
        - ``ei/network``, ``ei/network_determinism``, ``ei/network_degeneracy`` and ``ei/network_effectiveness`` (a pure
          number): from the weights of all layers, or of those that ``layers`` chooses.
        - ``ei/<layer>/weights``: the EI of one layer on its own; of layers that have parameters, which pooling has not.
        - ``ei/<layer>/parts``: :math:`EI_{parts} = \sum_{ij} I(x_i; y_j)`.
        - ``ei/<layer>/sensitivity``: the same with one input perturbed at a time, the others at 0.
        - ``ei/<layer>/degeneracy``: sensitivity minus parts, when both are measured.
        - ``ei/total_parts``, ``ei/total_sensitivity``, ``ei/total_degeneracy``, ``ei/total_phi``: the sums over layers.
        - ``ei/<layer>/vector``: :math:`I(X; Y)` of whole input and output vectors, and ``ei/<layer>/phi``, vector minus
          parts. Where samples cannot tell them, both bounds stand in their place: ``ei/<layer>/vector_lower`` and
          ``_upper``, ``ei/<layer>/phi_lower`` and ``_upper``, ``ei/total_phi_lower`` and ``_upper``.
        - figures ``ei/causal_plane`` and ``ei/weights``.

    Args:
        measures: Which of ``"weights"``, ``"parts"``, ``"sensitivity"`` and ``"vector"``.
        norm: How out-weights become a distribution: ``"lin"``, ``"soft"`` or ``"sig"``.
        in_range: Range of the noise on the first layer's inputs; by default that of a batch of training data. Other
            layers take the range of the activation before them.
        out_range: Range of the outputs that are binned, of all layers, or ``"dynamic"`` for all that a layer can put
            out (of layers that are sampled: has put out for a few thousand samples). By default the range of the
            activation, (0, 10) after ReLU and (-10, 10) after none; a layer that uses a tenth of it uses a tenth of
            the bins.
        in_bins: Number of bins of each input.
        out_bins: Number of bins of each output.
        method: ``"auto"``, ``"exact"`` or ``"sampled"``.
        num_samples: Samples of noise where a layer has to be sampled; chosen by the estimator when ``None``.
        max_pairs: Largest number of (input, output) pairs of one layer that are measured; of larger layers a random
            choice of about so many pairs, with a standard error.
        layers: Which layers; by default all Linear layers, convolutions, embeddings, projections of attention and plain
            recurrent layers. Projections and layers of a recurrent module go by the names under which they are logged,
            too (``"attention.q_proj"``, ``"*.out_proj"``, ``"rnn.l0"``). Any other module (a GRU, a residual block, a
            normalisation layer, pooling) is perturbed if its name or type is given here: exactly if it is affine in
            evaluation mode (BatchNorm, average pooling, ``nn.Sequential`` of affine layers), else by sampling; on a
            single position where it treats tokens or pixels alone.
        every_n_epochs: See :class:`ForesightCallback`, as for all further arguments.
        every_n_steps: See :class:`ForesightCallback`.
        schedule: See :class:`ForesightCallback`.
        prefix: See :class:`ForesightCallback`.
        per_layer: See :class:`ForesightCallback`.
        prog_bar: See :class:`ForesightCallback`.
        log_figures: See :class:`ForesightCallback`.
        seed: See :class:`ForesightCallback`.

    Raises:
        ValueError: For an unknown measure, norm, method or layer, fewer than two bins or 16 samples, or a range that is
            none; and at the start of training, for layers that cannot be perturbed.

    Example:
        >>> from lightning_foresight import EICallback
        >>> callback = EICallback(measures=("weights",), norm="soft", every_n_steps=10)
        >>> callback.prefix
        'ei'
    """

    default_prefix: ClassVar[str] = "ei"
    cost_arguments: ClassVar[Sequence[str]] = ("layers", "every_n_epochs", "max_pairs", "in_bins", "num_samples")

    def __init__(
        self,
        *,
        measures: Sequence[Literal["weights", "parts", "sensitivity", "vector"]] = ("weights", "parts", "sensitivity"),
        norm: Literal["lin", "soft", "sig"] = "lin",
        in_range: tuple[float, float] | None = None,
        out_range: tuple[float, float] | Literal["dynamic"] | None = None,
        in_bins: int = 64,
        out_bins: int = 64,
        method: Literal["auto", "exact", "sampled"] = "auto",
        num_samples: int | None = None,
        max_pairs: int = 4096,
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
        if isinstance(measures, str) or not isinstance(measures, Sequence) or not measures:
            fail(self.name, "measures", measures, f"expected a non-empty sequence of {', '.join(map(repr, MEASURES))}.")
        for measure in measures:
            check_choice(self.name, "measures", measure, MEASURES)
        check_choice(self.name, "norm", norm, ("lin", "soft", "sig"))
        check_choice(self.name, "method", method, ("auto", "exact", "sampled"))
        check_int(self.name, "in_bins", in_bins, minimum=2)
        check_int(self.name, "out_bins", out_bins, minimum=2)
        check_int(self.name, "max_pairs", max_pairs, minimum=1)
        if num_samples is not None:
            check_int(self.name, "num_samples", num_samples, minimum=16)
        self.measures = tuple(measures)
        self.norm = norm
        self.in_range = None if in_range is None else check_range(self.name, "in_range", in_range)
        self.out_range = out_range
        if isinstance(out_range, str):
            check_choice(self.name, "out_range", out_range, ("dynamic",))
        elif out_range is not None:
            self.out_range = check_range(self.name, "out_range", out_range)
        self.in_bins = in_bins
        self.out_bins = out_bins
        self.method = method
        self.num_samples = num_samples
        self.max_pairs = max_pairs
        self._calls: list[LayerCall] = []
        self._plan: list[PerturbedLayer] = []
        self._bands: list[str] = []
        self._told_bounds = False

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Trace the model once: which layers it calls, in which shapes, followed by which activation."""
        batch = example_batch(trainer, pl_module, num_samples=64, seed=self.seed, owner=self.name)

        def forward() -> Any:
            with trainer.precision_plugin.forward_context():
                return run_example(pl_module, batch, self.run_model)

        with undisturbed(pl_module, seed=self.seed):
            # Reading a parametrised weight in training mode may change its state (spectral norm).
            self._calls, self._plan = layers_of_run(
                self.name,
                pl_module,
                forward,
                self.layers,
                self.measures,
                self.in_range or (range_of_inputs(self.name, batch) if set(self.measures) - {"weights"} else None),
                method=self.method,
                max_pairs=self.max_pairs,
            )
            self._bands = sampled_keys(self._plan, self.measures, method=self.method, max_pairs=self.max_pairs)

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> Measured:
        """Measure the weights as they are now, and every layer of the plan."""
        with undisturbed(pl_module, seed=self.seed):
            return self._measure()

    def _measure(self) -> Measured:
        measured: dict[str | Sequence[str], Estimate | Tensor] = {}
        if self._calls:
            network = weight_ei(self._calls, norm=self.norm, validate=False)
            keys = ("network", "network_determinism", "network_degeneracy", "network_effectiveness")
            measured[keys] = make_estimate(torch.stack(network[:4]), kind="exact")
            # Of pooling, which has no weights, the value never changes; the network's holds it.
            learned = {call.name for call in self._calls if next(call.module.parameters(), None) is not None}
            each = {f"{name}/weights": layer.ei for name, layer in network.layers.items() if name in learned}
            if each:
                measured[tuple(each)] = make_estimate(torch.stack([*each.values()]), kind="exact")
        for planned in self._plan:
            with self.working_on(planned.name):
                measured.update(self._perturb(planned))
        for kind in TOTALS if len(self._plan) > 1 else ():
            found = [measured.get(f"{planned.name}/{kind}") for planned in self._plan]
            estimates = [estimate for estimate in found if isinstance(estimate, Estimate)]
            if len(estimates) == len(found):
                measured[f"total_{kind}"] = network_total(estimates)
        known, saturated = with_bounds(measured)
        if saturated and not self._told_bounds:
            self._told_bounds = True
            rank_zero_info(
                f"{self.name}: the vector EI of {', '.join(saturated)} is beyond what samples can tell, and is logged "
                "as bounds (vector_lower, vector_upper; so is phi). Fewer bins (in_bins=, out_bins=) may tell it."
            )
        return known

    def bands(self) -> Sequence[str]:
        """Whatever is sampled: pairs of large layers, layers without an exact method, and vector EI."""
        return self._bands

    def figures(self) -> Mapping[str, Figure]:
        """Draw the causal plane, and the weights' EI of the network over training."""
        from lightning_foresight.plotting._paths import plane_paths
        from lightning_foresight.plotting.causal_plane import causal_plane
        from lightning_foresight.plotting.panels import panels

        table = self.history.to_dict()
        figures = {}
        paths = plane_paths(table, self.prefix, x="degeneracy", y="sensitivity")
        if paths:
            figures["causal_plane"] = causal_plane(paths)
        lines = {label: self.history[self.key(key)] for label, key in _PANELS.items() if self.key(key) in table}
        if lines:
            figures["weights"] = panels(lines, ylabel="bits", title="Effective information of the weights")
        return figures

    def release(self) -> None:
        """Drop the traced layers."""
        self._calls, self._plan = [], []

    def _perturb(self, layer: PerturbedLayer) -> dict[str, Estimate | Tensor]:
        found = causal_measures(
            layer.module,
            layer.activation,
            in_range=layer.in_range,
            out_range=out_range_of(layer, self.out_range),
            in_shape=layer.in_shape,
            in_bins=self.in_bins,
            out_bins=self.out_bins,
            method=self.method,
            num_samples=self.num_samples,
            max_pairs=self.max_pairs,
            vector="vector" in self.measures,
            generator=own_generator(layer.device, self.seed),
        )
        wanted: set[str] = set(self.measures)
        wanted |= {"degeneracy"} if {"parts", "sensitivity"} <= wanted else set()
        wanted |= {"phi"} if {"parts", "vector"} <= wanted else set()
        return {
            f"{layer.name}/{kind}": value
            for kind, value in found._asdict().items()
            if kind in wanted and value is not None
        }
