"""One forward and one backward pass that measure every supported parameter by outer products."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from lightning_foresight.functional.gradient_noise.ghost import SUPPORTED, Uses, record_uses

LossFn = Callable[[Tensor, Tensor], Tensor]


def ghost_pass(model: nn.Module, loss_fn: LossFn, inputs: Tensor, targets: Tensor) -> tuple[Tensor, list[nn.Parameter]]:
    """Return the squared norms of the examples' gradients over the parameters that outer products can measure.

    Args:
        model: The model; its examples must not influence each other.
        loss_fn: ``loss_fn(output, target)`` on a batch of one.
        inputs: Shape (examples, ...).
        targets: Shape (examples, ...).

    Returns:
        Squared norms of shape (examples,), and the parameters that they do not cover: those of other modules, or used
        outside of a module's call, as ``F.linear(x, embedding.weight)`` does.
    """
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def watch(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if isinstance(args[0], Tensor) and len(args[0]) == len(inputs) and output.requires_grad:
            calls.append((module, args[0].detach(), output))

    with ExitStack() as handles, torch.enable_grad():
        for module in model.modules():
            if type(module) in SUPPORTED and any(
                p is not None and p.requires_grad for p in module._parameters.values()
            ):
                handles.callback(module.register_forward_hook(watch).remove)
        outputs = model(inputs)

        def loss(output: Tensor, target: Tensor) -> Tensor:
            return loss_fn(output.unsqueeze(0), target.unsqueeze(0))

        total = vmap(loss)(outputs, targets).sum()
        seen = [output for _, _, output in calls]
        slopes = torch.autograd.grad(total, seen, allow_unused=True) if seen else ()
        uses_in_graph = count_uses(total)
    uses: dict[int, Uses] = {}
    with torch.no_grad():
        for (module, x, _), d in zip(calls, slopes, strict=True):
            if d is not None:
                record_uses(module, x, d, uses)
    squares = torch.zeros(len(inputs), device=outputs.device, dtype=outputs.dtype)
    left_over = []
    for parameter in model.parameters():
        if parameter.requires_grad and uses_in_graph[id(parameter)]:
            use = uses.get(id(parameter))
            if use is not None and use.count == uses_in_graph[id(parameter)]:
                squares = squares + use.sq_norms()
            else:
                left_over.append(parameter)
    return squares, left_over


def count_uses(loss: Tensor) -> Counter[int]:
    """Count how often each parameter enters the graph of a loss."""
    counts: Counter[int] = Counter()
    seen: set[Any] = {loss.grad_fn}
    waiting: list[Any] = [loss.grad_fn]
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is None:
                continue
            if hasattr(node, "variable"):
                counts[id(node.variable)] += 1
            elif node not in seen:
                seen.add(node)
                waiting.append(node)
    return counts
