"""Which runs the noise of gradients can be measured in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_foresight.functional._checks import fail
from lightning_foresight.functional._trace import clean_name
from lightning_foresight.probes.gradient_examples import has_time_first
from lightning_foresight.probes.gradient_shards import unmeasurable_shards

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

# Their gradients are flattened or partitioned before any parameter hook could see them.
UNSUPPORTED_STRATEGIES = ("FSDPStrategy", "DeepSpeedStrategy")
SHARDING_STRATEGY = "ModelParallelStrategy"
# Below so many observations an interval is wide or without end.
FEW_OBSERVATIONS = 16


def check_run(owner: str, trainer: Trainer, method: str, *, adaptive: bool = False, curved: bool = False) -> None:
    """Refuse a run whose gradients cannot be compared.

    Args:
        owner: Who asks, for error texts.
        trainer: The run.
        method: What the user asked for.
        adaptive: Whether to measure in the metric of the optimizer.
        curved: Whether to measure the curvature.

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
    if adaptive and not all("eps" in optimizer.defaults for optimizer in trainer.optimizers):
        fail(
            owner,
            "preconditioner",
            "adam",
            "expected optimizers with a second moment of the gradient, such as Adam, AdamW or RMSprop; got "
            f"{', '.join(type(optimizer).__name__ for optimizer in trainer.optimizers)}.",
        )
    if strategy in UNSUPPORTED_STRATEGIES:
        raise ValueError(
            f"{owner}: under {strategy} no hook sees the gradient of a single micro-batch. Use a single device, "
            "DDPStrategy, or ModelParallelStrategy with fully_shard (FSDP2)."
        )
    if curved and not trainer.lightning_module.automatic_optimization:
        fail(
            owner,
            "hessian",
            True,
            "expected automatic optimization: a training_step that steps by itself cannot be run again. Use "
            "functional.hessian_noise_scale.",
        )
    if curved:
        sparse = [
            clean_name(n) for n, m in trainer.lightning_module.named_modules() if getattr(m, "sparse", False) is True
        ]
        if sparse:
            fail(
                owner,
                "hessian",
                True,
                f"expected dense gradients; those of {', '.join(sparse[:8])} are sparse, and cannot be differentiated "
                "again. Pass sparse=False to these layers, or leave hessian out.",
            )
    if strategy == SHARDING_STRATEGY:
        _check_shards(owner, trainer, method, adaptive=adaptive, curved=curved)
    several = any(type(callback).__name__ == "GradientAccumulationScheduler" for callback in trainer.callbacks)  # type: ignore[attr-defined]
    if method == "micro_batches" and not (several or has_micro_batches(trainer, method, 1)):
        fail(
            owner,
            "method",
            method,
            "expected more than one micro-batch a step: accumulate_grad_batches of 2 or more, or several devices. "
            'With one, use "split" or "auto".',
        )


def _check_shards(owner: str, trainer: Trainer, method: str, *, adaptive: bool, curved: bool) -> None:
    model, strategy = trainer.lightning_module, trainer.strategy
    for argument, value in (("preconditioner", "adam" if adaptive else None), ("hessian", curved)):
        if value:
            fail(owner, argument, value, f"not possible under {SHARDING_STRATEGY}: no device holds all parameters.")
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


def doubt_of_pace(steps: float, period: int, budget: float, share: float) -> str | None:
    """Return, in words, that a run is too short for a narrow interval, and what to set.

    The budget is a promise about cost, so the period is left as it is.

    Args:
        steps: Optimizer steps of the run, maybe infinite.
        period: Steps from one observation to the next.
        budget: Share of the training time that the period keeps to.
        share: What an observation takes, in units of a step without it.
    """
    seen = 1 + steps // period  # the first step is observed in any case
    shorter = int(min(steps, FEW_OBSERVATIONS * period) // FEW_OBSERVATIONS)
    if seen >= FEW_OBSERVATIONS or shorter < 1:
        return None
    return (
        f"budget={budget} allows one observation in {period} steps, {int(seen)} in the {int(steps)} of this run; "
        f"fewer than {FEW_OBSERVATIONS} make a wide interval, often without an end. Set every_n_steps={shorter}, which "
        f"takes about {100 * share / shorter:.3g}% of the training time."
    )


def doubts_of_examples(model: nn.Module, *, split: bool, batch_size_known: bool) -> list[str]:
    """Return what makes it doubtful that the rows of a batch are independent examples, in words.

    Args:
        model: The model.
        split: Whether the batch is split in halves.
        batch_size_known: Whether the user said how many examples a batch has.
    """
    doubts = []
    modules = [(clean_name(name), module) for name, module in model.named_modules()]
    coupling = [name for name, module in modules if isinstance(module, _BatchNorm) and module.training]
    if split and coupling:
        doubts.append(
            f"BatchNorm couples the examples of a batch ({', '.join(coupling[:4])}), and both halves of a split share "
            "its statistics: the noise that comes from them is missed. Use GroupNorm, or accumulate_grad_batches of 2 "
            "or more, which sees it."
        )
    scaled = [name for name, module in modules if getattr(module, "scale_grad_by_freq", False)]
    if split and scaled:
        doubts.append(
            f"scale_grad_by_freq=True couples the examples of a batch ({', '.join(scaled[:4])}), and both halves of a "
            "split share its counts: the noise that comes from them is missed. Pass scale_grad_by_freq=False, or use "
            "accumulate_grad_batches of 2 or more, which sees it."
        )
    time_first = [name for name, module in modules if has_time_first(module)]
    if time_first and not batch_size_known:
        doubts.append(
            f"{', '.join(time_first[:4])} has batch_first=False. If the first axis of the batch is time, steps in time "
            "are taken for examples: say batch_size=lambda batch: batch[0].shape[1]. If it is the batch, say "
            "batch_size=lambda batch: batch[0].shape[0]."
        )
    return doubts
