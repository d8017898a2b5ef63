r"""A layer's total from some of its (input, output) pairs: which ones, and what they say about the rest.

Some outputs are drawn, and of each some inputs: those that are likely to matter more often. What every pair can be
expected to carry is guessed from its weight, and the guesses are summed over all pairs, so that only their errors are
left to chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunks
from lightning_foresight.functional.estimate import Estimate, make_estimate

# All inputs of an output have to be looked at for the sake of one; that costs as much as one pair in so many.
INPUTS_A_PAIR = 32
FEWEST_INPUTS = 16
# This share of the inputs is drawn evenly, so that no pair stands for very many.
EVENLY = 0.5
# Coefficients that are fitted to fewer pairs fit these pairs too well; of still fewer no error is known.
PAIRS_A_GUESS, FEWEST_PAIRS = 64, 8
# Guesses that stay in the cache of a CPU are summed several times faster.
CPU_CACHE_BYTES = 2**21


class PairChoice(NamedTuple):
    """A random choice of the pairs of a layer.

    Attributes:
        outputs: The outputs, without repetition, ``(outputs,)``.
        inputs: Inputs of each, some of them perhaps twice, ``(outputs, inputs)``.
        counts: How many pairs of its output each one stands for, ``(outputs, inputs)``.
        guesses: What a pair can be expected to carry, up to factors, ``(guesses, outputs, inputs)``.
        sums: Sums of the guesses over all pairs of the layer, ``(guesses,)``.
        size: The layer's numbers of outputs and inputs.
    """

    outputs: Tensor
    inputs: Tensor
    counts: Tensor
    guesses: Tensor
    sums: Tensor
    size: tuple[int, int]


def numbers_of_choice(outputs: int, inputs: int, max_pairs: int | None) -> tuple[int, int]:
    """Return how many outputs are drawn, and how many inputs of each, at least two of both."""
    if max_pairs is None or outputs * inputs <= max_pairs:
        return outputs, inputs
    each = min(inputs, max(FEWEST_INPUTS, inputs // INPUTS_A_PAIR), max(2, max_pairs // 2))
    drawn = min(outputs, max(2, max_pairs // each))
    return drawn, min(inputs, max(each, max_pairs // drawn))


def choose_pairs(
    weight: Tensor, max_pairs: int | None, *, resolution: float, in_bins: int, generator: torch.Generator
) -> PairChoice | None:
    """Draw pairs of a dense layer, or return ``None`` if all of them are few enough.

    Args:
        weight: Weights ``(outputs, inputs)``.
        max_pairs: About how many pairs to draw, no limit when ``None``.
        resolution: Bins of the pre-activation that a weight of 1 runs through.
        in_bins: Bins of the inputs.
        generator: Draws them.
    """
    size = len(weight), weight.shape[1]
    drawn, each = numbers_of_choice(*size, max_pairs)
    if (drawn, each) == size:
        return None
    device = weight.device
    outputs = torch.randperm(size[0], generator=generator, device=generator.device)[:drawn].to(device)
    guesses = torch.stack(_guesses(weight[outputs], resolution, in_bins))
    if each == size[1]:
        inputs = torch.arange(each, device=device).expand(drawn, each)
        counts = torch.ones_like(guesses[0])
    else:
        likely = guesses[1] / guesses[1].sum(1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
        chances = EVENLY / size[1] + (1 - EVENLY) * likely
        chances = chances / chances.sum(1, keepdim=True)
        # One draw in each of as many equal parts of the distribution function: never less precise than all over it.
        noise = torch.rand(drawn, each, generator=generator, dtype=torch.float32, device=generator.device).to(weight)
        places = (torch.arange(each, device=device) + noise) / each
        inputs = torch.searchsorted(chances.cumsum(1), places).clamp_max(size[1] - 1)
        counts = 1 / (each * chances.gather(1, inputs))
        guesses = guesses.gather(2, inputs.expand(len(guesses), -1, -1))
    return PairChoice(outputs, inputs, counts, guesses, _sums(weight, resolution, in_bins), size)


def _guesses(weight: Tensor, resolution: float, in_bins: int) -> tuple[Tensor, ...]:
    """Return 1, the nats of a Gaussian channel of the same variances, and those of the weight alone, by resolution."""
    squares = weight.square()
    share = squares.div_(squares.sum(1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny))
    channel = share.neg_().clamp_min_(in_bins**-2.0 - 1).log1p_().mul_(-0.5)
    return torch.ones_like(weight), channel, weight.abs().mul_(resolution).log1p_()


def _sums(weight: Tensor, resolution: float, in_bins: int) -> Tensor:
    budget = CPU_CACHE_BYTES if weight.device.type == "cpu" else None
    parts = chunks(len(weight), 6 * weight.element_size() * weight.shape[1], budget)
    sums = [[guess.sum() for guess in _guesses(weight[part], resolution, in_bins)] for part in parts]
    return torch.stack([torch.stack(column).sum() for column in zip(*sums, strict=True)])


def total_of_choice(bits: Tensor, choice: PairChoice) -> Estimate:
    r"""Estimate the sum over all pairs of a layer from the chosen ones, by regression on the guesses.

    With guesses :math:`g`, coefficients :math:`\beta` fitted to the chosen pairs and residuals
    :math:`e = y - \beta g`,

    .. math:: \widehat{total} = \beta \sum_{all} g + \frac{M}{m} \sum_b \hat R_b,\qquad
              \hat R_b = \sum_a c_{ab} e_{ab},

    .. math:: se^2 = M^2 \Big(1 - \frac mM\Big) \frac{s^2_{\hat R}}{m} + \frac Mm \sum_b \widehat{\mathrm{var}} \hat R_b

    for m of M outputs drawn, in each of which a pair stands for :math:`c` of them.

    Args:
        bits: Bits of the chosen pairs ``(outputs, inputs)``.
        choice: Which they are.

    Source: Cochran, Sampling Techniques (1977), sections 7 and 11; Särndal, Swensson & Wretman (1992), section 8.
    """
    (all_outputs, all_inputs), (drawn, each) = choice.size, bits.shape
    predicted, residual = bits.new_zeros(()), bits
    fitted = min(len(choice.guesses), 1 + bits.numel() // PAIRS_A_GUESS)
    for slope, guess, total in islice(_independent_guesses(bits, choice), fitted):
        predicted, residual = predicted + slope * total, residual - slope * guess
    expanded = choice.counts * residual
    rows = expanded.sum(1)
    between = all_outputs * (all_outputs / drawn - 1) * rows.var() if drawn < all_outputs else rows.new_zeros(())
    within = all_outputs / drawn * each * expanded.var(1).sum() if each < all_inputs else rows.new_zeros(())
    # What the coefficients were fitted to, they fit better than the rest.
    free = bits.numel() / (bits.numel() - fitted) if bits.numel() >= FEWEST_PAIRS else math.nan
    return make_estimate(
        predicted + all_outputs / drawn * rows.sum(),
        std_error=((between + within) * free).sqrt(),
        num_samples=bits.numel(),
    )


def _independent_guesses(bits: Tensor, choice: PairChoice) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield each guess less what the ones before it say, its least-squares coefficient, and its sum over all pairs."""
    before: list[tuple[Tensor, Tensor, Tensor]] = []
    for guess, total in zip(choice.guesses, choice.sums, strict=True):
        size = (choice.counts * guess.square()).sum()
        for earlier, earlier_total, length in before:
            shared = (choice.counts * guess * earlier).sum() / length
            guess, total = guess - shared * earlier, total - shared * earlier_total
        length = (choice.counts * guess.square()).sum()
        known = length <= size * 1e-9  # it says nothing new: all weights alike, for instance
        length = torch.where(known, torch.ones_like(length), length)
        guess, total = (torch.where(known, torch.zeros_like(value), value) for value in (guess, total))
        before.append((guess, total, length))
        yield (choice.counts * bits * guess).sum() / length, guess, total
