"""The samples of a run on which a callback watches the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lightning_utilities.core.rank_zero import rank_zero_info
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lightning_foresight.callbacks._stand_in import StandIn
from lightning_foresight.functional._checks import fail
from lightning_foresight.probes.isolation import preserved_random_state
from lightning_foresight.probes.samples import batch_length, fixed_batches, split_batch, with_forward

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer


def run_samples(
    trainer: Trainer, pl_module: LightningModule, source: Any, num_samples: int, *, seed: int, owner: str
) -> list[Any]:
    """Draw batches of fixed samples from a loader of the run, or from one's own, and put them on the device.

    Args:
        trainer: The Trainer, whose loaders ``"train"`` and ``"val"`` mean.
        pl_module: The model; its and the datamodule's transfer hooks move the batches.
        source: ``"train"``, ``"val"``, a DataLoader, tensors ``(inputs, targets)`` or an iterable of batches.
        num_samples: How many samples.
        seed: Seed of the choice.
        owner: Who asks, for error texts.
    """
    if isinstance(source, str):
        source = _loader(trainer, source, owner)
    batches = fixed_batches(source, num_samples, seed=seed, owner=owner)
    # The hooks of a transfer may augment, at random, and do as a rule while `trainer.training`.
    with preserved_random_state(seed), _as_in_validation(trainer):
        return [_transferred(trainer, pl_module, batch) for batch in batches]


def leading_batches(batches: list[Any], num_samples: int) -> list[Any]:
    """Return as many of the first batches as hold so many samples, if there are so many."""
    chosen, held = [], 0
    for batch in batches:
        if held >= num_samples:
            break
        chosen.append(batch)
        held += batch_length(split_batch(batch)[0])
    return chosen


def _transferred(trainer: Trainer, pl_module: LightningModule, batch: Any) -> Any:
    """Put a batch on the device through the hooks of the model or the datamodule, in the order of Lightning's loops."""
    in_run = pl_module._on_before_batch_transfer  # there is no public name for it
    before_transfer = trainer.before_transfer if isinstance(trainer, StandIn) else in_run
    batch = before_transfer(trainer.precision_plugin.convert_input(batch))
    return trainer.strategy.batch_to_device(batch, pl_module.device)


_EXPECTED = "expected 'train', 'val', a DataLoader or tensors (inputs, targets)."


def check_source(owner: str, source: Any) -> None:
    """Require something that :func:`run_samples` takes, before the run.

    Raises:
        ValueError: If it is a name that means no loader.
        TypeError: If it is nothing that holds batches.
    """
    if isinstance(source, str):
        if source not in ("train", "val"):
            fail(owner, "dataloader", source, _EXPECTED)
    elif isinstance(source, Dataset) and not isinstance(source, IterableDataset):
        fail(owner, "dataloader", source, f"{_EXPECTED} Wrap the dataset: DataLoader(dataset, 256).", TypeError)
    elif isinstance(source, Mapping) or not isinstance(source, (DataLoader, Iterable)):
        fail(owner, "dataloader", source, _EXPECTED, TypeError)


def example_batch(trainer: Trainer, pl_module: LightningModule, *, num_samples: int, seed: int, owner: str) -> Any:
    """Return one small batch to trace the model with: of training data, or the model's ``example_input_array``."""
    example = getattr(pl_module, "example_input_array", None)
    if example is not None:
        example = trainer.precision_plugin.convert_input(example)
        return pl_module.transfer_batch_to_device(example, pl_module.device, 0)
    return run_samples(trainer, pl_module, "train", num_samples, seed=seed, owner=owner)[0]


def run_example(pl_module: LightningModule, batch: Any, run_model: Callable[[LightningModule, Any], Any]) -> Any:
    """Run the model on what :func:`example_batch` returned, and say what to do if that fails."""
    try:
        if getattr(pl_module, "example_input_array", None) is None:
            return run_model(pl_module, batch)
        model = with_forward(pl_module)
        if isinstance(batch, dict):  # Lightning's own convention for several inputs
            return model(**batch)
        return model(*batch) if isinstance(batch, tuple) else model(batch)
    except Exception as error:
        raise ValueError(
            f"{type(pl_module).__name__} cannot be run on an example batch ({type(error).__name__}: {error}). Or "
            "override run_model(self, pl_module, batch) of the callback to say how to run it; a model with a forward "
            "may say by its example_input_array what that takes."
        ) from error


@contextmanager
def _as_in_validation(trainer: Trainer) -> Iterator[None]:
    state = getattr(trainer, "state", None)  # a stand-in for checkpoints has none
    if state is None:
        yield
        return
    stage = state.stage
    trainer.validating = True
    try:
        yield
    finally:
        state.stage = stage


def _loader(trainer: Trainer, which: str, owner: str) -> Any:
    if which not in ("train", "val"):
        fail(owner, "dataloader", which, _EXPECTED)
    if which == "val":
        loader = _first(trainer.val_dataloaders)
        if loader is not None:
            return loader
        rank_zero_info(f"{owner}: there is no validation loader; the samples come from the training data.")
    loader = _first(trainer.train_dataloader)
    if loader is None:
        expected = "there is no such loader; pass one to measure_checkpoints (train_dataloader=, val_dataloader=, "
        fail(owner, "dataloader", which, f"{expected}datamodule=), or to the callback (dataloader=).")
    return loader


def _first(loaders: Any) -> Any:
    """Return the first loader in nested lists and mappings, ``None`` if there is none."""
    while isinstance(loaders, (list, tuple, dict)):
        if not loaders:
            return None
        loaders = next(iter(loaders.values())) if isinstance(loaders, dict) else loaders[0]
    return loaders
