"""Effective information by perturbation as a torchmetrics metric."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_foresight.functional._checks import check_choice, check_int, check_range, data, describe, takes
from lightning_foresight.functional._repr import ShowsArguments
from lightning_foresight.functional.effective_information.binning import bins_or_outside, clamped_bins
from lightning_foresight.functional.effective_information.pair_counts import count_pairs
from lightning_foresight.functional.effective_information.pair_information import (
    corrected_information,
    grassberger_terms,
    information_std_error,
)
from lightning_foresight.functional.entropy import entropy
from lightning_foresight.functional.estimate import Estimate, make_estimate


class EffectiveInformation(ShowsArguments, Metric):
    r"""EI_parts of anything that answers to noise, from joint histograms that add up over batches and ranks.

    .. math:: EI_{parts} = \sum_{a, b} I\big(x_a; y_b \mid do(x \sim U)\big)

    You draw the noise, uniform on ``in_range`` and new for every sample, and pass it in with the outputs. For single
    layers :func:`~lightning_foresight.functional.ei_parts` is exact and faster; this metric is for what cannot be
    called as one: models in several processes, simulators, lookups.

    The state holds ``num_inputs * num_outputs * in_bins * (out_bins + 1)`` integers.

    Args:
        num_inputs: Numbers in one input, flattened.
        num_outputs: Numbers in one output, flattened.
        in_range: ``(low, high)`` of the noise.
        out_range: ``(low, high)`` of the outputs that are binned; those outside are dropped.
        in_bins: Equal bins of every input.
        out_bins: Equal bins of every output.
        reduction: ``"sum"`` for the sum over pairs, ``"none"`` for the matrix of pairs.
        kwargs: Passed on to :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If an argument is out of range, or a batch has another number of inputs, outputs or samples.

    References:
        Marrow, Michaud & Hoel 2020 (arXiv 2010.13871).

    Example:
        >>> import torch
        >>> from lightning_foresight.metrics import EffectiveInformation
        >>> metric = EffectiveInformation(2, 2, in_range=(0, 1), out_range=(0, 1), in_bins=4, out_bins=4)
        >>> generator = torch.Generator().manual_seed(0)
        >>> for _ in range(4):
        ...     noise = torch.rand(1000, 2, generator=generator)
        ...     metric.update(noise, noise.flip(1))
        >>> result = metric.compute()
        >>> round(result.value.item(), 2), result.num_samples.item()
        (4.0, 4000)
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False
    counts: Tensor
    num_samples: Tensor

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        *,
        in_range: tuple[float, float],
        out_range: tuple[float, float],
        in_bins: int = 16,
        out_bins: int = 16,
        reduction: str = "sum",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        name = "EffectiveInformation"
        for argument, value, minimum in (
            ("num_inputs", num_inputs, 1),
            ("num_outputs", num_outputs, 1),
            ("in_bins", in_bins, 2),
            ("out_bins", out_bins, 2),
        ):
            check_int(name, argument, value, minimum)
        check_choice(name, "reduction", reduction, ("sum", "none"))
        self.in_range = check_range(name, "in_range", in_range)
        self.out_range = check_range(name, "out_range", out_range)
        self.num_inputs, self.num_outputs = num_inputs, num_outputs
        self.in_bins, self.out_bins = in_bins, out_bins
        self.reduction = reduction
        shape = (num_inputs, num_outputs, in_bins, out_bins + 1)
        self.add_state("counts", torch.zeros(shape, dtype=torch.int32), dist_reduce_fx="sum")
        self.add_state("num_samples", torch.tensor(0), dist_reduce_fx="sum")

    @takes(inputs=data, outputs=data)
    def update(self, inputs: Tensor, outputs: Tensor) -> None:
        """Add a batch of noise and what came of it.

        Args:
            inputs: The noise ``(samples, ...)``, ``num_inputs`` numbers per sample.
            outputs: The outputs ``(samples, ...)``, ``num_outputs`` numbers per sample.
        """
        in_codes = clamped_bins(self._flat("inputs", inputs, self.num_inputs), self.in_range, self.in_bins)
        out_codes = bins_or_outside(self._flat("outputs", outputs, self.num_outputs), self.out_range, self.out_bins)
        if len(in_codes) != len(out_codes):
            raise ValueError(
                f"EffectiveInformation.update(inputs, outputs): got {len(in_codes)} and {len(out_codes)} samples; "
                "expected one row of outputs for every row of inputs."
            )
        in_codes, out_codes = in_codes.T.contiguous(), out_codes.T.contiguous()
        for in_part, out_part, counts in count_pairs(in_codes, out_codes, self.in_bins, self.out_bins):
            self.counts[in_part, out_part] += counts[:, :, 0]
        self.num_samples = self.num_samples + in_codes.shape[1]

    def compute(self) -> Estimate:
        """Return the bits, their sum or ``(num_inputs, num_outputs)``; the error of a sum is an upper bound.

        Pairs share their samples, so that the errors of the sum's terms may all point the same way.

        Raises:
            ValueError: If there are no samples.
        """
        if not int(self.num_samples):
            raise ValueError(
                "EffectiveInformation.compute(): there are no samples yet; call update(inputs, outputs) first."
            )
        terms = grassberger_terms(int(self.num_samples), self.counts.device)
        # The state does not know which inputs belong to dropped outputs: their margins are taken as they are.
        bits = corrected_information(self.counts, terms)
        error = information_std_error(self.counts)
        if self.reduction == "sum":
            bits, error = bits.sum(), error.sum()
        # Of the largest pair: how much of what so many samples can tell apart its cells take up.
        joint = self.counts.flatten(2)
        share = joint / joint.sum(-1, keepdim=True).clamp_min(1)
        joint_bits = entropy(share.double()).amax() / self.num_samples.clamp_min(2).log2()
        return make_estimate(
            bits.float(),
            std_error=error.float(),
            num_samples=self.num_samples,
            saturation=joint_bits.clamp(0, 1),
            method="sampled (grassberger less null)",
        )

    def _flat(self, name: str, values: Tensor, width: int) -> Tensor:
        flat = values.flatten(1) if values.ndim > 1 else values.unsqueeze(-1)
        if not values.is_floating_point() or values.ndim == 0 or flat.shape[1] != width:
            raise ValueError(
                f"EffectiveInformation.update({name}): got {describe(values)}; expected floating-point numbers of "
                f"shape (samples, ...) with {width} numbers per sample."
            )
        if bool(flat.isnan().any()):  # it has no bin
            raise ValueError(
                f"EffectiveInformation.update({name}): {int(flat.isnan().any(1).sum())} of {len(flat)} samples hold "
                "NaN; expected numbers. Look for a diverged layer, or leave those samples out."
            )
        return flat
