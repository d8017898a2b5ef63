r"""Sums of independent centred uniforms: characteristic functions, tails, and how many Fourier terms they need.

A pre-activation under do(inputs ~ uniform) is a sum of uniforms of widths :math:`s_i = |w_i| R`. Its characteristic
function is the product of :math:`\mathrm{sinc}(s_i \omega / 2)`, with :math:`\mathrm{sinc}\,x = \sin x / x`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# What the probability of a bin may lose to a cut of the support, and to a cut of the Fourier series.
TAIL_MASS = 1e-13
SERIES_ERROR = 1e-12

# |sin x / x| never exceeds this beyond its first zero; it is reached near x = 4.4934.
_SIDE_LOBE = 0.21723362821122166


class SeriesPlan(NamedTuple):
    """Fourier series of one layer's conditional pre-activations.

    Attributes:
        period: Period of the series of every output unit, ``(outputs,)``.
        terms: Terms that every pair needs, ``(outputs, chosen inputs)``; 0 where no length of the grid is enough.
    """

    period: Tensor
    terms: Tensor


def sum_of_others(values: Tensor) -> Tensor:
    """Return for every entry the sum of all others along the last axis, without subtraction."""
    before, after = torch.zeros_like(values), torch.zeros_like(values)
    before[..., 1:] = values[..., :-1].cumsum(-1)
    after[..., :-1] = values[..., 1:].flip(-1).cumsum(-1).flip(-1)
    return before + after


def product_of_others(factors: Tensor, chosen: Tensor) -> Tensor:
    """Return the products of all factors but the chosen one along the last axis, without division: some are zero.

    Args:
        factors: ``(units, ..., inputs)``.
        chosen: Which one to leave out, ``(units, chosen)``.

    Returns:
        Products ``(units, ..., chosen)``.
    """
    before, after = torch.ones_like(factors), torch.ones_like(factors)
    before[..., 1:] = factors[..., :-1].cumprod(-1)
    after[..., :-1] = factors[..., 1:].flip(-1).cumprod(-1).flip(-1)
    return take(before, chosen).mul_(take(after, chosen))


def take(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the chosen entries ``(units, ..., chosen)`` of ``(units, ..., inputs)``."""
    between = values.dim() - 2
    index = chosen.view(len(chosen), *[1] * between, -1).expand(*values.shape[:-1], -1)
    return values.gather(-1, index)


def sinc(x: Tensor) -> Tensor:
    """Return sin(x) / x."""
    return torch.special.sinc(x / math.pi)


def half_support(widths: Tensor, in_bins: int) -> Tensor:
    r"""Bound the pre-activation's conditional deviation, given the bin of each input, ``(outputs, inputs)``.

    The smaller of the true half-width of the support and :math:`\sigma \sqrt{2 \ln (2 / \epsilon)}`, outside which
    less than ``TAIL_MASS`` lies: a uniform is sub-Gaussian with its own variance as proxy, because
    :math:`\sinh t / t \le e^{t^2/6}`, and so is a sum of independent ones.
    """
    own = widths / in_bins
    return _half_width(sum_of_others(widths) + own, sum_of_others(widths.square()) + own.square())


def half_width(widths: Tensor) -> Tensor:
    """Bound the deviation of the sum of all uniforms ``(..., widths)`` in the same way."""
    return _half_width(widths.sum(-1), widths.square().sum(-1))


def _half_width(reach: Tensor, squares: Tensor) -> Tensor:
    return torch.minimum(reach / 2, (squares / 12).sqrt() * math.sqrt(2 * math.log(2 / TAIL_MASS)))


def minus_log_envelope(x: Tensor) -> Tensor:
    r"""Return minus the logarithm of a decreasing function that :math:`|\sin t / t|` stays under for all t >= x.

    It is :math:`e^{-x^2/6}` down to the height of the side lobes, and :math:`1/x` from where that is lower.
    """
    plateau = -math.log(_SIDE_LOBE)
    return torch.where(x < math.sqrt(6 * plateau), x.square() / 6, x.clamp_min(1 / _SIDE_LOBE).log())


def _grid(max_terms: int) -> list[int]:
    """Return the lengths that are tried, and beyond them coarser ones that only bound the tail."""
    lengths = [4]
    while lengths[-1] < 1000 * max_terms:
        ratio = 2 ** (1 / 3) if lengths[-1] < max_terms else 4
        lengths.append(math.ceil(lengths[-1] * ratio))
    return lengths


def plan_series(widths: Tensor, chosen: Tensor, in_bins: int, max_terms: int) -> SeriesPlan:
    r"""Choose period and length of every pair's Fourier series from a bound on what is cut off.

    A series of period :math:`L` cut after :math:`K` terms errs in the probability of any interval by at most

    .. math:: 2 \sum_{k > K} \frac{|\varphi(2 \pi k / L)|}{\pi k}

    which is bounded block by block with a decreasing envelope of :math:`\varphi`.

    Args:
        widths: Widths of the uniforms ``(outputs, inputs)``.
        chosen: Inputs whose pairs are wanted, ``(outputs, chosen)``.
        in_bins: Bins of each input: the chosen input keeps a uniform of ``1 / in_bins`` of its width.
        max_terms: Longest series allowed.
    """
    half = (half_support(widths, in_bins) + widths / 2).amax(1)
    half = torch.where(half > 0, half, torch.ones_like(half))
    period = 2 * half

    def others(x: Tensor) -> tuple[Tensor, Tensor]:
        decay, falling, own = minus_log_envelope(x), x > 1 / _SIDE_LOBE, take(x, chosen)
        others = decay.sum(1, keepdim=True) - minus_log_envelope(own) + minus_log_envelope(own / in_bins)
        return others, falling.sum(1, keepdim=True) - (own > 1 / _SIDE_LOBE).to(x.dtype)

    terms = _shortest(lambda length: others(widths * (math.pi * length) / period.unsqueeze(1)), max_terms)
    return SeriesPlan(period, terms)


def terms_of_sum(widths: Tensor, half: Tensor, max_terms: int) -> Tensor:
    """Return the terms that the series of the sum of all uniforms ``(pairs, widths)`` needs on ``[-half, half]``."""

    def everything(length: float) -> tuple[Tensor, Tensor]:
        x = widths * (math.pi * length / 2) / half.unsqueeze(1)
        return minus_log_envelope(x).sum(1), (x > 1 / _SIDE_LOBE).to(x.dtype).sum(1)

    return _shortest(everything, max_terms)


def _shortest(decay: Callable[[float], tuple[Tensor, Tensor]], max_terms: int) -> Tensor:
    """Return the shortest lengths whose tail is below ``SERIES_ERROR``, 0 where ``max_terms`` are too few.

    Args:
        decay: Minus the logarithm of the envelope at a harmonic, and the number of factors in their 1/x regime there.
        max_terms: Longest series allowed.
    """
    grid = _grid(max_terms)
    minus_log, powers = decay(grid[-1] + 1)
    # Beyond the grid every factor in its 1/x regime adds a power of the length to the decay.
    tail = torch.exp(-minus_log) / (math.pi * powers)
    terms = torch.zeros_like(tail, dtype=torch.int64)
    for length, longer in zip(reversed(grid[:-1]), reversed(grid[1:]), strict=True):
        tail = tail + torch.exp(-decay(length + 1)[0]) * (math.log(longer / length) / math.pi)
        if length <= max_terms:
            terms = torch.where(2 * tail <= SERIES_ERROR, length, terms)
    return terms
