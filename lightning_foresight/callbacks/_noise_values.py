"""From means of noise and signal to the values that are logged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.gradient_noise.plain import Interval, divide


def efficiency(b_simple: Interval, trace_sigma: float, grad_sq_norm: float, batch_size: float) -> Interval:
    """Return B / (B + B_simple), the progress of a step over that of one without noise, in [0, 1]."""
    # Single estimates of |G|^2 and the noise may be negative: then no signal is seen, or no noise.
    signal, noise = (0.0 if part < 0 else part for part in (grad_sq_norm, trace_sigma))
    value = signal if signal == 0 else batch_size * signal / (batch_size * signal + noise)
    lower, upper = (0.0 if math.isnan(end) else end for end in (b_simple.lower, b_simple.upper))
    low = _share(divide(batch_size, batch_size + upper))
    up = _share(batch_size / (batch_size + max(lower, 0.0)))
    if math.isnan(value):
        return Interval(value, math.nan, low, up)
    return Interval(value, math.nan, min(low, value), max(up, value))


def _share(number: float) -> float:
    return min(max(number, 0.0), 1.0)


def as_estimate(values: Mapping[str, tuple[Interval, float]]) -> tuple[Sequence[str], Estimate]:
    """Return the keys, and one estimate of all their values with the numbers of observations behind them."""
    rows = [(*interval, 0.0 if math.isnan(count) else round(count)) for interval, count in values.values()]
    value, error, lower, upper, count = torch.tensor(rows).T
    return tuple(values), Estimate(
        value, error, count.long(), torch.zeros_like(value), lower, upper, method="mean moments"
    )
