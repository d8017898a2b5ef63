"""Measuring saved checkpoints later, with the callbacks that measure live."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock  # comes with torch

from lightning_foresight.callbacks._base import ForesightCallback
from lightning_foresight.callbacks._stand_in import PRECISIONS, StandIn, is_written
from lightning_foresight.functional._checks import check_choice, fail
from lightning_foresight.history import History, Row

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule

COLUMNS = ("checkpoint", *Row._fields)
_PRECISION_OF: dict[torch.dtype | None, str] = {
    torch.float64: "64-true",
    torch.float16: "16-true",
    torch.bfloat16: "bf16-true",
}


def measure_checkpoints(
    model: LightningModule,
    checkpoints: str | Path | Iterable[str | Path],
    callbacks: ForesightCallback | Sequence[ForesightCallback],
    *,
    train_dataloader: Any = None,
    val_dataloader: Any = None,
    datamodule: Any = None,
    output: str | Path,
    device: str = "cpu",
    precision: str | None = None,
) -> list[Path]:
    """Measure checkpoints with callbacks and append what they return to a CSV file.

    A checkpoint that the file already holds for a callback's prefix is skipped, so that an interrupted job goes on
    where it stopped. Several jobs may share a file: rows are appended under a lock, a checkpoint at a time.

    Args:
        model: A model of the right shape; its weights are replaced by those of each checkpoint.
        checkpoints: Files that Lightning has written, or one.
        callbacks: What to measure: everything that looks at a model at rest. The gradient noise scale needs a run.
        train_dataloader: The loader that ``dataloader="train"`` means.
        val_dataloader: The loader that ``dataloader="val"`` means.
        datamodule: Instead of loaders, the LightningDataModule that has them; its transfer hooks are called, too.
        output: The CSV file, with one line a value: the checkpoint's path and the fields of
            :class:`~lightning_foresight.history.Row`.
        device: Where to measure.
        precision: That of the run, as in ``Trainer(precision="bf16-mixed")``. By default what
            :class:`~lightning_foresight.LogCheckpoint` noted, else the type of the weights, which does not tell that a
            run was of mixed precision.

    Returns:
        The checkpoints that were measured now.

    Raises:
        TypeError: If a callback is none of this package.
        ValueError: If a callback cannot measure a model at rest, two have the same prefix, or the precision is none of
            ``"32-true"``, ``"64-true"``, ``"16-true"``, ``"bf16-true"``, ``"16-mixed"`` and ``"bf16-mixed"``.

    Example:
        >>> from lightning_foresight import EICallback
        >>> from lightning_foresight.measure import measure_checkpoints
        >>> measure_checkpoints(model, paths, EICallback(), train_dataloader=loader, output="ei.csv")  # doctest: +SKIP
    """
    ours = list(callbacks) if isinstance(callbacks, Sequence) else [callbacks]
    _check(ours)
    output = Path(output)
    if precision is not None:
        check_choice("measure_checkpoints", "precision", precision, PRECISIONS)
    if datamodule is not None:
        if train_dataloader is not None or val_dataloader is not None:
            fail("measure_checkpoints", "datamodule", datamodule, "expected loaders or a datamodule, not both.")
        datamodule.prepare_data()
        datamodule.setup("fit")
        train_dataloader, val_dataloader = (
            getattr(datamodule, name)() if is_written(datamodule, name) else None
            for name in ("train_dataloader", "val_dataloader")
        )
    model.to(device)
    trainer: Any = None
    measured = []
    prepared: set[str] = set()
    for path in map(Path, [checkpoints] if isinstance(checkpoints, (str, Path)) else checkpoints):
        present = _present(output)
        missing = [callback for callback in ours if (path.resolve(), callback.prefix) not in present]
        if not missing:
            continue
        checkpoint = torch.load(path, map_location=device, weights_only=True)
        weights = _dtype(checkpoint["state_dict"])
        wanted = precision or _noted(checkpoint).get("precision") or _PRECISION_OF.get(weights, "32-true")
        if trainer is None or trainer.precision != wanted:
            trainer = StandIn(model, train_dataloader, val_dataloader, datamodule, wanted)
            prepared.clear()
        if weights is not None:  # which would be cast to those of the model without a word
            model.to(weights)
        model.load_state_dict(checkpoint["state_dict"])
        trainer.global_step, trainer.current_epoch = checkpoint["global_step"], checkpoint["epoch"]
        rows: list[Row] = []
        for callback in missing:
            if callback.prefix not in prepared:
                callback.prepare(trainer, model)
                prepared.add(callback.prefix)
            rows += _rows(callback, trainer, model, checkpoint, path)
        _append(output, path, rows)
        measured.append(path)
    for callback in ours:
        callback.release()
    return measured


def read_measurements(output: str | Path) -> History:
    """Read what :func:`measure_checkpoints` has written, for plots and for an ensemble of seeds.

    Args:
        output: The CSV file.

    Returns:
        All values by epoch, whichever job measured them when.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is another kind of file.
    """
    with open(output, newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            fail("read_measurements", "output", str(output), f"expected the columns {', '.join(COLUMNS)}.")
        rows = [
            Row(
                int(line["step"]),
                float(line["epoch"]),
                line["key"],
                float(line["value"]),
                float(line["lower"]),
                float(line["upper"]),
                int(line["num_samples"]),
                line["kind"],
            )
            for line in reader
        ]
    history = History()
    history.load_state_dict({field: [getattr(row, field) for row in sorted(rows)] for field in Row._fields})
    return history


def _check(callbacks: list[ForesightCallback]) -> None:
    for callback in callbacks:
        if not isinstance(callback, ForesightCallback):
            fail("measure_checkpoints", "callbacks", callback, "expected callbacks of this package.", TypeError)
    prefixes = [callback.prefix for callback in callbacks]
    for callback in callbacks:
        if not callback.measures_at_rest:
            fail("measure_checkpoints", "callbacks", callback.name, "it needs gradients of a run; measure it live.")
        if prefixes.count(callback.prefix) > 1:
            fail("measure_checkpoints", "callbacks", prefixes, "give each callback a prefix of its own.")


def _rows(callback: ForesightCallback, trainer: Any, model: Any, checkpoint: dict[str, Any], path: Path) -> list[Row]:
    history = History()
    loop = checkpoint.get("loops", {}).get("fit_loop", {})
    step = max(0, loop.get("epoch_loop.state_dict", {}).get("_batches_that_stepped", checkpoint["global_step"]) - 1)
    try:
        for key, value in callback.measure(trainer, model).items():
            keys = [callback.key(key)] if isinstance(key, str) else [callback.key(one) for one in key]
            history.add(step=step, epoch=_epochs(checkpoint), key=keys, value=value)
    except Exception as error:
        warnings.warn(f"{callback.name}: {type(error).__name__}: {error}. {path.name} is left out.", stacklevel=3)
        return []
    return history.rows


def _epochs(checkpoint: dict[str, Any]) -> float:
    """Return the completed epochs: LogCheckpoint notes them, other checkpoints tell what they come to."""
    noted = _noted(checkpoint)
    # The moment may be that of an earlier checkpoint than this one of another callback.
    if noted and noted["step"] == checkpoint["global_step"]:
        return float(noted["epoch"])
    epoch = checkpoint["epoch"]
    progress = checkpoint.get("loops", {}).get("fit_loop", {}).get("epoch_loop.batch_progress", {})
    if not progress or progress["is_last_batch"]:
        return float(epoch + bool(progress))
    done = progress["current"]["processed"]
    before = progress["total"]["processed"] - done
    # Epochs have the length of those before, if there were any.
    return epoch + min(done / before * epoch, 1.0) if before else float(epoch)


def _noted(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return what a LogCheckpoint of the run has noted."""
    states = checkpoint.get("callbacks", {}).items()
    return next((state for key, state in states if key.startswith("LogCheckpoint[")), {})


def _dtype(state: dict[str, Any]) -> torch.dtype | None:
    """Return the one type of all weights, if there is one."""
    types = {value.dtype for value in state.values() if isinstance(value, torch.Tensor) and value.is_floating_point()}
    return types.pop() if len(types) == 1 else None


def _present(output: Path) -> set[tuple[Path, str]]:
    """Return checkpoint and prefix of every value in the file, however the path was written."""
    if not output.exists():
        return set()
    with open(output, newline="") as file:
        found = {(line["checkpoint"], line["key"].split("/", 1)[0]) for line in csv.DictReader(file) if line["key"]}
    return {(Path(checkpoint).resolve(), prefix) for checkpoint, prefix in found}


def _append(output: Path, checkpoint: Path, rows: list[Row]) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text)
    with FileLock(f"{output}.lock"):
        if not output.exists():
            writer.writerow(COLUMNS)
        present = _present(output)  # another job may have been faster
        named = [(row, (Path(checkpoint).resolve(), row.key.split("/", 1)[0])) for row in rows]
        writer.writerows((checkpoint, *row) for row, name in named if name not in present)
        # In one piece, so that a job that is killed leaves no half of a checkpoint.
        with open(output, "a", newline="") as file:
            file.write(text.getvalue())
