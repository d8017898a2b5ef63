"""Monotone activations and their inverses: what turns output bins into intervals of the pre-activation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_foresight.functional._checks import fail


class Monotone(NamedTuple):
    """A non-decreasing activation, strictly increasing where its value lies between ``lower`` and ``upper``.

    Attributes:
        inverse: Pre-activation of values in the open interval (lower, upper).
        lower: Infimum of the values.
        upper: Supremum of the values.
        start: Largest pre-activation that gives ``lower``; minus infinity where it is never reached.
        stop: Smallest pre-activation that gives ``upper``; plus infinity where it is never reached.
    """

    inverse: Callable[[Tensor], Tensor]
    lower: float = -math.inf
    upper: float = math.inf
    start: float = -math.inf
    stop: float = math.inf


def _leaky(slope: float) -> Monotone | None:
    if slope == 0:
        return Monotone(lambda y: y, 0.0, math.inf, 0.0)
    return Monotone(lambda y: torch.where(y < 0, y / slope, y)) if slope > 0 else None


def _elu(alpha: float, scale: float = 1.0, rate: float = 1.0) -> Monotone | None:
    """Return ``scale * z`` above zero and ``scale * alpha * expm1(z * rate)`` below."""
    if alpha <= 0:
        return None
    floor = scale * alpha
    return Monotone(lambda y: torch.where(y < 0, torch.log1p(y / floor) / rate, y / scale), -floor)


def _softplus(beta: float) -> Monotone:
    return Monotone(lambda y: y + torch.log(-torch.expm1(-beta * y)) / beta, 0.0)


# SELU's constants, as in torch.nn.SELU (Klambauer et al. 2017, arXiv 1706.02515).
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946

_RULES: dict[type[nn.Module], Callable[..., Monotone | None]] = {
    nn.Identity: lambda m: Monotone(lambda y: y),
    nn.Sigmoid: lambda m: Monotone(torch.logit, 0.0, 1.0),
    nn.Tanh: lambda m: Monotone(torch.atanh, -1.0, 1.0),
    nn.ReLU: lambda m: _leaky(0.0),
    nn.ReLU6: lambda m: Monotone(lambda y: y, 0.0, 6.0, 0.0, 6.0),
    nn.Hardtanh: lambda m: Monotone(lambda y: y, m.min_val, m.max_val, m.min_val, m.max_val),
    nn.Hardsigmoid: lambda m: Monotone(lambda y: 6 * y - 3, 0.0, 1.0, -3.0, 3.0),
    nn.LeakyReLU: lambda m: _leaky(m.negative_slope),
    nn.PReLU: lambda m: _leaky(float(m.weight.detach())) if m.num_parameters == 1 else None,
    nn.ELU: lambda m: _elu(m.alpha),
    nn.CELU: lambda m: _elu(m.alpha, rate=1 / m.alpha),
    nn.SELU: lambda m: _elu(_SELU_ALPHA, _SELU_SCALE),
    nn.Softplus: lambda m: _softplus(m.beta),
    nn.LogSigmoid: lambda m: Monotone(lambda y: y - torch.log(-torch.expm1(y)), -math.inf, 0.0),
    nn.Softsign: lambda m: Monotone(lambda y: y / (1 - y.abs()), -1.0, 1.0),
}

# Where an activation has no end of its own, deep-ei's convention: 10 on the open side.
OPEN_END = 10.0
_JOINT = (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d, nn.GLU)
# Ends of activations that have no inverse; the minima of GELU, SiLU and Mish rounded away from zero.
_ENDS: dict[type[nn.Module], tuple[float, float]] = {
    nn.Softmax: (0.0, 1.0),
    nn.Softmax2d: (0.0, 1.0),
    nn.Softmin: (0.0, 1.0),
    nn.LogSoftmax: (-OPEN_END, 0.0),
    nn.GELU: (-0.17, OPEN_END),
    nn.SiLU: (-0.2785, OPEN_END),
    nn.Mish: (-0.309, OPEN_END),
    nn.Hardswish: (-0.375, OPEN_END),
}


def monotone_rule(activation: nn.Module | None) -> Monotone | None:
    """Return the inverse of an activation that is monotone per unit, or ``None`` where there is no rule for it."""
    if activation is None:
        return Monotone(lambda y: y)
    rule = _RULES.get(type(activation))
    return None if rule is None else rule(activation)


def require_monotone(owner: str, activation: nn.Module | None) -> Monotone:
    """Return the inverse of an activation, or say why the exact method has none."""
    rule = monotone_rule(activation)
    if rule is not None:
        return rule
    why = "mixes the units" if isinstance(activation, _JOINT) else "is not known to be monotone per unit"
    known = ", ".join(kind.__name__ for kind in _RULES)
    raise ValueError(
        f"{owner}(method='exact', activation={activation}): {type(activation).__name__} {why}, so output bins are not "
        f"intervals of the pre-activation; expected None or one of {known}. Use method='sampled'."
    )


def default_out_range(owner: str, activation: nn.Module | None) -> tuple[float, float]:
    """Return the output range of an activation: its own ends, and 10 where it has none (as deep-ei does)."""
    rule = monotone_rule(activation)
    if rule is None:
        if type(activation) not in _ENDS:
            fail(
                owner, "out_range", None, f"{activation} has no default; pass (low, high) of the outputs to be binned."
            )
        return _ENDS[type(activation)]  # type: ignore[index]
    low = -OPEN_END if rule.lower == -math.inf else rule.lower
    high = OPEN_END if rule.upper == math.inf else rule.upper
    return float(low), float(high)


def preimage_edges(rule: Monotone, out_range: tuple[float, float], out_bins: int) -> Tensor:
    """Return the pre-activations at which the output passes the edges of its bins, ``(out_bins + 1,)``, float64.

    Bins are closed on the left, the last one on both sides, as in ``numpy.histogram``: the atom that ReLU puts on 0
    belongs to the bin that starts at 0.
    """
    values = torch.linspace(*out_range, out_bins + 1, dtype=torch.float64)
    inside = (values > rule.lower) & (values < rule.upper)
    edges = torch.where(values <= rule.lower, -math.inf, math.inf).to(torch.float64)
    edges[inside] = rule.inverse(values[inside])
    edges[values == rule.upper] = rule.stop
    # The last bin is closed: what lies exactly on its end still counts.
    if values[-1] == rule.lower:
        edges[-1] = rule.start
    elif values[-1] >= rule.upper:
        edges[-1] = math.inf
    return edges
