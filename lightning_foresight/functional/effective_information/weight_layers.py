"""The layers of a network whose weights connect nodes."""

from __future__ import annotations

import inspect
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from torch import nn

from lightning_foresight.functional._checks import a_function, a_module, takes
from lightning_foresight.functional._trace import LayerCall, clean_name, trace_calls
from lightning_foresight.functional.effective_information.composites import (
    Part,
    expand_call,
    is_composite,
    part_names,
    parts_of,
)
from lightning_foresight.functional.effective_information.operators import has_rule, rule_names


@takes(model=a_module, forward=a_function)
def trace_weight_layers(
    model: nn.Module,
    forward: Callable[[], Any],
    layers: Callable[[str, nn.Module], bool] | Sequence[str] | None = None,
) -> list[LayerCall]:
    """Run the model once and list the layers whose weights connect nodes, in order of execution.

    Modes and random state are left to the caller. Layers that map each node to itself (activations, normalisation,
    dropout, flattening) have no place in the list. Attention is listed as the four linear maps it is made of, a
    recurrent layer as the map from input and previous state to its gates. Weight matrices without a rule (bilinear,
    one's own) are left out with a warning that names them, and so are layers that the forward pass does not reach.

    Args:
        model: The network.
        forward: Runs it once, for instance ``lambda: model(batch)``. The first axis of what a layer gets is the batch.
        layers: Which layers: a predicate of qualified name and module, or names, such as ``"attention.q_proj"`` for a
            part of a module; all of them when ``None``.

    Returns:
        One call a layer; a module called twice is there twice, the second time as ``name:2``.

    Raises:
        ValueError: If a name is unknown, a named layer is never reached, or nothing is left to measure.
        TypeError: If a named layer is of a kind that has no rule.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import trace_weight_layers
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
        >>> [call.name for call in trace_weight_layers(model, lambda: model(torch.zeros(1, 4)))]
        ['0', '2']
    """
    modules = {clean_name(name): module for name, module in model.named_modules()}
    inside = {id(part) for module in modules.values() if is_composite(module) for part in module.children()}
    measurable = [name for name, module in modules.items() if has_rule(module) and id(module) not in inside]
    named = layers is not None and not callable(layers)
    whole: set[str] = set()
    inner: dict[str, str] = {}  # parts that are named, and the modules they belong to
    if layers is None:
        chosen = set(measurable)
    elif callable(layers):
        chosen = {name for name in measurable if layers(name, modules[name])}
    else:
        known = {part: name for name in measurable for part in part_names(name, modules[name])}
        inner = {name: known[name] for name in layers if name in known}
        whole = set(layers) - set(inner)
        chosen = whole | set(inner.values())
        _check_names(chosen, modules, measurable)
    calls, parts = _trace_with_parts(model, forward, chosen)
    reached = {call.module for call in calls}
    unreached = [name for name in measurable if name in chosen and modules[name] not in reached]
    if unreached and named:
        raise ValueError(
            f"trace_weight_layers(layers={sorted(chosen)!r}): the forward pass does not reach {', '.join(unreached)}; "
            "expected layers that it calls. Leave them out, or pass an input that uses them."
        )
    if not calls:
        raise ValueError(
            f"trace_weight_layers(model={type(model).__name__}): its forward pass calls no layer whose weights can be "
            f"measured{'' if layers is None else ', of those chosen'}; expected at least one of {rule_names()}."
        )
    if unreached:
        warnings.warn(
            "Effective information from the weights leaves out layers that the forward pass does not reach: "
            f"{', '.join(unreached)}.",
            stacklevel=2,
        )
    without_rule = _without_rule(model) if layers is None else []
    if without_rule:
        warnings.warn(
            "Effective information from the weights leaves out parameters, as no rule says which nodes they connect: "
            f"{', '.join(without_rule)}. Layers of any kind can be measured by perturbation.",
            stacklevel=2,
        )
    # Of a module only parts of which are named, only these.
    owners = set(inner.values()) - whole
    dropped = {part for owner in owners for part in part_names(owner, modules[owner]) if part not in inner}
    return [call for call in _expanded(calls, parts) if call.name.partition(":")[0] not in dropped]


def _trace_with_parts(
    model: nn.Module, forward: Callable[[], Any], names: set[str]
) -> tuple[list[LayerCall], dict[nn.Module, list[list[Part]]]]:
    """Run the model once; list the calls and, for each call of a composite module, the linear maps inside it."""
    parts: dict[nn.Module, list[list[Part]]] = defaultdict(list)

    def watch(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        parts[module].append(parts_of(module, args, kwargs))

    with ExitStack() as handles:
        for name, module in model.named_modules():
            if clean_name(name) in names and is_composite(module):
                handles.callback(module.register_forward_hook(watch, with_kwargs=True).remove)
        calls = trace_calls(model, forward, lambda name, _: name in names)
    return calls, parts


def _expanded(calls: list[LayerCall], parts: dict[nn.Module, list[list[Part]]]) -> Iterator[LayerCall]:
    for call in calls:
        if call.module in parts:
            yield from expand_call(call, parts[call.module].pop(0))
        else:
            yield call


def _without_rule(model: nn.Module) -> list[str]:
    """Name weight matrices that belong to no measurable module; normalisation scales connect nodes to themselves."""
    covered = tuple(
        f"{name}." if name else ""
        for name, module in model.named_modules()
        if has_rule(module) or isinstance(module, (nn.LayerNorm, nn.RMSNorm))
    )
    parameters = (name for name, weight in model.named_parameters() if weight.ndim > 1 and not name.startswith(covered))
    # Quantised modules keep their weights packed, behind a method.
    packed = (
        f"{name}.weight" for name, module in model.named_modules() if inspect.ismethod(getattr(module, "weight", None))
    )
    return [clean_name(name) for name in (*parameters, *packed)]


def _check_names(names: set[str], modules: dict[str, nn.Module], measurable: list[str]) -> None:
    for name in sorted(names):
        if name not in modules:
            raise ValueError(
                f"trace_weight_layers(layers=[{name!r}]): no layer of the model has that name. Layers that can be "
                f"measured: {', '.join(measurable) or 'none'}."
            )
        if not has_rule(modules[name]):
            raise TypeError(
                f"trace_weight_layers(layers=[{name!r}]): that layer is a {type(modules[name]).__name__}, which has no "
                f"weight connectivity. Layers that can be measured: {', '.join(measurable) or 'none'}."
            )
