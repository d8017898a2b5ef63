"""How observations are averaged: discounted, over a window, or calibrated."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lightning_foresight.functional.gradient_noise.calibration import calibrated_moments, calibration_sums
from lightning_foresight.functional.gradient_noise.moments import noise_moments
from lightning_foresight.functional.gradient_noise.noise_scale import NoiseScale, noise_scale_from_means
from lightning_foresight.metrics.gradient_noise_scale import GradientNoiseScale


class Norms(NamedTuple):
    """Squared norms of gradients over small and big batches, one row an observation, the oldest first.

    Attributes:
        small: Mean over the small batches, shape (observations, groups).
        big: Of their mean, same shape.
        batch_small: Examples in a small batch, shape (observations, 1).
        batch_big: Examples in all of them, same shape.
    """

    small: Tensor
    big: Tensor
    batch_small: Tensor
    batch_big: Tensor


class Memory(Protocol):
    """What is kept of the observations. The state is one tensor, in float64 where the device has it."""

    state: Tensor

    def add(self, whole: Norms, part: Norms | None) -> None:
        """Take up observations of all parameters, and of the normalisation layers if these are calibrated."""

    def scale(self) -> NoiseScale:
        """Return the noise scale of each group."""

    def part_scale(self) -> NoiseScale | None:
        """Return the noise scale of the calibrated layers by themselves."""


class Discounted:
    """Every observation counts ``decay`` times as much as the next one."""

    def __init__(self, num_groups: int, decay: float, level: float, device: torch.device) -> None:
        # Every rank will hold the moments of all ranks: nothing is left to synchronise.
        self.metric = GradientNoiseScale(decay=decay, level=level, num_groups=num_groups, sync_on_compute=False)
        self.metric.to(device)

    @property
    def state(self) -> Tensor:
        """The sums of the metric."""
        return self.metric.sums

    @state.setter
    def state(self, value: Tensor) -> None:
        self.metric.sums = value

    def add(self, whole: Norms, part: Norms | None) -> None:
        """Take up observations."""
        self.metric.update(whole.small, whole.big, whole.batch_small.squeeze(1), whole.batch_big.squeeze(1))

    def scale(self) -> NoiseScale:
        """Return the noise scale of each group."""
        return self.metric.compute()

    def part_scale(self) -> NoiseScale | None:
        """Return nothing."""
        return None


class Windowed(Discounted):
    """The latest observations count alike, older ones not at all."""

    def __init__(self, num_groups: int, window: int, level: float, device: torch.device) -> None:
        super().__init__(num_groups, 1.0, level, device)
        self.window = window
        self.rows = self.metric.sums.new_empty(0, 2 * num_groups + 2)

    @property
    def state(self) -> Tensor:
        """The observations themselves."""
        return self.rows

    @state.setter
    def state(self, value: Tensor) -> None:
        self.rows = value

    def add(self, whole: Norms, part: Norms | None) -> None:
        """Take up observations and let old ones go."""
        self.rows = torch.cat([self.rows, torch.cat(whole, dim=1)])[-self.window :]

    def scale(self) -> NoiseScale:
        """Return the noise scale of each group over the window."""
        groups = (self.rows.shape[1] - 2) // 2
        self.metric.reset()
        super().add(Norms(*self.rows.split([groups, groups, 1, 1], dim=1)), None)
        return self.metric.compute()


class Calibrated:
    """Normalisation layers show the noise at every observation, all parameters together at some of them."""

    def __init__(self, num_groups: int, decay: float, level: float, device: torch.device) -> None:
        self.decay = decay
        self.level = level
        nothing = torch.empty(2, 0, num_groups, dtype=torch.float64, device=device)
        self.state = calibration_sums(nothing[..., 0], nothing)

    def add(self, whole: Norms, part: Norms | None) -> None:
        """Take up observations."""
        assert part is not None
        observed = [torch.stack(noise_moments(*norms)) for norms in (part, whole)]
        discount = self.decay ** len(whole.big)
        kept = self.state * discount
        kept[:, 1] *= discount  # the sums of squared weights
        self.state = kept + calibration_sums(observed[0].squeeze(2), observed[1], self.decay)

    def scale(self) -> NoiseScale:
        """Return the calibrated noise scale of each group; NaN before the first calibration."""
        return self._from(0)

    def part_scale(self) -> NoiseScale | None:
        """Return the noise scale of the normalisation layers by themselves."""
        return self._from(1)

    def _from(self, which: int) -> NoiseScale:
        means = calibrated_moments(self.state)[which]
        method = ("calibrated normalisation layers", "normalisation layers")[which]
        return noise_scale_from_means(means, level=self.level, dtype=torch.float32, method=method)
