"""The result type of everything that is measured."""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._checks import number_tensor, takes

KINDS = ("estimate", "exact", "lower_bound", "upper_bound", "bracket", "not_valid")


class Estimate(NamedTuple):
    r"""A measured value with what one needs to judge it.

    Tensors live on the device of the input; nothing here forces a transfer to the host.

    Attributes:
        value: The measured quantity, any shape.
        std_error: Standard error of ``value``; 0 for an exact result, NaN where it is unknown.
        num_samples: Number of samples behind ``value``; 0 for a result that needed none.
        saturation: In [0, 1], how near a plug-in estimate is to the largest value that its sample count can express.
            Near 1 the value says how many samples there were, and nothing about the network.
        lower: Lower end of an interval or a lower bound, where the estimator has one of its own.
        upper: Upper end, likewise.
        kind: What ``value`` claims to be: an ``"estimate"``, of which the interval is a 95% confidence interval;
            ``"exact"``; a ``"lower_bound"`` or an ``"upper_bound"``; a number in a ``"bracket"`` (bounds, not a
            confidence interval: they hold what is measured, and may be far apart whatever the number of samples); or
            ``"not_valid"`` (the estimator's assumptions do not hold on this input).
        method: How it was computed, in words, for instance ``"binned (miller_madow)"``.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import Estimate, make_estimate
        >>> result = make_estimate(torch.tensor(2.0), std_error=0.1, num_samples=100)
        >>> [round(float(end), 3) for end in result.interval(0.95)]
        [1.804, 2.196]
    """

    value: Tensor
    std_error: Tensor
    num_samples: Tensor
    saturation: Tensor
    lower: Tensor | None = None
    upper: Tensor | None = None
    kind: str = "estimate"
    method: str = ""

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """Return the estimator's own ``(lower, upper)``, or the normal interval ``value -+ z * std_error``.

        What they claim is in ``kind``: of a bound one end holds, of a bracket both are bounds.

        Args:
            level: Coverage of the normal interval; bounds of the estimator's own do not depend on it.
        """
        half_width = NormalDist().inv_cdf((1 + level) / 2) * self.std_error
        lower = self.value - half_width if self.lower is None else self.lower
        upper = self.value + half_width if self.upper is None else self.upper
        return lower, upper


@takes(value=number_tensor)
def make_estimate(
    value: Tensor,
    *,
    std_error: Tensor | float = 0.0,
    num_samples: Tensor | int = 0,
    saturation: Tensor | float = 0.0,
    lower: Tensor | None = None,
    upper: Tensor | None = None,
    kind: str = "estimate",
    method: str = "",
) -> Estimate:
    """Build an :class:`Estimate` whose fields are tensors on the device of ``value``."""
    if kind not in KINDS:
        raise ValueError(f"make_estimate(kind={kind!r}): expected one of {', '.join(map(repr, KINDS))}.")

    def as_tensor(field: Tensor | float, dtype: torch.dtype) -> Tensor:
        if isinstance(field, Tensor):
            if field.shape == value.shape and field.dtype == dtype and field.device == value.device:
                return field
            return field.to(value.device, dtype).broadcast_to(value.shape)
        return torch.full(value.shape, field, dtype=dtype, device=value.device)

    return Estimate(
        value,
        as_tensor(std_error, value.dtype),
        as_tensor(num_samples, torch.int64),
        as_tensor(saturation, value.dtype),
        lower,
        upper,
        kind,
        method,
    )
