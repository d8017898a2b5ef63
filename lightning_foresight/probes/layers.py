"""Choosing layers of a model by name, glob, type or rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeAlias

from torch import nn

from lightning_foresight.functional._trace import clean_name

LayerRule: TypeAlias = Callable[[str, nn.Module], bool]
PartNames: TypeAlias = Callable[[str, nn.Module], Sequence[str]]
LayerSpec: TypeAlias = "str | type[nn.Module] | LayerRule | Sequence[str | type[nn.Module] | LayerRule]"


def select_layers(
    model: nn.Module,
    layers: LayerSpec | None,
    *,
    measurable: LayerRule,
    default: LayerRule | None = None,
    parts: PartNames = lambda name, module: (),
    owner: str = "select_layers",
) -> dict[str, nn.Module]:
    """Return the chosen modules by qualified name, in the order of the model.

    Args:
        model: The model to look into.
        layers: Names, globs (``"encoder.*"``), module types, rules ``(name, module) -> bool``, or a sequence of them;
            ``None`` takes the default choice.
        measurable: Which modules the caller can measure at all.
        default: The choice for ``layers=None``; everything measurable when ``None``.
        parts: Names of what is measured inside a module, by its name: ``"attention.q_proj"`` chooses ``"attention"``.
        owner: Who asks, for error texts.

    Raises:
        ValueError: If nothing in the model can be measured, or an entry of ``layers`` matches nothing measurable.
        TypeError: If an entry of ``layers`` is none of the above.

    Example:
        >>> from torch import nn
        >>> from lightning_foresight.probes.layers import select_layers
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
        >>> list(select_layers(model, "*", measurable=lambda name, module: isinstance(module, nn.Linear)))
        ['0', '2']
    """
    modules = {clean_name(name): module for name, module in model.named_modules()}
    candidates = {name: module for name, module in modules.items() if measurable(name, module)}
    choices: list[str] = []
    for name, module in candidates.items():
        choices += [name, *parts(name, module)]
    if not candidates:
        kinds = ", ".join(sorted({type(module).__name__ for module in model.modules()}))
        raise ValueError(f"{owner}: no layer of the model can be measured. The model's modules are of types {kinds}.")
    if layers is None:
        chosen = {name: module for name, module in candidates.items() if default is None or default(name, module)}
        return chosen or candidates
    entries = _entries(layers)
    if not entries:
        raise ValueError(
            f"{owner}(layers={layers!r}): expected at least one name, glob, type or rule. Layers that can be measured: "
            f"{listing(choices)}."
        )
    matched: set[str] = set()
    for entry in entries:
        found = {
            name
            for name, module in candidates.items()
            if _matches(entry, name, module, owner) or _matches_part(entry, parts(name, module))
        }
        if not found:
            shown = entry if isinstance(entry, str) else getattr(entry, "__name__", repr(entry))
            inside = [name for name, module in modules.items() if _matches(entry, name, module, owner)]
            reason = (
                "no layer of the model has that name"
                if not inside
                else (f"{', '.join(inside[:3])} of type {type(modules[inside[0]]).__name__} cannot be measured")
            )
            raise ValueError(
                f"{owner}(layers=[{shown!r}]): {reason}. Layers that can be measured: "
                f"{listing(choices)}. Globs work: 'fc*'."
            )
        matched |= found
    return {name: module for name, module in candidates.items() if name in matched}


def exact_names(layers: LayerSpec | None) -> set[str]:
    """Return what ``layers`` has of names and globs; no layer is called as a glob is, so those in it were named."""
    return {entry for entry in _entries(layers) if isinstance(entry, str)}


def named_layers(layers: LayerSpec | None, parts: PartNames = lambda name, module: ()) -> LayerRule:
    """Return the rule for modules that ``layers`` gives by exact name or type: globs and rules may overshoot."""
    entries = _entries(layers)
    names = exact_names(layers)
    types = tuple(entry for entry in entries if isinstance(entry, type))
    return lambda name, module: name in names or isinstance(module, types) or not names.isdisjoint(parts(name, module))


def named_parts(layers: LayerSpec | None, chosen: Mapping[str, nn.Module]) -> Callable[[str], bool]:
    """Return whether something measured inside a chosen module is wanted: that part, or the module as a whole.

    Args:
        layers: The choice that :func:`select_layers` got.
        chosen: What it returned.
    """
    entries = _entries(layers)
    whole = {name for name, module in chosen.items() if any(_matches(entry, name, module, "") for entry in entries)}

    def wanted(measured: str) -> bool:
        name = measured.partition(":")[0]  # without the number of the call
        owner = name
        while owner and owner not in chosen:
            owner = owner.rpartition(".")[0]
        return layers is None or owner in whole or any(isinstance(e, str) and fnmatchcase(name, e) for e in entries)

    return wanted


def _entries(layers: LayerSpec | None) -> list[object]:
    if layers is None:
        return []
    single = isinstance(layers, (str, type)) or callable(layers) or not isinstance(layers, Iterable)
    return [layers] if single else list(layers)  # type: ignore[arg-type]


def listing(names: list[str], most: int = 20) -> str:
    """Return names in a row, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name or "(the whole model)" for name in names[:most]) + more


def _matches_part(entry: object, parts: Sequence[str]) -> bool:
    return isinstance(entry, str) and any(fnmatchcase(part, entry) for part in parts)


def _matches(entry: object, name: str, module: nn.Module, owner: str) -> bool:
    if isinstance(entry, str):
        return fnmatchcase(name, entry)
    if isinstance(entry, type):
        return isinstance(module, entry)
    if callable(entry) and not isinstance(entry, nn.Module):
        return bool(entry(name, module))
    raise TypeError(
        f"{owner}(layers=[{entry!r}]): expected a name, a glob, a module type or a rule (name, module) -> bool, "
        f"got {type(entry).__name__}."
    )
