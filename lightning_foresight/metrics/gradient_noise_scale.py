"""The gradient noise scale as a torchmetrics metric."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from lightning_foresight.functional._checks import check_int, fail, is_number, takes, tensors_as_data
from lightning_foresight.functional.gradient_noise.moments import noise_moments
from lightning_foresight.metrics._noise_moments import NoiseMoments


class GradientNoiseScale(NoiseMoments):
    r"""Simple gradient noise scale, accumulated over steps as discounted moments.

    .. math:: \mathcal B_\text{simple} = \frac{\langle\mathcal S\rangle}{\langle\mathcal G^2\rangle}

    Each update gives unbiased :math:`\mathcal S` (trace of the covariance of per-example gradients) and
    :math:`\mathcal G^2` (squared norm of the true gradient) of one step. Their means, variances and covariance are kept
    and discounted separately, unclamped; the ratio and its Fieller interval are taken in ``compute``.

    Below the noise scale, a larger batch buys nearly proportionally fewer steps; above it, mostly wasted examples.

    Args:
        decay: Weight of an observation relative to the next one, in (0, 1]; 1 is the mean since the last reset.
        level: Coverage of the interval of ``b_simple``.
        num_groups: Measure so many groups of parameters side by side: the squared norms are then of shape
            (num_groups,) or (observations, num_groups), and so are the results. ``None`` is one scale.
        kwargs: Passed on to :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If an argument is out of range.

    References:
        McCandlish et al. (2018), An empirical model of large-batch training, arXiv 1812.06162.

    Example:
        >>> from lightning_foresight.metrics import GradientNoiseScale
        >>> metric = GradientNoiseScale()
        >>> metric.update(3.0, 1.5, batch_small=8, batch_big=32)
        >>> metric.update(3.3, 1.7, batch_small=8, batch_big=32)
        >>> scale = metric.compute()
        >>> [round(float(x), 2) for x in (scale.b_simple.value, scale.trace_sigma.value, scale.grad_sq_norm.value)]
        [15.26, 16.53, 1.08]
    """

    def __init__(
        self, *, decay: float = 1.0, level: float = 0.95, num_groups: int | None = None, **kwargs: Any
    ) -> None:
        if num_groups is not None:
            check_int("GradientNoiseScale", "num_groups", num_groups, 1)
        super().__init__(decay=decay, level=level, shape=() if num_groups is None else (num_groups,), **kwargs)
        self.num_groups = num_groups

    @takes(
        sq_norm_small=tensors_as_data,
        sq_norm_big=tensors_as_data,
        batch_small=tensors_as_data,
        batch_big=tensors_as_data,
    )
    def update(
        self,
        sq_norm_small: Tensor | float,
        sq_norm_big: Tensor | float,
        batch_small: Tensor | float,
        batch_big: Tensor | float,
    ) -> None:
        """Add one observation, or several with the oldest first. An observation that is not finite is left out.

        Args:
            sq_norm_small: Mean of the squared norms of the small batches' mean gradients, shape (), (observations,) or,
                with groups, (num_groups,), (observations, num_groups).
            sq_norm_big: Squared norm of the mean of those gradients, same shape.
            batch_small: Examples in a small batch (harmonic mean of the sizes), a number or shape (observations,).
            batch_big: ``batch_small`` times the number of small batches, likewise.

        Raises:
            TypeError: If a norm is neither a tensor nor a number.
            ValueError: If a shape is wrong, lengths differ, or the batch sizes are numbers that are not positive or not
                ``batch_small < batch_big``. Tensors are not looked into, which would wait for the device: an
                observation with equal sizes is not finite.
        """
        small, big = self._observations("sq_norm_small", sq_norm_small), self._observations("sq_norm_big", sq_norm_big)
        b_small, b_big = self._sizes("batch_small", batch_small), self._sizes("batch_big", batch_big)
        if not isinstance(batch_small, Tensor) and not isinstance(batch_big, Tensor) and not batch_small < batch_big:
            raise ValueError(
                f"GradientNoiseScale.update(batch_small={batch_small!r}, batch_big={batch_big!r}): expected batch_big "
                "to be larger than batch_small. One batch size alone cannot separate noise from signal: pass the sizes "
                "of a micro-batch and of all micro-batches of the step together."
            )
        names = ("sq_norm_small", "sq_norm_big", "batch_small", "batch_big")
        lengths = [len(value) for value in (small, big, b_small, b_big)]
        if len(set(lengths) - {1}) > 1:
            raise ValueError(
                f"GradientNoiseScale.update({', '.join(names)}): got {', '.join(map(str, lengths))} values; expected "
                "one of each for every observation, or one for all."
            )
        self._add(*noise_moments(small, big, b_small, b_big))

    def _observations(self, name: str, value: Tensor | float) -> Tensor:
        if not isinstance(value, Tensor) and not is_number(value):
            fail("GradientNoiseScale.update", name, value, "expected a tensor or a number.", TypeError)
        norms = self._on_device(value)
        axes = self.sums.ndim - 1
        wanted = "a number or shape (observations,)"
        if self.num_groups is not None:
            wanted = f"shape ({self.num_groups},) or (observations, {self.num_groups}), one value per group"
        if not axes <= norms.ndim <= axes + 1 or (axes and norms.shape[-1] != self.num_groups):
            raise ValueError(f"GradientNoiseScale.update({name}): got shape {tuple(norms.shape)}; expected {wanted}.")
        return norms.reshape(-1, *norms.shape[-1:][:axes])

    def _sizes(self, name: str, value: Tensor | float) -> Tensor:
        if not isinstance(value, Tensor) and not (is_number(value) and 0 < value < math.inf):
            fail("GradientNoiseScale.update", name, value, "expected a positive number of examples.")
        return self._on_device(value).reshape(-1, *[1] * (self.sums.ndim - 1))
