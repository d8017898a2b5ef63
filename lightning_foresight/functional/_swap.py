"""A module called with other tensors in place of its parameters and buffers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def call_with(module: nn.Module, tensors: Mapping[str, Tensor], *args: Any) -> Any:
    """Call a module with some of its parameters and buffers replaced, and put them back.

    Unlike ``torch.func.functional_call``, which knows places by name only: of a module that is held under two names it
    takes the replacement for the original, and leaves the model with it.

    Args:
        module: The module.
        tensors: Replacements by the names of ``named_parameters()`` and ``named_buffers()``; all places of a tensor
            that is held at several get the same one.
        args: What the module is called with.
    """
    own = dict((*module.named_parameters(), *module.named_buffers()))
    new = {id(own[name]): tensor for name, tensor in tensors.items()}
    places: list[tuple[dict[str, Any], str, Any]] = [
        (held, name, tensor)
        for part in module.modules()
        for held in (part._parameters, part._buffers)
        for name, tensor in held.items()
        if id(tensor) in new
    ]
    try:
        for held, name, tensor in places:
            held[name] = new[id(tensor)]
        return module(*args)
    finally:
        for held, name, tensor in places:
            held[name] = tensor
