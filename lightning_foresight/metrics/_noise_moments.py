"""The state that metrics of the gradient noise have in common."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_foresight.functional._checks import fail
from lightning_foresight.functional._repr import ShowsArguments
from lightning_foresight.functional.gradient_noise.moments import MomentSums, moment_sums
from lightning_foresight.functional.gradient_noise.noise_scale import NoiseScale, noise_scale_from_sums
from lightning_foresight.functional.gradient_noise.quadrature import check_level


class NoiseMoments(ShowsArguments, Metric):
    """Discounted sums over observations of noise and signal; subclasses say in ``update`` how one is observed.

    Args:
        decay: Weight of an observation relative to the next one, in (0, 1]; 1 is the mean since the last reset.
        level: Coverage of the interval of ``b_simple``.
        shape: Shape of an observation: () or (num_groups,).
        kwargs: Passed on to :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False
    method = "discounted moments"
    sums: Tensor

    def __init__(self, *, decay: float, level: float, shape: tuple[int, ...] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        owner = type(self).__name__
        if not isinstance(decay, (int, float)) or not 0 < decay <= 1:
            fail(owner, "decay", decay, "expected a factor in (0, 1], such as 0.99.")
        check_level(owner, "level", level)
        self.decay = decay
        self.level = level
        # Sums of squares lose the variance of nearly equal numbers in float32.
        zeros = torch.zeros(len(MomentSums._fields), *shape, dtype=torch.float64)
        self.add_state("sums", default=zeros, dist_reduce_fx="sum")

    def compute(self) -> NoiseScale:
        """Return the noise scale, its parts and their errors over all updates; NaN before the first."""
        return noise_scale_from_sums(MomentSums(*self.sums), level=self.level, dtype=torch.float32, method=self.method)

    def _add(self, trace_sigma: Tensor, grad_sq_norm: Tensor) -> None:
        """Add observations, shape (observations, ...), the oldest first."""
        trace_sigma, grad_sq_norm = torch.broadcast_tensors(trace_sigma, grad_sq_norm)
        discount = self.decay ** trace_sigma.shape[0]
        kept = self.sums * discount
        kept[1] *= discount  # the sum of squared weights
        self.sums = kept + moment_sums(trace_sigma, grad_sq_norm, self.decay)

    def _on_device(self, value: Tensor | float) -> Tensor:
        # A fill, unlike a copy from the host, does not wait for the device.
        return value.to(self.sums) if isinstance(value, Tensor) else self.sums.new_full((), float(value))
