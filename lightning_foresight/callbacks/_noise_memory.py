"""How observations are averaged on the host: discounted, over a window, or calibrated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lightning_foresight.functional.gradient_noise.calibration import calibrated_moments, calibration_sums
from lightning_foresight.functional.gradient_noise.moments import MomentSums
from lightning_foresight.functional.gradient_noise.plain import Moments, moments

NUM_SUMS = len(MomentSums._fields)


class Observation(NamedTuple):
    """What one step showed of noise (tr Sigma) and signal (squared norm of the true gradient).

    Attributes:
        whole: Noise and signal of each group of parameters; not finite where nothing was seen.
        part: Those of the normalisation layers, if these are calibrated.
    """

    whole: Sequence[tuple[float, float]]
    part: tuple[float, float] | None


class Memory(Protocol):
    """What is kept of the observations."""

    state: Tensor  # in float64, for checkpoints

    def add(self, observations: Sequence[Observation]) -> None:
        """Take up observations, the oldest first."""

    def means(self) -> list[Moments]:
        """Return noise and signal of each group."""

    def part_means(self) -> Moments | None:
        """Return noise and signal of the calibrated layers by themselves."""


class Discounted:
    """Every observation counts ``decay`` times as much as the next one.

    Args:
        num_groups: Number of groups.
        decay: Weight of an observation relative to the next one.
    """

    def __init__(self, num_groups: int, decay: float) -> None:
        self.decay = decay
        self.sums = [[0.0] * NUM_SUMS for _ in range(num_groups)]

    @property
    def state(self) -> Tensor:
        """The sums, shape (7, groups)."""
        return torch.tensor(self.sums, dtype=torch.float64).T

    @state.setter
    def state(self, value: Tensor) -> None:
        self.sums = value.T.tolist()

    def add(self, observations: Sequence[Observation]) -> None:
        """Take up observations."""
        for observation in observations:
            self.sums = [_plus(*pair, self.decay) for pair in zip(self.sums, observation.whole, strict=True)]

    def means(self) -> list[Moments]:
        """Return noise and signal of each group."""
        return [moments(sums) for sums in self.sums]

    def part_means(self) -> Moments | None:
        """Return nothing."""
        return None


class Windowed:
    """The latest observations count alike, older ones not at all.

    Args:
        num_groups: Number of groups.
        window: How many count.
    """

    def __init__(self, num_groups: int, window: int) -> None:
        self.window = window
        self.num_groups = num_groups
        self.seen: list[Sequence[tuple[float, float]]] = []

    @property
    def state(self) -> Tensor:
        """The observations themselves, shape (observations, groups, 2)."""
        return torch.tensor(self.seen, dtype=torch.float64).reshape(-1, self.num_groups, 2)

    @state.setter
    def state(self, value: Tensor) -> None:
        self.seen = [[(noise, signal) for noise, signal in row] for row in value.tolist()]

    def add(self, observations: Sequence[Observation]) -> None:
        """Take up observations and let old ones go."""
        self.seen = [*self.seen, *(observation.whole for observation in observations)][-self.window :]

    def means(self) -> list[Moments]:
        """Return noise and signal of each group over the window."""
        recent = Discounted(self.num_groups, 1.0)
        recent.add([Observation(whole, None) for whole in self.seen])
        return recent.means()

    def part_means(self) -> Moments | None:
        """Return nothing."""
        return None


class Calibrated:
    """Normalisation layers show the noise at every observation, all parameters together at some of them.

    Args:
        num_groups: Number of groups.
        decay: Weight of an observation relative to the next one.
    """

    def __init__(self, num_groups: int, decay: float) -> None:
        self.decay = decay
        nothing = torch.empty(2, 0, num_groups, dtype=torch.float64)
        self.state = calibration_sums(nothing[..., 0], nothing)

    def add(self, observations: Sequence[Observation]) -> None:
        """Take up observations."""
        whole, part = (torch.tensor(seen, dtype=torch.float64) for seen in zip(*observations, strict=True))
        discount = self.decay ** len(observations)
        kept = self.state * discount
        kept[:, 1] *= discount  # the sums of squared weights
        self.state = kept + calibration_sums(part.T, whole.movedim(2, 0), self.decay)

    def means(self) -> list[Moments]:
        """Return the calibrated noise and signal of each group; NaN before the first calibration."""
        return self._from(0)

    def part_means(self) -> Moments | None:
        """Return noise and signal of the normalisation layers by themselves."""
        return self._from(1)[0]

    def _from(self, which: int) -> list[Moments]:
        return [Moments(*group) for group in torch.stack(calibrated_moments(self.state)[which], dim=1).tolist()]


def _plus(sums: list[float], seen: tuple[float, float], decay: float) -> list[float]:
    """Add an observation to the fields of ``MomentSums``, in which older ones count less from now on."""
    weight, weight_squared, *rest = (decay * one for one in sums)
    noise, signal = seen
    if not (math.isfinite(noise) and math.isfinite(signal)):
        return [weight, decay * weight_squared, *rest]
    new = (noise, signal, noise * noise, signal * signal, noise * signal)
    return [weight + 1, decay * weight_squared + 1, *map(sum, zip(rest, new, strict=True))]
