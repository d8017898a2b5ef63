"""Labels of samples: one integer each, and what to do where the targets are something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_foresight.functional._checks import describe
from lightning_foresight.functional._trace import named_parts
from lightning_foresight.probes.samples import TARGET_KEYS


def place_of_targets(batch: Any) -> str:
    """Return where the targets of a batch are by default, as one would write it: ``batch["labels"]``."""
    parts = named_parts(batch)
    if parts is None:
        return "batch[1]"
    key = next((key for key in TARGET_KEYS if key in parts), TARGET_KEYS[0])
    return f'batch["{key}"]' if isinstance(batch, Mapping) else f"batch.{key}"


def check_labels(pieces: list[Any], count: int, owner: str, argument: str, place: str | None) -> Tensor:
    """Return the labels of all samples.

    Args:
        pieces: The targets of each batch.
        count: Number of samples.
        owner: Who asks, for error texts.
        argument: The argument that takes a function of the batch.
        place: Where the targets were found, see :func:`place_of_targets`; None if a function of the user gave them.

    Raises:
        ValueError: If they are not one integer each.
    """
    try:
        labels = torch.cat([torch.as_tensor(piece) for piece in pieces])
    except (TypeError, ValueError, RuntimeError) as error:
        of_tokens = isinstance(pieces[0], Tensor) and pieces[0].ndim == 2 and not pieces[0].is_floating_point()
        advice = f" {_what_would_do(pieces[0], len(pieces[0]), argument, place)}" if of_tokens else ""
        raise ValueError(
            f"{owner}: the targets of a batch are a {type(pieces[0]).__name__} that makes no tensor of labels "
            f"({error}); expected one integer label a sample.{advice}"
        ) from error
    if labels.is_floating_point() or labels.is_complex() or labels.shape != (count,):
        raise ValueError(
            f"{owner}: the targets are {describe(labels)} for {count} samples; expected one integer label each. "
            f"{_what_would_do(labels, count, argument, place)}"
        )
    return labels


def _what_would_do(labels: Tensor, count: int, argument: str, place: str | None) -> str:
    """Say which function makes labels of these targets, or what the user's own should do besides."""

    def advice(what: str, how: str) -> str:
        if place is None:
            return f"Let your {argument} function {what}: {how}."
        return f"{what[0].upper()}{what[1:]}: {argument}=lambda batch: {place}{how}."

    column = labels.shape == (count, 1)
    if labels.ndim == 2 and len(labels) == count and not column and not labels.is_complex():
        if not _are_token_labels(labels):
            return advice("turn one-hot rows or scores into class numbers", ".argmax(1)")
        last = advice("take one position of each sequence, where these are labels of tokens", "[:, -1]")
        return f"{last[:-1]}, with reduce='last_token' for activations of the same one."
    drop = ".squeeze(1)" if column else ""
    if labels.is_complex() or not (column or labels.shape == (count,)):
        return f"Pass a function that turns a batch into labels of shape (samples,): {argument}=lambda batch: ..."
    if not labels.is_floating_point():
        return advice("drop its last axis" if place is None else "drop the last axis", drop)
    if bool((labels == labels.round()).all()):
        return advice("turn whole numbers stored as floats into integers", f"{drop}.long()")
    if not bool(labels.isfinite().all()):
        return f"Some are NaN or infinite: leave out those samples, or give them a label of their own by {argument}=."
    low, high = (f"{float(end):.3g}" for end in labels.aminmax())
    edges = f"torch.linspace({low}, {high}, 9)"
    text = "Continuous targets, as of a regression, have to be cut into classes, for instance 8 of equal width: "
    if place is None:
        return f"{text}let your {argument} function return torch.bucketize(values{drop}, {edges}[1:-1].to(values))."
    return f"{text}{argument}=lambda batch: torch.bucketize({place}{drop}, {edges}.to({place})[1:-1])."


def _are_token_labels(labels: Tensor) -> bool:
    """Whether rows hold integers that are not one-hot."""
    if labels.is_floating_point() or labels.dtype == torch.bool:
        return False
    one_hot = ((labels == 0) | (labels == 1)).all() & (labels.sum(1) == 1).all()
    return not bool(one_hot)
