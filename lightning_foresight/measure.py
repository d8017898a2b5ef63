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
from lightning_foresight.callbacks._checkpoints import epochs_of, load_checkpoint, precision_of, take_weights
from lightning_foresight.callbacks._stand_in import PRECISIONS, StandIn, is_written
from lightning_foresight.functional._checks import check_choice, fail
from lightning_foresight.history import History, Row

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule

COLUMNS = ("checkpoint", *Row._fields)


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
        FileNotFoundError: If a checkpoint is not there.
        TypeError: If a callback is none of this package, or the model is no module.
        ValueError: If a checkpoint is none of a Trainer or does not fit the model, a callback cannot measure a model at
            rest, two have the same prefix, ``output`` is another kind of file, or the precision is none of
            ``"32-true"``, ``"64-true"``, ``"16-true"``, ``"bf16-true"``, ``"16-mixed"`` and ``"bf16-mixed"``.

    Example:
        >>> from lightning_foresight import EICallback
        >>> from lightning_foresight.measure import measure_checkpoints
        >>> measure_checkpoints(model, paths, EICallback(), train_dataloader=loader, output="ei.csv")  # doctest: +SKIP
    """
    ours = list(callbacks) if isinstance(callbacks, Sequence) else [callbacks]
    paths = [Path(one) for one in ([checkpoints] if isinstance(checkpoints, (str, Path)) else checkpoints)]
    output = Path(output)
    _check(model, paths, ours, output)
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
    for path in paths:
        present = _present(output)
        missing = [callback for callback in ours if (path.resolve(), callback.prefix) not in present]
        if not missing:
            continue
        checkpoint = load_checkpoint(path, device)
        wanted = precision or precision_of(checkpoint)
        if trainer is None or trainer.precision != wanted:
            trainer = StandIn(model, train_dataloader, val_dataloader, datamodule, wanted)
            prepared.clear()
        take_weights(model, checkpoint["state_dict"], path)
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
        _check_columns("read_measurements", output, reader)
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


def _check_columns(owner: str, output: Path | str, reader: csv.DictReader[str]) -> None:
    if tuple(reader.fieldnames or ()) != COLUMNS:
        fail(owner, "output", str(output), f"expected the columns {', '.join(COLUMNS)}.")


def _is_begun(output: Path) -> bool:
    """Say whether there are lines in the file; one that is empty, as of ``mktemp``, is yet to be begun."""
    return output.exists() and output.stat().st_size > 0


def _check(model: Any, paths: list[Path], callbacks: list[ForesightCallback], output: Path) -> None:
    """Find mistakes before anything is measured, which may take hours."""
    if not isinstance(model, torch.nn.Module):
        fail("measure_checkpoints", "model", model, "expected a model, made as for the run; its weights are replaced.")
    if output.is_dir():
        fail("measure_checkpoints", "output", str(output), "it is a folder; expected the path of a CSV file.")
    if _is_begun(output):
        with open(output, newline="", errors="replace") as file:
            _check_columns("measure_checkpoints", output, csv.DictReader(file))
    for path in paths:
        if path.is_dir():
            expected = "it is a folder; expected files, such as sorted(Path(folder).glob('*.ckpt'))."
            fail("measure_checkpoints", "checkpoints", str(path), expected)
        if not path.exists():
            expected = "there is no such file; globs are for sorted(Path(folder).glob('*.ckpt'))."
            fail("measure_checkpoints", "checkpoints", str(path), expected, FileNotFoundError)
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
            history.add(step=step, epoch=epochs_of(checkpoint), key=keys, value=value)
    except Exception as error:
        warnings.warn(f"{callback.name}: {type(error).__name__}: {error}. {path.name} is left out.", stacklevel=3)
        return []
    return history.rows


def _present(output: Path) -> set[tuple[Path, str]]:
    """Return checkpoint and prefix of every value in the file, however the path was written."""
    if not _is_begun(output):
        return set()
    with open(output, newline="") as file:
        found = {(line["checkpoint"], line["key"].split("/", 1)[0]) for line in csv.DictReader(file) if line["key"]}
    return {(Path(checkpoint).resolve(), prefix) for checkpoint, prefix in found}


def _append(output: Path, checkpoint: Path, rows: list[Row]) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text)
    with FileLock(f"{output}.lock"):
        if not _is_begun(output):
            writer.writerow(COLUMNS)
        present = _present(output)  # another job may have been faster
        named = [(row, (Path(checkpoint).resolve(), row.key.split("/", 1)[0])) for row in rows]
        writer.writerows((checkpoint, *row) for row, name in named if name not in present)
        # In one piece, so that a job that is killed leaves no half of a checkpoint.
        with open(output, "a", newline="") as file:
            file.write(text.getvalue())
