"""Capturing what layers compute on a fixed set of samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from lightning_foresight.functional._trace import first_tensor

Reduction = Callable[[Tensor], Tensor]


def _flatten(activation: Tensor) -> Tensor:
    return activation.flatten(1)


def _mean_tokens(activation: Tensor) -> Tensor:
    return activation.mean(1) if activation.ndim > 2 else activation


def _last_token(activation: Tensor) -> Tensor:
    return activation[:, -1] if activation.ndim > 2 else activation


def _mean_pixels(activation: Tensor) -> Tensor:
    return activation.flatten(2).mean(2) if activation.ndim > 2 else activation


# From an activation (samples, ...) to features (samples, features); functions with names, so that they pickle.
REDUCTIONS: dict[str, Reduction] = {
    "flatten": _flatten,
    "mean_tokens": _mean_tokens,
    "last_token": _last_token,
    "mean_pixels": _mean_pixels,
}


def capture_activations(
    modules: Mapping[str, nn.Module],
    batches: Iterable[Any],
    forward: Callable[[Any], Any],
    reduce: Reduction = REDUCTIONS["flatten"],
) -> dict[str, Tensor]:
    """Run a model over batches and collect the outputs of some of its modules, one row a sample.

    The caller decides about modes, gradients and random state; see
    :func:`~lightning_foresight.probes.isolation.undisturbed`.

    Args:
        modules: The modules to watch, by name.
        batches: What ``forward`` takes, one at a time.
        forward: Runs the model on one batch.
        reduce: Turns an activation (samples, ...) into features; the result is flattened behind the batch axis.

    Returns:
        By name, in order of execution, a floating-point tensor (samples, features) on the device of the activations. A
        second call of the same module within a forward pass is named ``name:2``.

    Raises:
        ValueError: If a module is never called in a forward pass, or its width differs between batches.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lightning_foresight.probes.activations import capture_activations
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.Tanh())
        >>> captured = capture_activations({"tanh": model[1]}, [torch.zeros(5, 4), torch.zeros(2, 4)], model)
        >>> captured["tanh"].shape
        torch.Size([7, 3])
    """
    pieces: dict[str, list[Tensor]] = {}
    times: Counter[str] = Counter()

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            activation = first_tensor(output)
            if activation is None:
                return
            times[name] += 1
            unique = name if times[name] == 1 else f"{name}:{times[name]}"
            activation = activation.detach()
            if not activation.is_floating_point():
                activation = activation.float()
            # A copy: the next module may work in place.
            pieces.setdefault(unique, []).append(reduce(activation).flatten(1).clone())

        return hook

    with ExitStack() as handles:
        for name, module in modules.items():
            handle = module.register_forward_hook(watch(name))
            handles.callback(handle.remove)
        for batch in batches:
            times.clear()
            forward(batch)
    silent = [name for name in modules if name not in pieces]
    if silent:
        raise ValueError(
            f"capture_activations: {', '.join(silent)} never called in a forward pass. Choose layers that the model's "
            "forward runs, or leave these out of layers=."
        )
    return {name: _joined(name, parts) for name, parts in pieces.items()}


def _joined(name: str, parts: list[Tensor]) -> Tensor:
    widths = sorted({part.shape[1] for part in parts})
    if len(widths) > 1:
        raise ValueError(
            f"capture_activations: {name} has {widths[0]} to {widths[-1]} features, of batches of different lengths; "
            "expected as many in each. Average them (reduce='mean_tokens'), or pad all batches to one length."
        )
    return torch.cat(parts)
