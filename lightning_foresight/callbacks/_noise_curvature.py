"""The noise scale that weighs directions by curvature, measured now and then during a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor, nn

from lightning_foresight.callbacks._noise_methods import Averaging
from lightning_foresight.functional._random import own_generator
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.gradient_noise.hessian import hessian_moments
from lightning_foresight.functional.gradient_noise.moments import MomentSums, moment_sums
from lightning_foresight.functional.gradient_noise.noise_scale import noise_scale_from_sums
from lightning_foresight.probes.gradient_rerun import TrainingLossOfExamples
from lightning_foresight.probes.isolation import undisturbed

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

NUM_BLOCKS = 8
# Gradients of all examples, and two Hessian-vector products on as many: about ten steps on a small transformer.
HESSIAN_SHARE = 10.0
CURVATURE_BANDS = ("b_noise", "trace_h_sigma", "grad_h_grad")


class CurvatureRecord:
    """Measurements of tr(H Sigma) and G^T H G, averaged over as much of the run as the noise scale itself.

    Args:
        owner: Who measures, for the warning.
        averaging: How observations are averaged.
        hessian: Whether to measure, or every how many steps.
        budget: Share of the training time that it may take if ``hessian`` is ``True``.
    """

    def __init__(self, owner: str, averaging: Averaging, hessian: bool | int, budget: float) -> None:
        self.owner = owner
        self.averaging = averaging
        self.period = math.ceil(HESSIAN_SHARE / budget) if hessian is True else int(hessian)
        # Number of observations of the noise scale by then, and numerators and denominators, shape (2, blocks).
        self.measured: list[tuple[int, Tensor]] = []
        self._waiting: list[tuple[int, Tensor]] = []
        self._warned = False

    def __len__(self) -> int:
        return len(self._waiting)

    def is_due(self, count: int) -> bool:
        """Say whether to measure at the ``count``-th step."""
        return self.period > 0 and (count == 1 or count % self.period == 0)

    def observe(
        self,
        pl_module: LightningModule,
        parameters: Sequence[nn.Parameter],
        batch: Any,
        batch_idx: int,
        size: int,
        now: int,
        seed: int,
    ) -> None:
        """Measure on blocks of a batch, each with the Hessian of another one.

        Args:
            pl_module: The model.
            parameters: Its parameters to measure.
            batch: Passed to ``training_step``, cut along the first axes of its tensors.
            batch_idx: Likewise.
            size: Number of examples.
            now: Number of observations of the noise scale so far.
            seed: Deals the examples to the blocks; another one at each step.

        Raises:
            ValueError: If the batch is too small.
        """
        # Every rank keeps as many measurements, so one that fails is kept as NaN.
        blocks = torch.full((2, NUM_BLOCKS), torch.nan, device=pl_module.device)
        try:
            if size < 2 * NUM_BLOCKS:
                raise ValueError(
                    f"hessian on a batch of {size}: expected at least {2 * NUM_BLOCKS} examples, for {NUM_BLOCKS} "
                    "blocks of independent gradients and Hessians. Use larger batches, or hessian=False."
                )
            loss = TrainingLossOfExamples(pl_module, parameters, batch, batch_idx)
            index = torch.randperm(size, generator=own_generator("cpu", seed)).to(pl_module.device)
            with undisturbed(loss, grad=True):
                moments = hessian_moments(loss, lambda value, _: value, index, index, num_blocks=NUM_BLOCKS)
                blocks = torch.stack(moments).float()
        finally:
            self._waiting.append((now, blocks))

    def report(self, trainer: Trainer, now: int) -> dict[str | Sequence[str], Estimate | Tensor]:
        """Return the values to log; the noise scale itself only where both its parts are positive.

        Args:
            trainer: The run.
            now: Number of observations of the noise scale so far.
        """
        counts, seen = zip(*self._waiting, strict=True)
        self._waiting = []
        table = trainer.strategy.reduce(torch.stack(seen), reduce_op="mean")
        wide = table.cpu().double()  # this waits for the device, at steps that are logged
        self.measured += zip(counts, wide, strict=True)
        decay, window, level = self.averaging
        weights = [float(now - then < window) if window else decay ** (now - then) for then, _ in self.measured]
        self.measured = [pair for pair, weight in zip(self.measured, weights, strict=True) if weight > 1e-3]
        sums = []
        for weight, (_, blocks) in zip([w for w in weights if w > 1e-3], self.measured, strict=True):
            sums.append(moment_sums(*blocks) * weight)
            sums[-1][1] *= weight  # the sum of squared weights
        if not sums:
            return {}
        total = MomentSums(*torch.stack(sums).sum(0))
        ratio, numerator, denominator = noise_scale_from_sums(
            total, level=level, dtype=torch.float32, method="Hessian-vector products"
        )
        if math.isnan(float(numerator.value)):
            return {}
        values: dict[str | Sequence[str], Estimate | Tensor] = {"trace_h_sigma": numerator, "grad_h_grad": denominator}
        if float(numerator.value) > 0 and float(denominator.value) > 0:
            lower, upper = ratio.interval(level)
            values["b_noise"] = ratio._replace(lower=lower.clamp(min=0), upper=upper)
        elif not self._warned:
            self._warned = True
            rank_zero_warn(
                f"{self.owner}: the curvature is indefinite: tr(H Sigma) = {float(numerator.value):.3g}, "
                f"G^T H G = {float(denominator.value):.3g}. There is no best batch size where the loss bends down, so "
                "b_noise is left out until both are positive. Early in training that is common."
            )
        return values

    def state(self) -> list[tuple[int, list[list[float]]]]:
        """Return all measurements, for a checkpoint."""
        return [(count, values.tolist()) for count, values in (*self.measured, *self._waiting)]

    def load_state(self, state: list[tuple[int, list[list[float]]]]) -> None:
        """Take over the measurements of a checkpoint; they are reported with the next one."""
        self.measured = [(count, torch.tensor(values, dtype=torch.float64)) for count, values in state]
