"""The loss of training_step, worked out once more without a trace in the run."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torchmetrics import Metric

from lightning_foresight.probes.samples import map_tensors


class TrainingLoss(nn.Module):
    """Calls ``training_step`` of a stand-in for the module, as a function of the weights.

    The stand-in has the module's parameters, and copies of its buffers, metrics, lists and other attributes, so that
    what a step appends, counts or logs is not the run's. What it changes elsewhere, through ``self.trainer`` say, is
    beyond reach.

    Args:
        pl_module: The LightningModule.
        parameters: Those of its parameters that the loss is a function of; others stay fixed.
        batch_idx: Passed on to ``training_step``.

    Raises:
        ValueError: If ``training_step`` takes an iterator instead of a batch, or optimizes by itself.

    Example:
        >>> import pytorch_lightning as pl
        >>> import torch
        >>> from lightning_foresight.probes.gradient_rerun import TrainingLoss
        >>> class Model(pl.LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer, self.outputs = torch.nn.Linear(1, 1), []
        ...     def training_step(self, batch):
        ...         self.outputs.append(self.layer(batch).mean())
        ...         return self.outputs[-1]
        >>> model = Model()
        >>> loss = TrainingLoss(model, list(model.parameters()))
        >>> loss(torch.ones(4, 1)).shape, model.outputs
        (torch.Size([]), [])
    """

    def __init__(self, pl_module: nn.Module, parameters: Sequence[nn.Parameter], batch_idx: int = 0) -> None:
        super().__init__()
        step: Any = pl_module.training_step
        names = list(inspect.signature(step).parameters)
        if "dataloader_iter" in names:
            raise ValueError(
                f"{type(pl_module).__name__}.training_step(dataloader_iter) fetches its batches itself; expected "
                "training_step(batch, batch_idx). It cannot be run on a batch of our choice."
            )
        if not getattr(pl_module, "automatic_optimization", True):
            raise ValueError(
                f"{type(pl_module).__name__} optimizes manually: its training_step would step the run's optimizers. "
                "Use probe_noise_scale(model, loss_fn, batches), which takes the loss as a function."
            )
        self._takes_index = len(names) > 1
        self._wanted = {id(parameter) for parameter in parameters}
        self.batch_idx = batch_idx
        self.stand_in = _stand_in(pl_module, {})
        for method in ("log", "log_dict"):
            self.stand_in.__dict__[method] = _log_nothing

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the chosen parameters only."""
        for name, parameter in super().named_parameters(*args, **kwargs):
            if id(parameter) in self._wanted:
                yield name, parameter

    def forward(self, batch: Any) -> Tensor:
        """Return the loss on a batch."""
        step: Any = self.stand_in.training_step
        output = step(batch, self.batch_idx) if self._takes_index else step(batch)
        loss = output.get("loss") if isinstance(output, dict) else output
        if not isinstance(loss, Tensor):
            raise ValueError(
                f"training_step returned {type(output).__name__} on the batch of the measurement; expected a loss."
            )
        return loss


class TrainingLossOfExamples(TrainingLoss):
    """The same as a function of which examples of one batch to take, by their positions."""

    def __init__(
        self, pl_module: nn.Module, parameters: Sequence[nn.Parameter], batch: Any, batch_idx: int = 0
    ) -> None:
        super().__init__(pl_module, parameters, batch_idx)
        self._batch = batch

    def forward(self, index: Tensor) -> Tensor:
        """Return the loss on some examples of the batch."""
        return super().forward(map_tensors(self._batch, lambda tensor: tensor[index]))


def _stand_in(module: nn.Module, made: dict[int, nn.Module]) -> nn.Module:
    """Copy a tree of modules, but for its parameters; a module that occurs twice is copied once."""
    if id(module) in made:
        return made[id(module)]
    if isinstance(module, Metric):
        made[id(module)] = copy.deepcopy(module)
    elif (original := module._modules.get("_orig_mod")) is not None:  # torch.compile keeps calling what it was given
        made[id(module)] = _stand_in(original, made)
    else:
        twin = made[id(module)] = object.__new__(type(module))
        for name, value in vars(module).items():
            twin.__dict__[name] = value.copy() if isinstance(value, (list, dict, set)) else value
        twin.__dict__["_compiled_call_impl"] = None
        for name, buffer in module._buffers.items():
            twin._buffers[name] = None if buffer is None else buffer.detach().clone()
        for name, child in module._modules.items():
            twin._modules[name] = None if child is None else _stand_in(child, made)
    return made[id(module)]


def _log_nothing(*args: Any, **kwargs: Any) -> None:
    """Stand in for the module's own logging."""
