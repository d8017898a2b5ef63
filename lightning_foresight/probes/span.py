"""A part of a model, from the input of one layer to the output of another, as a map of its own."""

from __future__ import annotations

from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from lightning_foresight.functional._checks import fail
from lightning_foresight.functional._trace import clean_name, first_tensor
from lightning_foresight.probes.isolation import undisturbed


class _Reached(Exception):
    """Carries the output of the span's last layer out of the model's forward pass."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


class LayerSpan(nn.Module):
    """The map from the input of ``in_layer`` to the output of ``layer`` inside a model, for the measures of layers.

    The model runs on an example; what ``in_layer`` reads first is replaced (in all places where it reads the same
    tensor, as self-attention does), and what ``layer`` gives is the answer. Whatever goes past ``in_layer`` (a skip
    connection around it, another input) keeps the values of the example's first row.
    Modules called several times take part with their first call.

    Args:
        model: The model.
        in_layer: Name of the first layer.
        layer: Name of the last one, the same or one that runs later.
        example_input: A batch that the model can be called with; a tuple is taken as several arguments.

    Attributes:
        in_shape: Shape of what ``in_layer`` reads, without the batch axis.
        out_shape: Shape of what ``layer`` gives, without the batch axis.

    Raises:
        ValueError: If the model has no such layer, or does not come from the one to the other.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lightning_foresight.functional import effective_information
        >>> from lightning_foresight.probes.span import LayerSpan
        >>> model = nn.Sequential(nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 3), nn.Sigmoid())
        >>> span = LayerSpan(model, "1", "3", torch.zeros(1, 4))
        >>> span.in_shape, span.out_shape
        ((2,), (3,))
        >>> whole = effective_information(
        ...     span, in_range=(-2, 2), out_range=(0, 1), in_bins=4, out_bins=4, in_shape=span.in_shape
        ... )
        >>> bool(0 < whole.value < 4)
        True
    """

    def __init__(self, model: nn.Module, in_layer: str, layer: str, example_input: Any) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            fail("LayerSpan", "model", model, "expected a module.", TypeError)
        self.model = model
        self._first = _module_of(model, "in_layer", in_layer)
        self._last = _module_of(model, "layer", layer)
        self._names = in_layer, layer
        arguments = example_input if isinstance(example_input, tuple) else (example_input,)
        found = first_tensor(arguments)
        if found is None:
            fail("LayerSpan", "example_input", example_input, "expected a tensor, or a tuple of arguments with one.")
        elif not found.dim() or not len(found):
            fail("LayerSpan", "example_input", tuple(found.shape), "expected a batch of at least one row.")
        self._example = arguments
        seen: list[Tensor] = []
        handle = self._first.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append(_source(args, kwargs)), with_kwargs=True
        )
        try:
            with undisturbed(model):
                # Of a copy: the model may begin with something that works in place.
                output = self._run(apply_to_collection(arguments, Tensor, torch.clone))
        finally:
            handle.remove()
        if not seen:
            raise ValueError(
                f"LayerSpan(in_layer={in_layer!r}, layer={layer!r}): the model does not come through {in_layer!r} "
                f"before {layer!r}. Pass the one that runs first as in_layer."
            )
        self.in_shape = tuple(seen[0].shape[1:])
        self.out_shape = tuple(output.shape[1:])

    def forward(self, source: Tensor) -> Tensor:
        """Return what the last layer gives ``(batch, *out_shape)`` if the first reads ``(batch, *in_shape)``."""
        done = False

        def replace(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
            nonlocal done
            if done:
                return None
            done = True
            read = _source(args, kwargs)
            noise = source.to(read.dtype)
            given = tuple(noise if value is read else value for value in args)
            return given, {key: noise if value is read else value for key, value in kwargs.items()}

        handle = self._first.register_forward_pre_hook(replace, with_kwargs=True)
        try:
            return self._run(_rows(self._example, len(source)))
        finally:
            handle.remove()

    def _run(self, arguments: tuple[Any, ...]) -> Tensor:
        def leave(module: nn.Module, args: Any, output: Any) -> None:
            found = first_tensor(output)
            if found is not None:
                raise _Reached(found)

        handle = self._last.register_forward_hook(leave)
        try:
            self.model(*arguments)
        except _Reached as reached:
            return reached.output
        finally:
            handle.remove()
        first, last = self._names
        raise ValueError(
            f"LayerSpan(in_layer={first!r}, layer={last!r}): {last!r} never ran as a module in the forward pass. "
            "Name a module that the model calls."
        )


def _module_of(model: nn.Module, argument: str, name: str) -> nn.Module:
    modules = {clean_name(found): module for found, module in model.named_modules() if found}
    if name not in modules:
        known = ", ".join(list(modules)[:20])
        fail("LayerSpan", argument, name, f"expected the name of a module of the model: {known}.")
    return modules[name]


def _source(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    found = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
    if found is None:
        raise ValueError(
            "LayerSpan(in_layer=...): the first layer gets no tensor as an argument that noise could replace."
        )
    return found


def _rows(value: Any, count: int) -> Any:
    """Return the example's first row so many times."""
    return apply_to_collection(
        value, Tensor, lambda one: one[:1].expand(count, *one.shape[1:]).clone() if one.dim() else one
    )
