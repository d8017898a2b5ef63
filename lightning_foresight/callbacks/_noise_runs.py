"""Which runs the noise of gradients can be measured in, and by which method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from lightning_foresight.functional._checks import fail
from lightning_foresight.probes.gradient_examples import PerExampleObserver
from lightning_foresight.probes.gradient_micro_batches import MicroBatchObserver
from lightning_foresight.probes.gradient_observer import GradientObserver
from lightning_foresight.probes.gradient_shards import ShardedObserver, unmeasurable_shards
from lightning_foresight.probes.gradient_split import SplitObserver
from lightning_foresight.probes.gradients import is_sharded

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

METHODS = ("auto", "micro_batches", "split", "per_example")
# Their gradients are flattened or partitioned before any parameter hook could see them.
UNSUPPORTED_STRATEGIES = ("FSDPStrategy", "DeepSpeedStrategy")
SHARDING_STRATEGY = "ModelParallelStrategy"
# A backward pass costs about two forward passes: the share of a step that one more of them takes.
BACKWARD_SHARE = 2 / 3
# Below so many elements a parameter, calling its hook costs as much as computing its gradient: look less often.
SMALL_PARAMETER, PERIOD_OF_SMALL = 2**14, 4


def check_run(owner: str, trainer: Trainer, method: str) -> None:
    """Refuse a run whose gradients cannot be compared.

    Raises:
        ValueError: With the reason, and what to do.
    """
    strategy = type(trainer.strategy).__name__
    if all(type(optimizer).__name__ == "_MockOptimizer" for optimizer in trainer.optimizers):
        raise ValueError(f"{owner}: the run has no optimizer, so there are no gradients to measure.")
    if any(isinstance(optimizer, torch.optim.LBFGS) for optimizer in trainer.optimizers):
        raise ValueError(
            f"{owner}: LBFGS evaluates the gradient several times a step, each time at other weights, so the "
            "gradients of a step cannot be compared. Use it with another optimizer."
        )
    if strategy in UNSUPPORTED_STRATEGIES:
        raise ValueError(
            f"{owner}: under {strategy} no hook sees the gradient of a single micro-batch. Use a single device, "
            "DDPStrategy, or ModelParallelStrategy with fully_shard (FSDP2)."
        )
    if strategy == SHARDING_STRATEGY:
        _check_shards(owner, trainer, method)
    several = any(type(callback).__name__ == "GradientAccumulationScheduler" for callback in trainer.callbacks)  # type: ignore[attr-defined]
    if method == "micro_batches" and not (several or has_micro_batches(trainer, method, 1)):
        fail(
            owner,
            "method",
            method,
            "expected more than one micro-batch a step: accumulate_grad_batches of 2 or more, or several devices. "
            'With one, use "split" or "auto".',
        )


def _check_shards(owner: str, trainer: Trainer, method: str) -> None:
    model, strategy = trainer.lightning_module, trainer.strategy
    if method not in ("auto", "micro_batches"):
        fail(
            owner,
            "method",
            method,
            f'expected "auto" or "micro_batches" under {SHARDING_STRATEGY}: the others pass through the graph or the '
            "layers when the whole parameters are not there.",
        )
    if strategy.device_mesh["tensor_parallel"].size() > 1:  # type: ignore[attr-defined]
        raise ValueError(
            f"{owner}: tensor parallelism cuts single layers into parts, whose gradients no device sees whole. Use "
            f"{SHARDING_STRATEGY}(data_parallel_size=..., tensor_parallel_size=1)."
        )
    if not model.automatic_optimization and len(trainer.optimizers) > 1:
        raise ValueError(
            f"{owner}: with several optimizers on sharded parameters, it cannot be told which backward passes make a "
            "step. Use DDPStrategy."
        )
    unsharded = unmeasurable_shards(model, list(model.parameters()))
    if unsharded:
        raise ValueError(
            f"{owner}: under {SHARDING_STRATEGY} the gradients of {', '.join(unsharded[:8])} are not averaged over all "
            "devices. Call fully_shard on the whole module in configure_model, with a mesh of all devices."
        )


def has_micro_batches(trainer: Trainer, method: str, last_count: int) -> bool:
    """Say whether a step has more than one micro-batch on all devices together.

    Args:
        trainer: The run.
        method: What the user asked for.
        last_count: Backward passes of the last step, which is all that manual optimization lets one know.
    """
    automatic = trainer.lightning_module.automatic_optimization
    if not automatic and method == "micro_batches":
        return True  # how many there will be is not known beforehand
    return trainer.world_size * (trainer.accumulate_grad_batches if automatic else last_count) > 1


def make_observer(method: str, pl_module: LightningModule, parameters: Sequence[nn.Parameter]) -> GradientObserver:
    """Return the observer of a method."""
    if method == "micro_batches":
        sharded = any(is_sharded(parameter) for parameter in parameters)
        return ShardedObserver(pl_module, parameters) if sharded else MicroBatchObserver(parameters)
    if method == "split":
        return SplitObserver(parameters, pl_module.device)
    return PerExampleObserver(pl_module, parameters)


def default_period(method: str, parameters: Sequence[nn.Parameter], budget: float) -> int:
    """Return the number of steps from one observation to the next that keeps the cost within bounds."""
    if method == "micro_batches":
        small = sum(p.numel() for p in parameters) < SMALL_PARAMETER * len(parameters)
        return PERIOD_OF_SMALL if small else 1
    return math.ceil(BACKWARD_SHARE / budget)
