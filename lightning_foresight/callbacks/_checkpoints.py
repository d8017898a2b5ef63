"""What a checkpoint file tells: weights, precision, and how far its run had come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from lightning_foresight.functional._checks import fail

_OWNER = "measure_checkpoints"
_PRECISION_OF: dict[torch.dtype | None, str] = {
    torch.float64: "64-true",
    torch.float16: "16-true",
    torch.bfloat16: "bf16-true",
}


def load_checkpoint(path: Path, device: str) -> dict[str, Any]:
    """Read a checkpoint of a Trainer.

    Raises:
        ValueError: If it is none.
    """
    checkpoint: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    missing = [key for key in ("state_dict", "global_step", "epoch") if key not in checkpoint]
    if missing:
        expected = f"it has no {', '.join(missing)}; expected a checkpoint that a Trainer has saved, with its weights."
        fail(_OWNER, "checkpoints", str(path), expected)
    return checkpoint


def take_weights(model: nn.Module, state: dict[str, Any], path: Path) -> None:
    """Give the model the weights of a checkpoint, and their type.

    Raises:
        ValueError: If they do not fit.
    """
    weights = _dtype(state)
    if weights is not None:  # which would be cast to those of the model without a word
        model.to(weights)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        name, what = type(model).__name__, " ".join(str(error).split())
        raise ValueError(
            f"{_OWNER}(model={name}): the weights of {path} are those of another model ({what}). Make the model with "
            f"the arguments of the run, for instance {name}.load_from_checkpoint(path)."
        ) from error


def precision_of(checkpoint: dict[str, Any]) -> str:
    """Return the precision of the run: what LogCheckpoint noted, else the type of the weights."""
    noted: str = _noted(checkpoint).get("precision", "")
    return noted or _PRECISION_OF.get(_dtype(checkpoint["state_dict"]), "32-true")


def epochs_of(checkpoint: dict[str, Any]) -> float:
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
