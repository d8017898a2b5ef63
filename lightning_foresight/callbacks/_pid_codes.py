"""How the activations of a layer become joint tables of neurons and target."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from lightning_foresight.functional._checks import check_int, check_range, describe, fail
from lightning_foresight.functional.partial_information import JointRows, joint_table, noisy_table, quantize
from lightning_foresight.functional.partial_information._row_ids import row_ids
from lightning_foresight.training.quantizers import QuantizeActivations

Quantizer: TypeAlias = "int | str | QuantizeActivations | Callable[[Tensor], Tensor]"
Limits: TypeAlias = "str | Sequence[float]"

_LIMITS: dict[type[nn.Module], tuple[float, float]] = {
    nn.Tanh: (-1, 1),
    nn.Hardtanh: (-1, 1),
    nn.Softsign: (-1, 1),
    nn.Sigmoid: (0, 1),
    nn.Hardsigmoid: (0, 1),
    nn.Softmax: (0, 1),
    nn.ReLU6: (0, 6),
}
_RULE = re.compile(r"(center|stochastic|bins):(\d+)|(noisy):(\d+)x(\d*\.?\d+)")


def check_quantizer(owner: str, quantizer: Quantizer, limits: Limits) -> None:
    """Require a rule that :class:`LayerStates` can follow."""
    if isinstance(quantizer, str):
        match = _RULE.fullmatch(quantizer)
        if match is None or int(match[2] or match[4]) < 2 or float(match[5] or 1) == 0:
            fail(
                owner,
                "quantizer",
                quantizer,
                "expected a number of levels, 'center:8', 'stochastic:8', 'bins:30', 'noisy:<bins>x<standard "
                "deviation>' such as 'noisy:8x0.1', a QuantizeActivations, or a function from activations to codes.",
            )
    elif not callable(quantizer):
        check_int(owner, "quantizer", quantizer, 2)
    if isinstance(limits, str):
        if limits not in ("activation", "data"):
            fail(owner, "limits", limits, "expected 'activation', 'data', or a pair (low, high).")
    else:
        check_range(owner, "limits", limits)


def is_noisy(quantizer: Quantizer) -> bool:
    """Say whether a rule spreads each sample over bins, so that a table holds probabilities and no counts."""
    return isinstance(quantizer, str) and quantizer.startswith("noisy:")


class LayerStates:
    """The states of one layer on the samples, from which joint tables are made.

    Args:
        activation: ``(samples, neurons)``.
        module: The layer, whose limits may be known.
        quantizer: The rule, see :class:`PIDCallback`.
        limits: Where levels and bins lie, likewise.
        generator: Randomness of stochastic rounding.
    """

    def __init__(
        self, activation: Tensor, module: nn.Module, quantizer: Quantizer, limits: Limits, generator: torch.Generator
    ) -> None:
        self.num_samples, self.width = activation.shape
        self.informative: dict[str, Tensor] = {}  # by sets of sources: what their complexities need of them alone
        self.limits = _limits_of(module, limits)
        self.noise = _RULE.fullmatch(quantizer) if isinstance(quantizer, str) and is_noisy(quantizer) else None
        if self.noise:
            self.states = activation
            self.limits = self.limits or (float(activation.min()), float(activation.max()))
            if not self.limits[0] < self.limits[1]:
                self.limits = (self.limits[0], self.limits[0] + 1)  # a constant has one bin
        else:
            self.states = self._codes(activation, module, quantizer, generator)

    def _codes(self, activation: Tensor, module: nn.Module, quantizer: Quantizer, generator: torch.Generator) -> Tensor:
        if isinstance(module, QuantizeActivations):
            return quantize(activation, module.levels, limits=module.limits)
        mode, levels, limits = "center", 0, self.limits
        if isinstance(quantizer, QuantizeActivations):
            levels, limits, mode = quantizer.levels, quantizer.limits, quantizer.eval_mode
        elif isinstance(quantizer, str):
            mode, levels = quantizer.split(":")[0], int(quantizer.split(":")[1])
        elif isinstance(quantizer, int):
            levels = quantizer
        else:
            return _checked(quantizer, quantizer(activation), activation)
        return quantize(activation, levels, limits=limits, mode=mode, generator=generator)

    def table(self, groups: list[list[int]], target: Tensor, draw: Tensor | None = None) -> JointRows:
        """Joint table of groups of neurons and the target.

        Args:
            groups: Neurons by source; those of one source count as one variable.
            target: Integer codes of all samples.
            draw: Numbers of the samples to count, instead of each once.
        """
        states = self.states if draw is None else self.states[draw]
        target = target if draw is None else target[draw]
        flat = torch.tensor([neuron for group in groups for neuron in group], device=states.device)
        if self.noise:
            bins, noise_std = int(self.noise[4]), float(self.noise[5])
            cells = noisy_table(states[:, flat], target, noise_std=noise_std, num_bins=bins, limits=self.limits)
            return joint_table(_merged(cells.sources, groups), cells.target, weights=cells.weights)
        columns = _merged(states[:, flat], groups)
        # Up to 256 codes are kept in bytes, which saves memory and time on wide layers.
        small = columns.shape[1] > 64 and bool((columns.amax() < 256) & (target.amax() < 256) & (target.amin() >= 0))
        return joint_table(columns, target, dtype=torch.uint8 if small else torch.long)


def _checked(quantizer: Callable[[Tensor], Tensor], codes: Tensor, activation: Tensor) -> Tensor:
    """Return what a function has made of activations, if that is codes."""
    if not isinstance(codes, Tensor) or codes.is_floating_point() or codes.shape != activation.shape:
        got = describe(codes) if isinstance(codes, Tensor) else type(codes).__name__
        raise ValueError(
            f"PIDCallback(quantizer={getattr(quantizer, '__name__', quantizer)}): returned {got} for activations of "
            f"shape {tuple(activation.shape)}; expected integer codes of that shape, for instance (a > 0).long()."
        )
    return codes


def _merged(columns: Tensor, groups: list[list[int]]) -> Tensor:
    """Make one column of codes of the columns of each group, which come group by group."""
    if len(groups) == columns.shape[1]:
        return columns
    return torch.stack([row_ids(part)[0] for part in columns.split([len(group) for group in groups], 1)], 1)


def _limits_of(module: nn.Module, limits: Limits) -> tuple[float, float] | None:
    if limits == "activation":
        return _LIMITS.get(type(module))
    return None if isinstance(limits, str) else check_range("PIDCallback", "limits", limits)
