r"""Distribution functions of sums of uniforms of very different widths, in closed form as far as that is stable.

The widest uniform is taken out by a difference quotient, then the next one, and so on:

.. math:: \mathbb E\frac{(z - U_v - G)_+^m}{m!}
          = \frac1v\left[\mathbb E\frac{(z + v/2 - G)_+^{m+1}}{(m + 1)!}
                         - \mathbb E\frac{(z - v/2 - G)_+^{m+1}}{(m + 1)!}\right].

Outside of the support of what remains, the expectation is zero or a polynomial of its moments: every difference is
taken on the scale of its own width, and none loses its digits to a wider one. What remains in the end is nothing, or a
sum of so many uniforms of similar width that its Fourier series is short.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunk_length
from lightning_foresight.functional.effective_information.characteristic import half_width, sinc


class UniformSum(NamedTuple):
    """A sum of independent centred uniforms, for a batch of pairs.

    Attributes:
        wide: Widths taken out one by one, descending, ``(pairs, m)``.
        narrow: Widths of the others, ``(pairs, n)``, zeros allowed; n is 0 where there are none.
        terms: Length of the Fourier series of the narrow ones.
    """

    wide: Tensor
    narrow: Tensor
    terms: int = 0

    def cdf(self, z: Tensor) -> Tensor:
        """Distribution function at points ``(pairs, ...)``."""
        ends = self._half_supports(), self._moments()
        # F(z) = 1 - F(-z): on the lower half the sums have the smaller terms.
        below = self._mean_power(-z.abs(), 0, 0, *ends).clamp(0, 0.5)
        return torch.where(z > 0, 1 - below, below)

    def _mean_power(self, z: Tensor, level: int, power: int, halves: list[Tensor], moments: list[Tensor]) -> Tensor:
        """Return E[(z - G)_+^power] / power! for the sum G of all uniforms from a level on."""
        axes = (-1, *[1] * (z.ndim - 1))
        half = halves[level].view(axes)
        if level == self.wide.shape[1] and not self.terms:
            return _power(z.clamp_min(0), power) / math.factorial(power)
        beyond = _polynomial_mean(z, moments[level], power)
        if level == self.wide.shape[1]:
            inside = beyond.clone()
            at = (z.abs() < half).nonzero(as_tuple=True)
            inside[at] = self._series(z[at], at[0], power, halves[level])
        else:
            width = self.wide[:, level].view(axes)
            upper = self._mean_power(z + width / 2, level + 1, power + 1, halves, moments)
            lower = self._mean_power(z - width / 2, level + 1, power + 1, halves, moments)
            inside = (upper - lower) / width
        return torch.where(z <= -half, torch.zeros_like(z), torch.where(z >= half, beyond, inside))

    def _series(self, z: Tensor, pair: Tensor, power: int, half: Tensor) -> Tensor:
        """Evaluate the narrow uniforms' mean power inside their support, by integrating their series term by term."""
        harmonics = torch.arange(1, self.terms + 1, dtype=z.dtype, device=z.device)
        omega = math.pi * harmonics / half.unsqueeze(1)  # (pairs, terms)
        phi = sinc(omega.unsqueeze(1) * self.narrow.unsqueeze(2) / 2).prod(1) / (math.pi * harmonics)

        def integral(at: Tensor, rows: Tensor, order: int, constants: list[Tensor]) -> Tensor:
            wave = ((torch.sin, 1), (torch.cos, -1), (torch.sin, -1), (torch.cos, 1))[order % 4]
            waves = wave[0](omega[rows] * at.unsqueeze(1)) * (phi / omega**order)[rows]
            total = wave[1] * waves.sum(1) + at**order / (2 * math.factorial(order))
            total = total + at ** (order + 1) / (2 * half[rows] * math.factorial(order + 1))
            for lower, constant in enumerate(constants, start=1):
                total = total + constant[rows] * at ** (order - lower) / math.factorial(order - lower)
            return total

        everyone = torch.arange(len(half), device=z.device)
        constants: list[Tensor] = []
        for order in range(1, power + 1):
            constants.append(-integral(-half, everyone, order, constants))
        step = chunk_length(len(z), 4 * z.element_size() * self.terms)
        if not len(z):
            return z
        return torch.cat(
            [integral(part, rows, power, constants) for part, rows in zip(z.split(step), pair.split(step), strict=True)]
        )

    def _half_supports(self) -> list[Tensor]:
        rest = half_width(self.narrow)
        halves = [rest]
        for level in reversed(range(self.wide.shape[1])):
            halves.insert(0, halves[0] + self.wide[:, level] / 2)
        return halves

    def _moments(self) -> list[Tensor]:
        r"""Return, for every level, the coefficients of :math:`t^0, t^2, t^4, t^6` in E[exp(t G)], ``(pairs, 4)``."""
        levels = []
        for level in range(self.wide.shape[1] + 1):
            half = torch.cat([self.wide[:, level:], self.narrow], 1) / 2
            # Cumulants of independent terms add up: log(sinh x / x) = x^2 / 6 - x^4 / 180 + x^6 / 2835 - ...
            k2, k4, k6 = half.square().sum(1) / 6, -half.pow(4).sum(1) / 180, half.pow(6).sum(1) / 2835
            levels.append(torch.stack([torch.ones_like(k2), k2, k2**2 / 2 + k4, k2**3 / 6 + k2 * k4 + k6], 1))
        return levels


def _polynomial_mean(z: Tensor, moments: Tensor, power: int) -> Tensor:
    """Return E[(z - G)^power] / power! of a symmetric sum G, by Horner's rule in z^2."""
    axes = (-1, *[1] * (z.ndim - 1))
    square = z * z
    total = torch.full_like(z, 1 / math.factorial(power))
    for j in range(1, power // 2 + 1):
        total = total * square + moments[:, j].view(axes) / math.factorial(power - 2 * j)
    return total * z if power % 2 else total


def _power(z: Tensor, power: int) -> Tensor:
    """Multiply: the general power function is many times slower."""
    if power < 2:
        return z if power else torch.ones_like(z)
    half = _power(z, power // 2)
    return half * half * z if power % 2 else half * half
