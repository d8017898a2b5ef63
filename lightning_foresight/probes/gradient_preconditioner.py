"""The metric of an adaptive optimizer, parameter by parameter, as its state stands before a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_foresight.functional.gradient_noise.preconditioner import preconditioner_of


class OptimizerMetric:
    """Looks up what the optimizer of a parameter multiplies each entry of its gradient by.

    Nothing is kept, since the state moves on at every step; ``None`` before a parameter's first step.

    Args:
        optimizers: The optimizers of the run.
        parameters: The measured parameters.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lightning_foresight.probes.gradient_preconditioner import OptimizerMetric
        >>> weight = nn.Parameter(torch.zeros(2))
        >>> optimizer = torch.optim.Adam([weight])
        >>> metric = OptimizerMetric([optimizer], [weight])
        >>> weight.grad = torch.tensor([0.5, -4.0])
        >>> optimizer.step()
        >>> metric(0)
        tensor([2.0000, 0.2500])
    """

    def __init__(self, optimizers: Sequence[Optimizer], parameters: Sequence[nn.Parameter]) -> None:
        self.optimizers = optimizers
        self.parameters = parameters
        self._owners: dict[int, tuple[Optimizer, dict[str, Any]]] = {}

    def __call__(self, index: int) -> Tensor | None:
        """Return the preconditioner of the parameter at this position."""
        parameter = self.parameters[index]
        if id(parameter) not in self._owners:  # groups may be added during a run
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    self._owners |= {id(held): (optimizer, group) for held in group["params"]}
        if id(parameter) not in self._owners:
            return None
        optimizer, group = self._owners[id(parameter)]
        return preconditioner_of(optimizer.state.get(parameter, {}), group, type(optimizer))
