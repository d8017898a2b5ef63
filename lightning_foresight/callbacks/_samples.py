"""The samples of a run on which a callback watches the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning_foresight.functional._checks import fail
from lightning_foresight.probes.samples import fixed_batches

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer


def run_samples(
    trainer: Trainer, pl_module: LightningModule, source: Any, num_samples: int, *, seed: int, owner: str
) -> list[Any]:
    """Draw batches of fixed samples from a loader of the run, or from one's own, and put them on the device.

    Args:
        trainer: The Trainer, whose loaders ``"train"`` and ``"val"`` mean.
        pl_module: The model, whose ``transfer_batch_to_device`` moves the batches.
        source: ``"train"``, ``"val"``, a DataLoader, tensors ``(inputs, targets)`` or an iterable of batches.
        num_samples: How many samples.
        seed: Seed of the choice.
        owner: Who asks, for error texts.
    """
    if isinstance(source, str):
        source = _loader(trainer, source, owner)
    batches = fixed_batches(source, num_samples, seed=seed, owner=owner)
    return [pl_module.transfer_batch_to_device(batch, pl_module.device, 0) for batch in batches]


def example_batch(trainer: Trainer, pl_module: LightningModule, *, num_samples: int, seed: int, owner: str) -> Any:
    """Return one small batch to trace the model with: of training data, or the model's ``example_input_array``."""
    example = getattr(pl_module, "example_input_array", None)
    if example is not None:
        return pl_module.transfer_batch_to_device(example, pl_module.device, 0)
    return run_samples(trainer, pl_module, "train", num_samples, seed=seed, owner=owner)[0]


def _loader(trainer: Trainer, which: str, owner: str) -> Any:
    if which not in ("train", "val"):
        fail(owner, "dataloader", which, "expected 'train', 'val', a DataLoader or tensors (inputs, targets).")
    loaders: Any = trainer.train_dataloader if which == "train" else trainer.val_dataloaders
    while isinstance(loaders, (list, tuple, dict)) and len(loaders) > 0:
        loaders = next(iter(loaders.values())) if isinstance(loaders, dict) else loaders[0]
    if loaders is None or (isinstance(loaders, (list, tuple, dict)) and not loaders):
        other = "val" if which == "train" else "train"
        fail(
            owner,
            "dataloader",
            which,
            f"the Trainer has no such loader. Pass {other!r}, a DataLoader, or tensors (inputs, targets).",
        )
    return loaders
