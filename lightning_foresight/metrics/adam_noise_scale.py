"""The noise scale in the metric of an adaptive optimizer, as a torchmetrics metric."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import harmonic_mean
from typing import Any

import torch
from torch import Tensor

from lightning_foresight.functional._checks import fail, is_number
from lightning_foresight.functional.gradient_noise.moments import noise_moments
from lightning_foresight.functional.gradient_noise.preconditioner import preconditioned_sq_norm
from lightning_foresight.metrics._noise_moments import NoiseMoments


class AdamNoiseScale(NoiseMoments):
    r"""Gradient noise scale as Adam feels it: norms are taken in the metric that its second moment defines.

    .. math::
        \mathcal B_\text{Adam} = \frac{\operatorname{tr}(P \Sigma)}{G^\top P G},
        \qquad P = \operatorname{diag}\frac{1}{\sqrt{\hat v} + \epsilon}

    Adam moves by :math:`-\eta P g`: directions of small gradients, which plain norms hardly see, count as they count in
    the step. From a batch of :math:`B`, such a step lowers the loss by

    .. math::
        \eta\, G^\top P G
        - \frac{\eta^2}{2} \Big(G^\top P H P G + \frac{1}{B} \operatorname{tr}(P H P \Sigma)\Big);

    where the preconditioner does its work, :math:`P H` is near a multiple of the identity, and the ratio of the last
    two terms is this noise scale over :math:`B`. With :math:`P` the identity it is the simple noise scale.

    Each update compares gradients of micro-batches, taken at the same weights, with their mean. Numerator and
    denominator are averaged separately and unclamped over updates, and the ratio is taken in ``compute``, with
    Fieller's interval.

    Args:
        decay: Weight of an observation relative to the next one, in (0, 1]; 1 is the mean since the last reset. The
            scale of the norms follows the second moment, which changes as training goes on: discount it in long runs.
        level: Coverage of the interval of ``b_simple``.
        kwargs: Passed on to :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If an argument is out of range.

    References:
        McCandlish et al. (2018), An empirical model of large-batch training, arXiv 1812.06162; Kingma & Ba (2015),
        Adam: a method for stochastic optimization, arXiv 1412.6980.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lightning_foresight.functional import adam_preconditioner
        >>> from lightning_foresight.metrics import AdamNoiseScale
        >>> network, draw = nn.Linear(4, 1), torch.Generator().manual_seed(0)
        >>> optimizer, metric = torch.optim.Adam(network.parameters()), AdamNoiseScale()
        >>> for _ in range(50):
        ...     x = torch.randn(2, 8, 4, generator=draw)  # a step of two micro-batches of 8
        ...     losses = [(network(part) - part.sum(1, keepdim=True)).square().mean() for part in x]
        ...     gradients = [torch.autograd.grad(loss, list(network.parameters())) for loss in losses]
        ...     metric.update(gradients, 8, adam_preconditioner(optimizer, network.parameters()))
        ...     for p, first, second in zip(network.parameters(), *gradients):
        ...         p.grad = (first + second) / 2
        ...     optimizer.step()
        >>> scale = metric.compute()
        >>> bool(scale.b_simple.lower < scale.b_simple.value < scale.b_simple.upper)
        True
        >>> int(scale.b_simple.num_samples)  # before the first step there is no second moment
        49
    """

    method = "discounted moments, preconditioned"

    def __init__(self, *, decay: float = 1.0, level: float = 0.95, **kwargs: Any) -> None:
        super().__init__(decay=decay, level=level, **kwargs)

    def update(
        self,
        gradients: Sequence[Sequence[Tensor | None]],
        batch_size: float | Sequence[float],
        preconditioner: Sequence[Tensor | None],
    ) -> None:
        """Add the observation of one step; it is left out if not finite, or before the optimizer's first step.

        Args:
            gradients: For each micro-batch, at least two, its mean gradient: one tensor per parameter, unscaled.
            batch_size: Examples in a micro-batch, or one number for each.
            preconditioner: :func:`~lightning_foresight.functional.adam_preconditioner` of the same parameters, asked
                before the step. Norms of single examples' gradients are micro-batches of 1.
        """
        parts = gradients if isinstance(gradients, Sequence) else ()
        if not all(isinstance(part, Sequence) for part in (gradients, preconditioner, *parts)):
            raise TypeError(
                "AdamNoiseScale.update(gradients, preconditioner): expected for each micro-batch a list of tensors, "
                "one for every parameter, and such a list of preconditioners, as adam_preconditioner returns it."
            )
        if len(gradients) < 2:
            fail(
                "AdamNoiseScale.update",
                "len(gradients)",
                len(gradients),
                "expected at least two micro-batches; one gradient alone cannot separate noise from signal.",
            )
        sizes = list(batch_size) if isinstance(batch_size, Sequence) else [batch_size] * len(gradients)
        if len(sizes) != len(gradients) or not all(is_number(size) and size > 0 for size in sizes):
            fail(
                "AdamNoiseScale.update",
                "batch_size",
                batch_size,
                f"expected a positive number of examples, or one for each of the {len(gradients)} micro-batches.",
            )
        lengths = {len(part) for part in gradients} | {len(preconditioner)}
        if len(lengths) > 1:
            raise ValueError(
                f"AdamNoiseScale.update: got {[len(part) for part in gradients]} gradients in the micro-batches and a "
                f"preconditioner of {len(preconditioner)}; expected one entry per parameter in each, None where there "
                "is none."
            )
        if all(scale is None for scale in preconditioner):
            return
        small = torch.stack([preconditioned_sq_norm(part, preconditioner) for part in gradients]).mean()
        big = preconditioned_sq_norm([_mean(pieces) for pieces in zip(*gradients, strict=True)], preconditioner)
        size = harmonic_mean([float(one) for one in sizes])
        moments = noise_moments(self._on_device(small), self._on_device(big), size, len(gradients) * size)
        self._add(*(moment.reshape(1) for moment in moments))


def _mean(pieces: Sequence[Tensor | None]) -> Tensor | None:
    """Return the mean of one parameter's gradients; a micro-batch that does not reach it counts as zero."""
    present = [piece for piece in pieces if piece is not None]
    return sum(present[1:], present[0]) / len(pieces) if present else None
