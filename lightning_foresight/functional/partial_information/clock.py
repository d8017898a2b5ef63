"""Cumulative information by degree of synergy, sampled with exponential clocks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunk_length
from lightning_foresight.functional.partial_information._agreement import agreement_weights

_DRAWS_AT_A_TIME = 256  # with 1,024 sets of sources, the clocks of these stay in the second-level cache of a core


class AgreementClocks:
    r"""Samples :math:`\log_2(\tau^{all}_k / \tau^{same}_k)` for the degrees of synergy k below n.

    Let every sample of the table ring at an exponential time with the rate of its probability. Seen from one row,
    :math:`\tau_k` is the time at which every set of k sources has been matched by a sample that rang. As the minimum of
    exponential times has the sum of their rates, and a maximum is an alternating sum of minima,
    :math:`E \log \tau_k` is the redundancy of all sets of k sources at once, without the lattice. All samples that
    agree with the row on the same sources ring as one clock, so that a draw needs one time for every set of sources.

    Args:
        sources: Codes, ``(m, n)``.
        target: Numbered target values, ``(m,)``.
        p: Probabilities of the rows, ``(m,)``.
        generator: Source of randomness on the device of ``p``.
    """

    def __init__(self, sources: Tensor, target: Tensor, p: Tensor, generator: torch.Generator) -> None:
        self.num_sources = sources.shape[1]
        self.sources, self.target, self.p, self.generator = sources, target, p, generator
        sizes = torch.tensor([mask.bit_count() for mask in range(2**self.num_sources)], device=p.device)
        self._sets = [(sizes == size).nonzero()[:, 0] for size in range(1, self.num_sources)]
        # Rates of a pass are held in memory; with more rows than fit, each pass sees others.
        self.rows_at_a_time = chunk_length(len(p), 2**self.num_sources * 8)
        self._rates: tuple[Tensor, Tensor] | None = None

    def sample(self, num_draws: int) -> Tensor:
        """Mean of the logarithms over rows drawn in proportion to their probability, ``(n - 1,)``."""
        offset = torch.rand((), generator=self.generator, dtype=self.p.dtype, device=self.p.device)
        grid = (torch.arange(num_draws, dtype=self.p.dtype, device=self.p.device) + offset) / num_draws
        rows = torch.searchsorted(self.p.cumsum(0), grid).clamp(max=len(self.p) - 1)
        same, other, rows = self._rates_of(rows)
        total = torch.zeros(self.num_sources - 1, dtype=self.p.dtype, device=self.p.device)
        for start in range(0, num_draws, _DRAWS_AT_A_TIME):
            draws = rows[start : start + _DRAWS_AT_A_TIME]
            total += self._log_ratios(same.index_select(1, draws), other.index_select(1, draws))
        return total / num_draws

    def _rates_of(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rates of the clocks of same and of other targets, ``(2^n, rows)``, and where the drawn rows stand in them."""
        if self.rows_at_a_time == len(self.p):
            if self._rates is None:
                self._rates = self._compute_rates(None)
            return *self._rates, rows
        distinct, positions = torch.unique(rows, return_inverse=True)
        return *self._compute_rates(distinct), positions

    def _compute_rates(self, at: Tensor | None) -> tuple[Tensor, Tensor]:
        same = agreement_weights(self.sources, self.p, given=self.target, at=at)
        everyone = agreement_weights(self.sources, self.p, at=at)
        # Differences of sums leave rounding errors where nothing agrees: far below any weight that does.
        floor = 0.5 * self.p.min()
        other = everyone - same
        return tuple(torch.where(rates > floor, rates, 0).float() for rates in (same, other))  # type: ignore[return-value]

    def _log_ratios(self, same: Tensor, other: Tensor) -> Tensor:
        """Sum over draws, ``(n - 1,)``."""
        same = self._exponential_like(same).div_(same)
        everyone = torch.minimum(same, self._exponential_like(other).div_(other))
        for source in range(self.num_sources):  # a set is matched as soon as one that holds it is
            for time in (same, everyone):
                pairs = time.view(-1, 2, 2**source, time.shape[1])
                torch.minimum(pairs[:, 0], pairs[:, 1], out=pairs[:, 0])
        return torch.stack(
            [
                (everyone.index_select(0, sets).amax(0).double() / same.index_select(0, sets).amax(0)).log2().sum()
                for sets in self._sets
            ]
        )

    def _exponential_like(self, rates: Tensor) -> Tensor:
        # Many times faster than Tensor.exponential_; the clamp keeps times from being 0, as log 0 is not finite.
        uniform = torch.rand(rates.shape, generator=self.generator, dtype=rates.dtype, device=rates.device)
        return uniform.clamp_(min=2**-26).log_().neg_()


def sample_information_by_degree(
    sources: Tensor, target: Tensor, p: Tensor, *, std_error: float, max_draws: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, int]:
    """Estimate the sum of I_k over degrees k below n.

    Args:
        sources: Codes, ``(m, n)``.
        target: Numbered target values, ``(m,)``.
        p: Probabilities of the rows, ``(m,)``.
        std_error: Stop when the standard error of the sum is below this.
        max_draws: Stop after as many draws.
        generator: Source of randomness.

    Returns:
        The sum in bits, its standard error, and the number of draws.
    """
    clocks = AgreementClocks(sources, target, p, generator)
    p_target = p.new_zeros(int(target.max()) + 1).index_add(0, target, p)
    h_target = -torch.special.xlogy(p_target, p_target).sum() / math.log(2)
    # Passes spread evenly over the rows, so that only their means are independent; 16 are enough to judge the spread.
    draws_per_pass = max(_DRAWS_AT_A_TIME, min(2048, max_draws // 16))
    passes: list[Tensor] = []
    while True:
        passes.append(clocks.sample(draws_per_pass).sum())
        values = torch.stack(passes)
        error = values.std() / math.sqrt(len(passes)) if len(passes) > 1 else values.new_tensor(math.inf)
        done = (len(passes) + 1) * draws_per_pass > max_draws
        if done or (len(passes) >= 16 and bool(error <= std_error)):
            return (clocks.num_sources - 1) * h_target + values.mean(), error, len(passes) * draws_per_pass
