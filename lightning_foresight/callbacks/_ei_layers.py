"""Which layers EICallback measures, in which way, and what it calls the values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from lightning_foresight.callbacks._events import Measured
from lightning_foresight.callbacks._perturbation_checks import check_plan, check_weights
from lightning_foresight.functional import Estimate, make_estimate, trace_weight_layers
from lightning_foresight.functional._trace import LayerCall, first_tensor, trace_calls
from lightning_foresight.functional.effective_information.affine import connected_inputs
from lightning_foresight.functional.effective_information.affine_modules import find_affine
from lightning_foresight.functional.effective_information.causal import has_exact_method
from lightning_foresight.functional.effective_information.composites import part_names
from lightning_foresight.functional.effective_information.operators import has_rule
from lightning_foresight.probes.layers import LayerSpec, listing, named_layers, named_parts, select_layers
from lightning_foresight.probes.perturbation import PerturbedLayer, perturbable, perturbation_plan
from lightning_foresight.probes.samples import split_batch

TOTALS = ("parts", "sensitivity", "degeneracy", "phi")


class LayersOfRun(NamedTuple):
    """What one forward pass has shown.

    Attributes:
        calls: Calls of layers whose weights are looked at.
        plan: Layers to perturb, with their ranges and activations.
    """

    calls: list[LayerCall]
    plan: list[PerturbedLayer]


def layers_of_run(
    owner: str,
    model: nn.Module,
    forward: Callable[[], Any],
    chosen: LayerSpec | None,
    measures: Sequence[str],
    in_range: tuple[float, float] | None,
    *,
    method: str,
    max_pairs: int,
) -> LayersOfRun:
    """Trace the model once: which layers it calls, in which shapes, followed by which activation."""
    perturbing = bool(set(measures) - {"weights"})
    named = named_layers(chosen, part_names) if perturbing else _none
    layers = select_layers(
        model,
        chosen,
        measurable=lambda name, module: (
            not _inside_attention(module) and (_measurable(name, module) or named(name, module))
        ),
        default=_measurable,
        parts=part_names,
        owner=owner,
    )
    check_weights(owner, layers)
    layers = _called(owner, model, forward, layers)
    wanted = named_parts(chosen, layers)
    ids = {id(module) for module in layers.values()}
    calls: list[LayerCall] = []
    plan: list[PerturbedLayer] = []
    if "weights" in measures and (not perturbing or any(has_rule(module) for module in layers.values())):
        calls = trace_weight_layers(model, forward, lambda name, module: id(module) in ids and has_rule(module))
    if perturbing:
        plan = perturbation_plan(
            model,
            forward,
            lambda name, module: id(module) in ids and (perturbable(name, module) or named(name, module)),
            in_range,
        )
        plan = [layer for layer in plan if wanted(layer.name)]
        plan = check_plan(owner, plan, by_default=chosen is None, method=method, max_pairs=max_pairs)
        sampled = [layer.name for layer in plan if not has_exact_method(layer.module, layer.activation, layer.in_shape)]
        if sampled and method != "sampled":
            rank_zero_info(
                f"{owner}: {', '.join(sampled)} have no exact method and are sampled, which takes seconds a layer. "
                "Fewer num_samples, in_bins and out_bins, or a sparser schedule, cost less."
            )
    return LayersOfRun([call for call in calls if wanted(call.name)], plan)


def _called(
    owner: str, model: nn.Module, forward: Callable[[], Any], layers: dict[str, nn.Module]
) -> dict[str, nn.Module]:
    """Leave out what the forward pass does not call, and say so once for all measures."""
    seen = {id(call.module) for call in trace_calls(model, forward, lambda name, _: name in layers)}
    silent = [name for name, module in layers.items() if id(module) not in seen]
    if not silent or not seen:
        return layers
    rank_zero_warn(
        f"{owner}: leaves out {listing(silent)}, which the forward pass does not call. Override run_model(self, "
        "pl_module, batch) of the callback to run the parts of the model that they belong to."
    )
    return {name: module for name, module in layers.items() if id(module) in seen}


def range_of_inputs(owner: str, batch: Any) -> tuple[float, float] | None:
    """Return the range of a batch's inputs, and say so; ``None`` where they are no numbers on a line."""
    inputs = first_tensor(split_batch(batch)[0])
    if inputs is None or not inputs.is_floating_point():
        return None  # token ids, for instance: the plan says what it needs
    low, high = float(inputs.min()), float(inputs.max())
    if not -math.inf < low < high < math.inf:
        return None
    rank_zero_info(
        f"{owner}: in_range of the first layer is that of a training batch, ({low:.4g}, {high:.4g}). "
        "Pass in_range=(low, high) to choose it."
    )
    return low, high


def out_range_of(
    layer: PerturbedLayer, wanted: tuple[float, float] | Literal["dynamic"] | None
) -> tuple[float, float] | Literal["dynamic"]:
    """Return the range of a layer's outputs to bin: the one asked for, or its own."""
    return layer.out_range if wanted is None else wanted


def sampled_keys(plan: Sequence[PerturbedLayer], measures: Sequence[str], *, method: str, max_pairs: int) -> list[str]:
    """Return the keys of whatever is sampled: pairs of large layers, layers without an exact method, and vector EI."""
    keys = []
    for layer in plan:
        exact = method != "sampled" and has_exact_method(layer.module, layer.activation, layer.in_shape)
        affine = find_affine(layer.module, layer.in_shape)
        if not exact or (affine is not None and connected_inputs(affine.weight).numel() > max_pairs):
            kinds = [kind for kind in ("parts", "sensitivity") if kind in measures]
            kinds += ["degeneracy"] if len(kinds) == 2 else []
            keys += [f"{layer.name}/{kind}" for kind in kinds]
        if "vector" in measures:
            keys += [f"{layer.name}/{kind}" for kind in ("vector", *(["phi"] if "parts" in measures else []))]
    if len(plan) > 1:
        keys += [f"total_{kind}" for kind in TOTALS if any(key.endswith(f"/{kind}") for key in keys)]
    return keys


def with_bounds(measured: Measured) -> tuple[Measured, list[str]]:
    """Put both bounds in place of what samples cannot tell: drawn as a line, one of them reads as a finding.

    Returns:
        The values, and the layers whose vector EI has bounds only.
    """
    known: dict[str | Sequence[str], Estimate | Tensor] = {}
    saturated = []
    for key, value in measured.items():
        if not isinstance(value, Estimate) or value.lower is None or value.upper is None:
            known[key] = value
            continue
        known[f"{key}_lower"] = make_estimate(value.lower, num_samples=value.num_samples, kind="lower_bound")
        known[f"{key}_upper"] = make_estimate(value.upper, num_samples=value.num_samples, kind="upper_bound")
        saturated += [str(key).removesuffix("/vector")] if str(key).endswith("/vector") else []
    return known, saturated


def _inside_attention(module: nn.Module) -> bool:
    # Its output projection never runs as a module: it is one of the parts of the attention.
    return isinstance(module, NonDynamicallyQuantizableLinear)


def _none(name: str, module: nn.Module) -> bool:
    return False


def _measurable(name: str, module: nn.Module) -> bool:
    return has_rule(module) or perturbable(name, module)
