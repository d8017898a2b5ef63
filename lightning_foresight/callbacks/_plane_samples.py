"""The samples, targets and layers of an information plane."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor

from lightning_foresight.callbacks._plane_labels import check_labels, place_of_targets
from lightning_foresight.callbacks._samples import run_samples
from lightning_foresight.functional._checks import fail
from lightning_foresight.functional._random import own_generator
from lightning_foresight.functional._trace import first_tensor, named_parts
from lightning_foresight.functional.entropy import entropy
from lightning_foresight.probes.samples import TARGET_KEYS, batch_length, split_batch

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

TargetRule: TypeAlias = Callable[[Any], Tensor]
TargetRules: TypeAlias = "TargetRule | dict[str, TargetRule] | None"


class PlaneSamples(NamedTuple):
    """What stays fixed for a run.

    Attributes:
        batches: Batches on the device.
        labels: Integer labels of all samples by key suffix: ``""`` for a single target, ``"_<name>"`` for named ones.
        shuffle: A permutation of the samples, for the null.
        input_limit: log2 of the number of samples, the largest I(X;T) that they can express.
        label_limits: Entropy of the labels by key suffix, the largest I(T;Y).
    """

    batches: list[Any] = []  # noqa: RUF012  (never changed)
    labels: dict[str, Tensor] = {}  # noqa: RUF012
    shuffle: Tensor = torch.empty(0)
    input_limit: float | None = None
    label_limits: dict[str, float] = {}  # noqa: RUF012

    @classmethod
    def draw(
        cls,
        trainer: Trainer,
        pl_module: LightningModule,
        source: Any,
        num_samples: int,
        targets: TargetRules,
        *,
        seed: int,
        owner: str,
        argument: str = "targets",
    ) -> PlaneSamples:
        """Draw the samples once and collect their targets.

        Raises:
            ValueError: For fewer than two samples, or targets that are not one integer label each.
        """
        batches = run_samples(trainer, pl_module, source, num_samples, seed=seed, owner=owner)
        count = sum(batch_length(split_batch(batch)[0]) for batch in batches)
        if count < 2:
            fail(owner, "dataloader", f"{count} sample", "expected at least 2 samples; pass a loader that holds more.")
        labels = {
            suffix: check_labels(pieces, count, owner, argument, None if targets else place_of_targets(batches[0]))
            for suffix, pieces in _collect(batches, targets, owner, argument).items()
        }
        device = next((label.device for label in labels.values()), torch.device("cpu"))
        shuffle = torch.randperm(count, generator=own_generator("cpu", seed)).to(device)
        limits = {suffix: _entropy_of(label) for suffix, label in labels.items()}
        for suffix in (suffix for suffix, limit in limits.items() if limit == 0):
            rank_zero_warn(
                f"{owner}({argument}): all {count} samples have the same label{' of ' * bool(suffix)}{suffix[1:]}, "
                f"{labels[suffix][0]}, about which there is nothing to know: H(Y) = 0 bits. Pass {argument}=function "
                "for labels that differ, or dataloader= for other samples."
            )
        return cls(batches, labels, shuffle, math.log2(count), limits)

    def inputs(self) -> Tensor:
        """Return the inputs of all samples as rows of numbers."""
        tensors = [first_tensor(_without_targets(split_batch(batch)[0])) for batch in self.batches]
        return torch.cat([tensor.flatten(1).float() for tensor in tensors if tensor is not None])

    def limits(self) -> dict[str, Any]:
        """Return what a figure drawn from a checkpoint needs."""
        return {} if self.input_limit is None else {"input": self.input_limit, "labels": self.label_limits}

    def with_limits(self, limits: Mapping[str, Any]) -> PlaneSamples:
        """Return the same with the limits of a checkpoint, unless there are samples, which have their own."""
        if not limits or self.batches:
            return self
        return self._replace(input_limit=limits["input"], label_limits=dict(limits["labels"]))

    def without_data(self) -> PlaneSamples:
        """Return the limits alone."""
        return self._replace(batches=[], labels={}, shuffle=torch.empty(0))


def _collect(batches: list[Any], targets: TargetRules, owner: str, argument: str) -> dict[str, list[Any]]:
    if isinstance(targets, Mapping):
        return {f"_{name}": _apply(rule, batches, owner, argument) for name, rule in targets.items()}
    pieces = _apply(targets, batches, owner, argument) if targets else [split_batch(batch)[1] for batch in batches]
    return {} if any(piece is None for piece in pieces) else {"": pieces}


def _apply(rule: TargetRule, batches: list[Any], owner: str, argument: str) -> list[Any]:
    try:
        return [rule(batch) for batch in batches]
    except Exception as error:
        raise ValueError(
            f"{owner}: the function {argument}= failed on a batch, a {type(batches[0]).__name__} as the loader "
            f"makes it ({type(error).__name__}: {error}). Expected integer labels, one a sample."
        ) from error


def _without_targets(inputs: Any) -> Any:
    parts = named_parts(inputs)
    if parts is None:
        return inputs
    return {key: value for key, value in parts.items() if key not in TARGET_KEYS}  # the model may take them too


def _entropy_of(labels: Tensor) -> float:
    counts = labels.unique(return_counts=True)[1].cpu().double()
    return float(entropy(counts / counts.sum()))
