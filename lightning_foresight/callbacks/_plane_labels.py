"""Labels of samples: one integer each, and what to do where the targets are something else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_foresight.functional._checks import describe
from lightning_foresight.functional._trace import named_parts
from lightning_foresight.probes.samples import TARGET_KEYS

IGNORED = -100  # the label that torch.nn.functional.cross_entropy leaves out


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
        tokens = all(isinstance(piece, Tensor) and piece.ndim == 2 and _has_token_labels(piece) for piece in pieces)
        advice = f" {_of_tokens(pieces, argument, place)}" if tokens else ""
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
    several = labels.ndim == 2 and labels.shape[1] > 1
    if labels.is_complex() or len(labels) != count or not (labels.ndim == 1 or several or labels.shape == (count, 1)):
        return f"Pass a function that turns a batch into labels of shape (samples,): {argument}=lambda batch: ..."
    if several and _share_out_one(labels):
        what = "turn one-hot rows or probabilities into class numbers"
        return _advice(what, f"{'.int()' if labels.dtype == torch.bool else ''}.argmax(1)", argument, place)
    if several and _has_token_labels(labels):
        return _of_tokens([labels], argument, place)
    if several:
        choose = "These are several targets a sample, of which one has to be chosen; for the first column: "
        return choose + _of_column(labels[:, 0], "[:, 0]", argument, place)
    return _of_column(labels.flatten(), ".squeeze(1)" if labels.ndim == 2 else "", argument, place)


def _advice(what: str, how: str, argument: str, place: str | None) -> str:
    if place is None:
        return f"Let your {argument} function {what}: {how}."
    return f"{what[0].upper()}{what[1:]}: {argument}=lambda batch: {place}{how}."


def _of_column(column: Tensor, pick: str, argument: str, place: str | None) -> str:
    """Say how one target a sample becomes a label; ``pick`` takes it out of the targets."""
    if not column.is_floating_point():
        what = "take it alone" if pick == "[:, 0]" else f"drop {'its' if place is None else 'the'} last axis"
        return _advice(what, pick, argument, place)
    if not bool(column.isfinite().all()):
        return f"Some are NaN or infinite: leave out those samples, or give them a label of their own by {argument}=."
    if bool((column == column.round()).all()):
        return _advice("turn whole numbers stored as floats into integers", f"{pick}.long()", argument, place)
    pick += ".contiguous()" if pick == "[:, 0]" else ""  # torch.bucketize warns of strides
    low, high = (float(end) for end in column.aminmax())
    if low == high:
        return f"All of them are {low:g}, which nothing can tell about; choose others by {argument}=."
    # As many digits as the range needs: far from 0 a few would round all of it to one number.
    size = math.log10(max(abs(low), abs(high)) / (high - low))
    digits = 3 + max(0, math.ceil(size))
    precise = ", dtype=torch.float64" if size > 4 else ""
    edges = f"torch.linspace({low:.{digits}g}, {high:.{digits}g}, 9{precise})"
    text = "Continuous targets, as of a regression, have to be cut into classes, for instance 8 of equal width: "
    if place is None:
        return f"{text}let your {argument} function return torch.bucketize(values{pick}, {edges}[1:-1].to(values))."
    return f"{text}{argument}=lambda batch: torch.bucketize({place}{pick}, {edges}.to({place})[1:-1])."


def _of_tokens(pieces: Sequence[Tensor], argument: str, place: str | None) -> str:
    """Say which position has a label in every sequence."""
    what = "take one position of each sequence, where these are labels of tokens"
    if all(bool((piece[:, -1] != IGNORED).all()) for piece in pieces):
        last = _advice(what, "[:, -1]", argument, place)
        return f"{last[:-1]}, with reduce='last_token' for activations of the same one."
    width = min(piece.shape[1] for piece in pieces)
    labelled = torch.stack([(piece[:, :width] != IGNORED).all(0) for piece in pieces]).all(0).nonzero()
    if not len(labelled):
        return (
            f"These look like labels of tokens, and no position has one in every sequence ({IGNORED} is none): pass a "
            f"function that chooses one for each sequence, {argument}=lambda batch: ..."
        )
    position = int(labelled[-1])
    taken = _advice(what, f"[:, {position}]", argument, place)
    same = f"reduce=lambda activation: activation[:, {position}]"
    return f"{taken[:-1]}, with {same} for activations of the same one: behind it some have no label ({IGNORED})."


def _share_out_one(rows: Tensor) -> bool:
    """Whether rows are one-hot or probabilities."""
    numbers = rows.double()
    return bool(((numbers >= 0) & (numbers <= 1)).all() & ((numbers.sum(1) - 1).abs() < 0.01).all())


def _has_token_labels(labels: Tensor) -> bool:
    """Whether columns hold class numbers; 0 and 1 alone say whether each of several classes is there."""
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        return False
    return not bool(((labels == 0) | (labels == 1)).all())
