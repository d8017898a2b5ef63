"""Which layers of a model to perturb, over which ranges, and through which activations."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from lightning_foresight.functional._trace import clean_name
from lightning_foresight.functional.effective_information.activations import OPEN_END, default_out_range
from lightning_foresight.functional.effective_information.affine import AFFINE_LAYERS, has_foreign_hooks
from lightning_foresight.functional.effective_information.causal import has_affine_map
from lightning_foresight.functional.effective_information.composites import attention_projection, output_projection
from lightning_foresight.functional.effective_information.recurrent import state_maps
from lightning_foresight.probes.dataflow import TRANSPARENT_MODULES, Dataflow, watch_dataflow
from lightning_foresight.probes.pooling import one_window
from lightning_foresight.probes.positions import shape_of_one_input

Range = tuple[float, float]


class PerturbedLayer(NamedTuple):
    """A layer with all that the measures need to know.

    Attributes:
        name: Qualified name; ``name:2`` for the second call of a shared module.
        module: The layer.
        activation: What is applied to its output, if anything.
        in_range: Range of the noise on every input; of an embedding, the tokens.
        out_range: Range of the outputs that is binned.
        in_shape: Shape of one input, without the batch axis; that of a single position where the layer treats each
            position of a sequence or image alone, as LayerNorm over tokens does; that of one window of pooling; ``()``
            where the weights say it.
        device: Where its inputs lie in the model; its weights, if it has any, lie there, too.
    """

    name: str
    module: nn.Module
    activation: nn.Module | None
    in_range: Range
    out_range: Range
    in_shape: tuple[int, ...] = ()
    device: torch.device = torch.device("cpu")


def perturbable(name: str, module: nn.Module) -> bool:
    """Tell whether a module is perturbed unless others are chosen: where its affine maps are followed per unit.

    These are Linear layers, convolutions, embeddings, the projections of attention, and plain recurrent layers.
    """
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return isinstance(module, nn.RNN | nn.RNNCell)
    # The output projection of MultiheadAttention is never called: its weights are used directly.
    affine = isinstance(module, AFFINE_LAYERS) and not isinstance(module, NonDynamicallyQuantizableLinear)
    return affine or isinstance(module, nn.Embedding | nn.MultiheadAttention)


def perturbation_plan(
    model: nn.Module,
    forward: Callable[[], Any],
    layers: Callable[[str, nn.Module], bool] | None = None,
    in_range: Range | None = None,
) -> list[PerturbedLayer]:
    """List the layers of a forward pass with their activations and ranges.

    Activations are found as modules and as functions (``torch.relu``), looking through dropout, pooling and reshaping.
    Ranges are deep-ei's: an activation's own ends with 10 for an open one, (-10, 10) without activation. Attention is
    listed as its four projections, recurrent layers as maps from input and state to the next state, at states in
    (-1, 1), or (0, 10) after ReLU. Pooling that is asked for is listed as one window, any other module as it is, at a
    single position where positions are not mixed. What only passes values on (pooling, dropout, Flatten) lets nothing
    out of the range of its inputs.

    Args:
        model: The model.
        forward: Runs the model once, for instance ``lambda: model(batch)``; modes and random state are the caller's.
        layers: Which layers, by qualified name and module; all that can be perturbed when ``None``.
        in_range: Range of the inputs of layers that read the model's own input.

    Raises:
        ValueError: If a layer reads the model's input and no ``in_range`` is given.

    Warns:
        UserWarning: If a chosen layer is never called in the forward pass.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lightning_foresight.probes.perturbation import perturbation_plan
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
        >>> for layer in perturbation_plan(model, lambda: model(torch.zeros(1, 4)), in_range=(0, 1)):
        ...     print(layer.name, layer.activation, layer.in_range, layer.out_range)
        0 Tanh() (0.0, 1.0) (-1.0, 1.0)
        2 None (-1.0, 1.0) (-10.0, 10.0)
    """
    wanted = perturbable if layers is None else layers
    flow = watch_dataflow(model, forward, wanted)
    plan: list[PerturbedLayer] = []
    reached = set()
    for at, step in enumerate(flow.steps):
        if step.kind != "layer":
            continue
        assert step.module is not None
        reached.add(id(step.module))
        plan += [layer._replace(device=step.source.device) for layer in _expanded(flow, at, in_range)]
    missed = [
        clean_name(name)
        for name, module in model.named_modules()
        if wanted(clean_name(name), module) and id(module) not in reached
    ]
    if missed:
        choice = "" if layers is None else ", or leave it out of layers="
        warnings.warn(
            f"perturbation_plan: {', '.join(missed)} never ran as a module in the forward pass and will not be "
            f"measured. Call the module itself, not only its weights{choice}.",
            stacklevel=2,
        )
    return plan


def _expanded(flow: Dataflow, at: int, in_range: Range | None) -> Iterator[PerturbedLayer]:
    """Yield the layer of a step, or the maps that it is made of."""
    step = flow.steps[at]
    module = step.module
    assert module is not None
    name, colon, repeat = step.name.partition(":")

    def named(part: str) -> str:
        return ".".join(filter(None, (name, part))) + colon + repeat

    open_range = default_out_range("perturbation_plan", None)
    if isinstance(module, nn.MultiheadAttention):
        before = _range_before(flow, at, in_range)
        for letter in "qkv":
            part = attention_projection(module, letter)
            yield PerturbedLayer(named(f"{letter}_proj"), part, None, before, open_range)
        # What it reads are means of the values.
        yield PerturbedLayer(named("out_proj"), output_projection(module), None, open_range, open_range)
    elif isinstance(module, nn.RNNBase | nn.RNNCellBase) and not getattr(module, "proj_size", 0):
        for state in state_maps(module):
            out_range = default_out_range("perturbation_plan", state.activation) if state.activation else (-1.0, 1.0)
            shape = (state.num_inputs,)
            yield PerturbedLayer(named(state.name), state.module, state.activation, state.in_range, out_range, shape)
    else:
        activation = flow.activation_after(at)
        if isinstance(module, nn.Embedding):
            before = 0.0, float(module.num_embeddings - 1)
        else:
            before = _range_before(flow, at, in_range)
        out_range = default_out_range("perturbation_plan", activation)
        if activation is None and isinstance(module, TRANSPARENT_MODULES):
            out_range = before  # they let nothing out of it
        in_shape = tuple(step.source.shape[1:])
        window = one_window(module, step.source, step.result)
        if window is not None:
            module, in_shape = window
        elif has_affine_map(module):
            in_shape = ()  # taken by its weights, whatever it reads
            if has_foreign_hooks(module):
                warnings.warn(
                    f"perturbation_plan: {step.name} has forward hooks. It is measured by its weights, without them.",
                    stacklevel=3,
                )
        else:
            in_shape = shape_of_one_input(module, activation, step.source)
        yield PerturbedLayer(step.name, module, activation, before, out_range, in_shape)


def _range_before(flow: Dataflow, at: int, in_range: Range | None) -> Range:
    before = flow.before(at)
    if before is not None and before.kind == "activation":
        return default_out_range("perturbation_plan", before.module)
    if before is not None and not before.passes_on:
        return -OPEN_END, OPEN_END
    if in_range is None:
        name = flow.steps[at].name
        raise ValueError(
            f"perturbation_plan(in_range=None): {name} reads the model's input, whose range cannot be inferred from an "
            "activation before it; pass in_range=(low, high), for instance (0, 1) for images scaled to that range."
        )
    return float(in_range[0]), float(in_range[1])
