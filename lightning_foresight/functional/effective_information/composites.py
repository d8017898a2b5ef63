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
        biases: Names of the biases, which are added up; those that the module lacks are left out.
        bias_rows: Which of their numbers; as ``rows`` when ``None``.
    """

    def __init__(
        self,
        owner: nn.Module,
        names: tuple[str, ...],
        rows: slice | None = None,
        biases: tuple[str, ...] = (),
        bias_rows: slice | None = None,
    ) -> None:
        super().__init__()
        self.owner = owner
        self.names = names
        self.rows = rows
        self.biases = biases
        self.bias_rows = bias_rows or rows or slice(None)

    @property
    def weight(self) -> Tensor:
        """The weights as they are now, ``(outputs, inputs)``."""
        parts = [getattr(self.owner, name) for name in self.names]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return whole if self.rows is None else whole[self.rows]

    @property
    def offset(self) -> Tensor | None:
        """The sum of the biases as they are now, ``(outputs,)``."""
        found = [getattr(self.owner, name, None) for name in self.biases]
        given = [bias[self.bias_rows] for bias in found if bias is not None]
        return torch.stack(given).sum(0) if given else None

    def forward(self, source: Tensor) -> Tensor:
        """Apply the map, without a bias."""
        return nn.functional.linear(source, self.weight)


class Part(NamedTuple):
    """A linear map of one call: its name within the module, the map, and how many positions it is applied to."""

    name: str
    module: LinearPart
    positions: int


def attention_projection(module: nn.MultiheadAttention, letter: str) -> LinearPart:
    """Return the projection of the queries (``"q"``), keys (``"k"``) or values (``"v"``)."""
    start = "qkv".index(letter) * module.embed_dim
    rows = slice(start, start + module.embed_dim)
    if module.in_proj_weight is not None:
        return LinearPart(module, ("in_proj_weight",), rows, ("in_proj_bias",))
    # Weights of their own, but the biases lie in one vector all the same.
    return LinearPart(module, (f"{letter}_proj_weight",), biases=("in_proj_bias",), bias_rows=rows)


def output_projection(module: nn.MultiheadAttention) -> LinearPart:
    """Return the projection of what the heads give, side by side."""
    return LinearPart(module.out_proj, ("weight",), biases=("bias",))


def _attention_parts(module: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Part]:
    given = inspect.signature(nn.MultiheadAttention.forward).bind(module, *args, **kwargs).arguments
    axis = 1 if module.batch_first and given["query"].dim() == 3 else 0
    for source, letter in (("query", "q"), ("key", "k"), ("value", "v")):
        yield Part(f"{letter}_proj", attention_projection(module, letter), given[source].shape[axis])
    yield Part("out_proj", output_projection(module), given["query"].shape[axis])


def gates(module: nn.Module, suffix: str = "") -> LinearPart:
    """Return the map from input and previous state to the gates of a recurrent layer."""
    names = f"weight_ih{suffix}", f"weight_hh{suffix}"
    return LinearPart(module, names, biases=(f"bias_ih{suffix}", f"bias_hh{suffix}"))


def _recurrent_parts(module: nn.RNNBase, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Part]:
    source = args[0] if args else kwargs["input"]
    if isinstance(source, PackedSequence):
        steps = len(source.batch_sizes)
    else:
        steps = source.shape[1 if module.batch_first and source.dim() == 3 else 0]
    for layer in range(module.num_layers):
        for direction in ("", "_reverse") if module.bidirectional else ("",):
            at = f"l{layer}{direction}"
            yield Part(at, gates(module, f"_{at}"), steps)
            if module.proj_size > 0:
                yield Part(f"{at}_proj", LinearPart(module, (f"weight_hr_{at}",)), steps)


def _cell_parts(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Part]:
    yield Part("", gates(module), 1)


COMPOSITES: dict[type[nn.Module], Callable[..., Iterator[Part]]] = {
    nn.MultiheadAttention: _attention_parts,
    nn.RNNBase: _recurrent_parts,
    nn.RNNCellBase: _cell_parts,
}


def is_composite(module: nn.Module) -> bool:
    """Whether the module is seen as the linear maps inside it."""
    return isinstance(module, tuple(COMPOSITES))


def part_names(name: str, module: nn.Module) -> list[str]:
    """Return the names under which the linear maps inside a composite module are listed; none for other modules."""
    found = []
    if isinstance(module, nn.MultiheadAttention):
        found = [f"{part}_proj" for part in ("q", "k", "v", "out")]
    elif isinstance(module, nn.RNNBase):
        directions = ("", "_reverse") if module.bidirectional else ("",)
        found = [f"l{layer}{direction}" for layer in range(module.num_layers) for direction in directions]
        found += [f"{part}_proj" for part in found if module.proj_size > 0]
    return [".".join(filter(None, (name, part))) for part in found]


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
