"""Choosing parameters, and groups of them, by name, glob, module type or rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeAlias

from torch import nn
from torch.optim import Optimizer

from lightning_foresight.functional._trace import clean_name
from lightning_foresight.probes.layers import LayerSpec

Groups: TypeAlias = "Mapping[str, LayerSpec] | str | None"
GROUPINGS = ("layers", "types", "param_groups")


def select_parameters(model: nn.Module, layers: LayerSpec | None, *, owner: str) -> dict[str, nn.Parameter]:
    """Return the parameters of a model, or those of the chosen layers, by name; each shared parameter once.

    Args:
        model: The model to look into.
        layers: Names or globs of modules or parameters, module types, rules ``(name, module) -> bool``, or a sequence
            of them; a module stands for all parameters inside it. ``None`` takes every parameter.
        owner: Who asks, for error texts.

    Raises:
        ValueError: If there is no parameter, or an entry of ``layers`` matches none.
        TypeError: If an entry is none of the above.

    Example:
        >>> from torch import nn
        >>> from lightning_foresight.probes.gradient_groups import select_parameters
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
        >>> list(select_parameters(model, nn.LayerNorm, owner="example"))
        ['1.weight', '1.bias']
    """
    parameters = {clean_name(name): parameter for name, parameter in model.named_parameters()}
    if not parameters:
        raise ValueError(f"{owner}: the model has no parameters, so there is no gradient to measure.")
    if layers is None:
        return parameters
    chosen = _matching(model, list(parameters), layers, owner, "layers")
    return {name: parameter for name, parameter in parameters.items() if name in chosen}


def parameter_groups(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    groups: Groups,
    optimizers: Sequence[Optimizer] = (),
    *,
    owner: str,
) -> dict[str, list[str]]:
    """Return the names of the parameters of each group.

    Args:
        model: The model.
        parameters: The parameters to group, by name.
        groups: ``"layers"`` (one a module with parameters of its own), ``"types"`` (one a module type),
            ``"param_groups"`` (one a parameter group of the optimizers), or a mapping from the groups' names to layers
            as in :func:`select_parameters`; ``None`` makes no groups.
        optimizers: The optimizers, for ``"param_groups"``.
        owner: Who asks, for error texts.

    Raises:
        ValueError: If ``groups`` is another string, or a group is empty.

    Example:
        >>> from torch import nn
        >>> from lightning_foresight.probes.gradient_groups import parameter_groups
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
        >>> parameter_groups(model, dict(model.named_parameters()), {"linear": nn.Linear, "norm": "1"}, owner="example")
        {'linear': ['0.weight', '0.bias', '2.weight', '2.bias'], 'norm': ['1.weight', '1.bias']}
    """
    if groups is None:
        return {}
    names = list(parameters)
    if isinstance(groups, Mapping):
        return {
            group: [name for name in names if name in _matching(model, names, spec, owner, f"groups, group {group!r}")]
            for group, spec in groups.items()
        }
    found: dict[str, list[str]] = {}
    if groups == "param_groups":
        held = [group for optimizer in optimizers for group in optimizer.param_groups]
        for position, group in enumerate(held):
            ids = {id(parameter) for parameter in group["params"]}
            found[group.get("name") or f"group_{position}"] = [name for name in names if id(parameters[name]) in ids]
    elif groups in GROUPINGS:
        modules = {clean_name(name): module for name, module in model.named_modules()}
        for name in names:
            parent = name.rpartition(".")[0]
            found.setdefault(parent if groups == "layers" else type(modules[parent]).__name__, []).append(name)
    else:
        raise ValueError(
            f"{owner}(groups={groups!r}): expected {', '.join(map(repr, GROUPINGS))} or a mapping from a group's name "
            "to layers, such as {'encoder': 'encoder', 'norms': nn.LayerNorm}."
        )
    return {group: members for group, members in found.items() if members}


def _matching(model: nn.Module, names: Iterable[str], spec: LayerSpec, owner: str, argument: str) -> set[str]:
    entries = [spec] if isinstance(spec, (str, type)) or callable(spec) else list(spec)
    modules = {clean_name(name): module for name, module in model.named_modules()}
    matched: set[str] = set()
    for entry in entries:
        if isinstance(entry, str):
            inside = {name for name in modules if fnmatchcase(name, entry)}
        elif isinstance(entry, type):
            inside = {name for name, module in modules.items() if isinstance(module, entry)}
        elif callable(entry) and not isinstance(entry, nn.Module):
            inside = {name for name, module in modules.items() if entry(name, module)}
        else:
            raise TypeError(
                f"{owner}({argument}={entry!r}): expected a name, a glob, a module type or a rule "
                f"(name, module) -> bool, got {type(entry).__name__}."
            )
        found = {
            name
            for name in names
            if (isinstance(entry, str) and fnmatchcase(name, entry)) or any(part in inside for part in _ancestors(name))
        }
        if not found:
            shown = entry if isinstance(entry, str) else getattr(entry, "__name__", repr(entry))
            layers = ", ".join(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
            raise ValueError(
                f"{owner}({argument}={shown!r}): no parameter matches. Layers with parameters: {layers}. "
                "Globs work: 'encoder.*'."
            )
        matched |= found
    return matched


def _ancestors(name: str) -> list[str]:
    parts = name.split(".")[:-1]
    return [".".join(parts[:depth]) for depth in range(len(parts) + 1)]
