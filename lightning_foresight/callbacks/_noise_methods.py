"""What each method of measuring gradient noise is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import nn

from lightning_foresight.callbacks._noise_memory import Calibrated, Discounted, Memory, Windowed
from lightning_foresight.callbacks._noise_stream import NoiseStream
from lightning_foresight.functional._checks import fail
from lightning_foresight.probes.gradient_examples import PerExampleObserver
from lightning_foresight.probes.gradient_micro_batches import MicroBatchObserver
from lightning_foresight.probes.gradient_observer import GradientObserver
from lightning_foresight.probes.gradient_shards import ShardedObserver
from lightning_foresight.probes.gradient_split import SplitObserver
from lightning_foresight.probes.gradient_windows import GradientWindow
from lightning_foresight.probes.gradients import Metric, is_sharded
from lightning_foresight.probes.layers import LayerSpec

if TYPE_CHECKING:
    from torch.optim import Optimizer

METHODS = ("auto", "micro_batches", "split", "per_example", "norm_layers")
NORM_LAYERS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)
# A further backward pass takes 0.6 of the step of a transformer of 2M parameters, as measured; what follows takes less.
BACKWARD_SHARE = 1.0
# What hooks on normalisation layers take of a step of a small transformer, as measured.
NORM_LAYERS_SHARE = 0.09
# Below so many elements a parameter, calling its hook costs as much as computing its gradient, and a report as much as
# a pass: with what both push out of the caches, an observation takes three steps of a tiny network. The fourth is room
# for what Lightning charges at the steps between.
SMALL_PARAMETER, SHARE_OF_SMALL, PERIOD_OF_SMALL = 2**14, 4.0, 5


class Averaging(NamedTuple):
    """How observations are averaged.

    Attributes:
        decay: Weight of an observation relative to the next one.
        window: Number of the latest observations to average alike, instead.
        level: Coverage of the intervals.
    """

    decay: float
    window: int | None
    level: float


def norm_parameters(owner: str, model: nn.Module, parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    """Return the measured parameters of normalisation layers.

    Raises:
        ValueError: If there is none.
    """
    measured = {id(parameter) for parameter in parameters}
    held = [p for module in model.modules() if type(module) in NORM_LAYERS for p in module.parameters(recurse=False)]
    found = [parameter for parameter in dict.fromkeys(held) if id(parameter) in measured]
    if not found:
        names = ", ".join(kind.__name__ for kind in NORM_LAYERS)
        fail(
            owner,
            "method",
            "norm_layers",
            f'the measured layers hold none of {names} with weights of its own. Use "auto".',
        )
    return found


def make_observer(
    method: str, model: nn.Module, parameters: Sequence[nn.Parameter], device: torch.device, metric: Metric | None
) -> GradientObserver:
    """Return the observer of a method."""
    if method == "micro_batches":
        sharded = any(is_sharded(parameter) for parameter in parameters)
        return ShardedObserver(model, parameters) if sharded else MicroBatchObserver(parameters, metric)
    if method == "split":
        return SplitObserver(parameters, device, metric)
    return PerExampleObserver(model, parameters)


def default_period(method: str, parameters: Sequence[nn.Parameter], budget: float) -> int:
    """Return the number of steps from one observation to the next that keeps the cost within bounds."""
    if method == "micro_batches":
        return PERIOD_OF_SMALL if _are_small(parameters) else 1
    return math.ceil(share_of_step(method, parameters) / budget)


def share_of_step(method: str, parameters: Sequence[nn.Parameter]) -> float:
    """Return what an observation takes at most, in units of a step without it."""
    if method == "norm_layers":
        return NORM_LAYERS_SHARE
    return SHARE_OF_SMALL if _are_small(parameters) else BACKWARD_SHARE


def _are_small(parameters: Sequence[nn.Parameter]) -> bool:
    return sum(p.numel() for p in parameters) < SMALL_PARAMETER * len(parameters)


def make_streams(
    optimizers: Sequence[Optimizer],
    named: Mapping[str, nn.Parameter],
    groups: Mapping[str, Sequence[str]],
    norm_layers: Sequence[nn.Parameter] | None,
    *,
    device: torch.device,
    averaging: Averaging,
    metric: Metric | None,
) -> list[NoiseStream]:
    """Return a stream for each optimizer.

    Args:
        optimizers: The optimizers of the run.
        named: The parameters to measure, by name.
        groups: Their names by group.
        norm_layers: Parameters that show the noise at every observation and are calibrated by the others.
        device: Where the gradients live.
        averaging: How observations are averaged.
        metric: The diagonal metric of the norms, by position of the parameter.
    """
    position = {name: index for index, name in enumerate(named)}
    places = {group: [position[name] for name in names] for group, names in groups.items()}
    streams = []
    for number, optimizer in enumerate(optimizers):
        windows = [GradientWindow(list(named.values()), places, device, metric)]
        if norm_layers is not None:
            windows.append(GradientWindow(norm_layers, {}, device))
        memory = _make_memory(averaging, windows[0].num_groups, calibrated=norm_layers is not None)
        suffix = f"/optimizer_{number}" if len(optimizers) > 1 else ""
        streams.append(NoiseStream(optimizer, windows, memory, level=averaging.level, suffix=suffix, device=device))
    return streams


def check_streams(owner: str, layers: LayerSpec | None, streams: Sequence[NoiseStream]) -> None:
    """Refuse a run in which nothing is updated, and warn of optimizers whose part cannot be measured.

    Raises:
        ValueError: If no optimizer updates a measured parameter.
    """
    if not any(stream.window.members for stream in streams):
        fail(owner, "layers", layers, "no optimizer updates the parameters of these layers.")
    for stream in streams:
        if stream.window.members and not all(window.members for window in stream.windows):
            rank_zero_warn(f"{owner}: {stream.suffix[1:]} updates no normalisation layer, and is not measured.")


def _make_memory(averaging: Averaging, num_groups: int, *, calibrated: bool) -> Memory:
    if calibrated:
        return Calibrated(num_groups, averaging.decay)
    if averaging.window is not None:
        return Windowed(num_groups, averaging.window)
    return Discounted(num_groups, averaging.decay)
