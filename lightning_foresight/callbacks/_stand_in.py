"""What callbacks ask a Trainer for, where there is none: loaders, transfer hooks and precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.plugins.precision import DoublePrecision, HalfPrecision, MixedPrecision, Precision

from lightning_foresight.functional._checks import check_choice

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule

PRECISIONS = ("32-true", "64-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed")


class StandIn:
    """Stands in for the Trainer of a run that is over.

    Args:
        model: The model.
        train: The loader that ``"train"`` means.
        val: The loader that ``"val"`` means.
        datamodule: Whose transfer hooks come before those of the model, as in a Trainer.
        precision: One of :data:`PRECISIONS`.
    """

    loggers: tuple[Any, ...] = ()
    optimizers: tuple[Any, ...] = ()
    world_size = 1
    is_global_zero = True

    def __init__(self, model: LightningModule, train: Any, val: Any, datamodule: Any, precision: str) -> None:
        self.model = self.lightning_module = model
        self.train_dataloader, self.val_dataloaders = train, val
        self.datamodule = datamodule
        self.precision = precision
        self.precision_plugin = self.strategy = self
        self._plugin = _plugin(precision, model.device.type)
        self.global_step, self.current_epoch = 0, 0

    def convert_input(self, batch: Any) -> Any:
        """Return a batch in the precision of the run."""
        return self._plugin.convert_input(batch)

    def forward_context(self) -> AbstractContextManager[None]:
        """Return a context in which the model runs in the precision of the run."""
        return self._plugin.forward_context()

    def before_transfer(self, batch: Any) -> Any:
        """Call the hook before a batch is moved."""
        return self._hook("on_before_batch_transfer", batch, 0)

    def batch_to_device(self, batch: Any, device: torch.device) -> Any:
        """Move a batch, and call the hook after that."""
        batch = self._hook("transfer_batch_to_device", batch, device, 0)
        return self._hook("on_after_batch_transfer", batch, 0)

    def _hook(self, name: str, *args: Any) -> Any:
        has_own = self.datamodule is not None and is_written(self.datamodule, name)
        return getattr(self.datamodule if has_own else self.model, name)(*args)


def is_written(datamodule: Any, name: str) -> bool:
    """Say whether a datamodule has a hook of its own, and not that of either Lightning package."""
    return not getattr(type(datamodule), name).__qualname__.startswith("DataHooks.")


def _plugin(precision: str, device: str) -> Any:
    check_choice("measure_checkpoints", "precision", precision, PRECISIONS)
    if precision in ("16-true", "bf16-true"):
        return HalfPrecision(precision)  # type: ignore[arg-type]
    if precision in ("16-mixed", "bf16-mixed"):
        return MixedPrecision(precision, device)  # type: ignore[arg-type]
    return DoublePrecision() if precision == "64-true" else Precision()
