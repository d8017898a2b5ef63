"""Which modules a forward pass calls, in order, and with which shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class LayerCall(NamedTuple):
    """One call of a module in a forward pass.

    Attributes:
        name: Qualified name; a second call of the same module is named ``name:2``.
        module: The module called.
        in_shape: Shape of its first tensor argument, without the batch axis.
        out_shape: Shape of its first tensor output, without the batch axis.
    """

    name: str
    module: nn.Module
    in_shape: torch.Size
    out_shape: torch.Size


def clean_name(name: str) -> str:
    """Drop what torch.compile and DDP wrappers add to a module's qualified name."""
    return ".".join(part for part in name.split(".") if part not in ("_orig_mod", "_forward_module"))


def named_parts(value: Any) -> dict[Any, Any] | None:
    """Return the entries of a mapping or the fields of a dataclass by name, ``None`` of anything else."""
    if isinstance(value, Mapping):
        return {key: value[key] for key in value}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return None


def first_tensor(value: Any) -> Tensor | None:
    """Return the first tensor in nested tuples, lists, mappings and dataclasses."""
    if isinstance(value, Tensor):
        return value
    parts = value if isinstance(value, (tuple, list)) else (named_parts(value) or {}).values()
    for part in parts:
        found = first_tensor(part)
        if found is not None:
            return found
    return None


def trace_calls(
    model: nn.Module, forward: Callable[[], Any], select: Callable[[str, nn.Module], bool] | None = None
) -> list[LayerCall]:
    """Run ``forward`` once and list the calls of the selected modules in order of execution.

    The caller decides about modes and random state: this only watches.

    Args:
        model: The model whose submodules are watched.
        forward: Runs the model once, for instance ``lambda: model(batch)``.
        select: Which modules to list, by qualified name and module; all leaf modules when ``None``.
    """
    if select is None:
        select = lambda name, module: next(module.children(), None) is None  # noqa: E731
    calls: list[LayerCall] = []
    times: Counter[str] = Counter()

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            source, result = first_tensor((args, kwargs)), first_tensor(output)
            if source is None or result is None:
                return
            times[name] += 1
            unique = name if times[name] == 1 else f"{name}:{times[name]}"
            calls.append(LayerCall(unique, module, source.shape[1:], result.shape[1:]))

        return hook

    with ExitStack() as handles:
        for name, module in model.named_modules():
            if select(clean_name(name), module):
                handle = module.register_forward_hook(watch(clean_name(name)), with_kwargs=True)
                handles.callback(handle.remove)
        forward()
    return calls
