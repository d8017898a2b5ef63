"""Modules made of several linear maps that no submodule carries out: attention and recurrent layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from lightning_foresight.functional._trace import LayerCall


class LinearPart(nn.Module):
    """One linear map inside a module: rows of its parameters, side by side.

    Args:
        owner: The module that holds the parameters.
        names: Names of the parameters, joined along their inputs.
        rows: Which outputs; all of them when ``None``.
    """

    def __init__(self, owner: nn.Module, names: tuple[str, ...], rows: slice | None = None) -> None:
        super().__init__()
        self.owner = owner
        self.names = names
        self.rows = rows

    @property
    def weight(self) -> Tensor:
        """The weights as they are now, ``(outputs, inputs)``."""
        parts = [getattr(self.owner, name) for name in self.names]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return whole if self.rows is None else whole[self.rows]

    def forward(self, source: Tensor) -> Tensor:
        """Apply the map, without a bias."""
        return nn.functional.linear(source, self.weight)


class Part(NamedTuple):
    """A linear map of one call: its name within the module, the map, and how many positions it is applied to."""

    name: str
    module: LinearPart
    positions: int


def _attention_parts(module: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Part]:
    given = inspect.signature(nn.MultiheadAttention.forward).bind(module, *args, **kwargs).arguments
    axis = 1 if module.batch_first and given["query"].dim() == 3 else 0
    width = module.embed_dim
    packed = module.in_proj_weight is not None
    for at, (source, letter) in enumerate((("query", "q"), ("key", "k"), ("value", "v"))):
        rows = slice(at * width, (at + 1) * width) if packed else None
        part = LinearPart(module, ("in_proj_weight" if packed else f"{letter}_proj_weight",), rows)
        yield Part(f"{letter}_proj", part, given[source].shape[axis])
    yield Part("out_proj", LinearPart(module.out_proj, ("weight",)), given["query"].shape[axis])


def _recurrent_parts(module: nn.RNNBase, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Part]:
    source = args[0] if args else kwargs["input"]
    if isinstance(source, PackedSequence):
        steps = len(source.batch_sizes)
    else:
        steps = source.shape[1 if module.batch_first and source.dim() == 3 else 0]
    for layer in range(module.num_layers):
        for direction in ("", "_reverse") if module.bidirectional else ("",):
            at = f"l{layer}{direction}"
            yield Part(at, LinearPart(module, (f"weight_ih_{at}", f"weight_hh_{at}")), steps)
            if module.proj_size > 0:
                yield Part(f"{at}_proj", LinearPart(module, (f"weight_hr_{at}",)), steps)


def _cell_parts(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Part]:
    yield Part("", LinearPart(module, ("weight_ih", "weight_hh")), 1)


COMPOSITES: dict[type[nn.Module], Callable[..., Iterator[Part]]] = {
    nn.MultiheadAttention: _attention_parts,
    nn.RNNBase: _recurrent_parts,
    nn.RNNCellBase: _cell_parts,
}


def is_composite(module: nn.Module) -> bool:
    """Whether the module is seen as the linear maps inside it."""
    return isinstance(module, tuple(COMPOSITES))


def parts_of(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Part]:
    """Return the linear maps of one call of a composite module."""
    rule = next(rule for kind, rule in COMPOSITES.items() if isinstance(module, kind))
    return list(rule(module, args, kwargs))


def expand_call(call: LayerCall, parts: list[Part]) -> Iterator[LayerCall]:
    """Yield a call for each linear map inside a composite module's call."""
    name, separator, repeat = call.name.partition(":")
    for part in parts:
        outputs, inputs = part.module.weight.shape
        yield LayerCall(
            ".".join(filter(None, (name, part.name))) + separator + repeat,
            part.module,
            torch.Size((part.positions, inputs)),
            torch.Size((part.positions, outputs)),
        )
