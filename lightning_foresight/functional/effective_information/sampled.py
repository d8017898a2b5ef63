"""EI_parts and sensitivity by sampling, for any layer that can be called."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunk_length, chunks
from lightning_foresight.functional.effective_information.binning import code_type
from lightning_foresight.functional.effective_information.dependent_bias import CPU_BYTES
from lightning_foresight.functional.effective_information.joint import joint_mutual_information
from lightning_foresight.functional.effective_information.noise import (
    make_generator,
    noise_in_bins,
    num_inputs,
    num_outputs,
    output_codes,
    own_random_state,
    respond,
)
from lightning_foresight.functional.effective_information.pair_counts import count_pairs
from lightning_foresight.functional.effective_information.pair_information import PairSums, grassberger_terms
from lightning_foresight.functional.effective_information.problem import Problem

DEFAULT_SAMPLES = 2**15
# Where rtol asks for more than this, what was reached is returned.
MOST_SAMPLES = 2**20
BLOCKS = 8
# What is left of an output's samples after dropping some, for each bin of the inputs, that its correction needs.
FEWEST_A_BIN = 4
# Shares of the samples that an extrapolation starts from: all, halves, quarters.
FRACTIONS = (1, 2, 4)
SENSITIVITY_POINTS, SENSITIVITY_NUMBERS = 2**12, 2**27
# More numbers than this take long enough to be told before.
LONG_NUMBERS = 2**30
# Noise and outputs that stay in the cache of a CPU are handled several times faster.
CPU_CHUNK = 2**24


class SampledPairs(NamedTuple):
    """EI of pairs from samples.

    Attributes:
        bits: Bits of every pair ``(inputs, outputs)``.
        total_std_error: Standard error of their sum, from blocks of the samples and from what none of them shows.
        num_samples: How many samples there were.
    """

    bits: Tensor
    total_std_error: Tensor
    num_samples: int


def sampled_parts(
    owner: str,
    problem: Problem,
    num_samples: int | None,
    rtol: float | None,
    generator: torch.Generator | None,
    *,
    extrapolate: bool = False,
) -> SampledPairs:
    """Estimate EI_parts; with ``rtol``, double the samples until the sum's standard error is below that share of it."""
    generator = make_generator(problem, generator)
    samples = num_samples or DEFAULT_SAMPLES
    levels = (1, *(FRACTIONS[1:] if extrapolate else ()), *(() if rtol is None and not extrapolate else (BLOCKS,)))
    while True:
        by_level, kept = _bits_by_level(owner, problem, samples, levels, generator)
        bits = by_level[0][:, :, 0]
        std_error = block_std_error(by_level[-1]) if len(levels) > 1 else torch.full_like(bits[0, 0], float("nan"))
        if extrapolate:
            bits, doubt = _extrapolated([part.mean(2) for part in by_level[: len(FRACTIONS)]])
            std_error = (std_error**2 + doubt.sum() ** 2).sqrt()
        few = min(samples, FEWEST_A_BIN * problem.in_bins)
        doubt = bias_left(by_level[0][:, :, 0], by_level[-1], kept, few)
        std_error = (std_error**2 + unseen_bits(kept).sum().to(bits) ** 2 + doubt**2).sqrt()
        pairs = SampledPairs(bits, std_error, samples)
        # A sum of 0 is within no share of itself, but within whatever is no limit.
        size = bits.sum().abs().clamp_min(torch.finfo(bits.dtype).eps)
        if rtol is None or 2 * samples > MOST_SAMPLES or bool(std_error <= rtol * size):
            return pairs
        samples *= 2


def _extrapolated(bits: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the end of a line in 1/N through bits at all, half and a quarter of the samples, and a parabola's less it.

    The line is that of least squares through 1/N = 1, 2, 4; the parabola goes through all three (Richardson).
    """
    whole, half, quarter = bits
    line = whole + half / 2 - quarter / 2
    return line, (8 * whole - 6 * half + quarter) / 3 - line


def block_std_error(bits: Tensor) -> Tensor:
    """Return the standard error of the sum over pairs, from bits by block ``(inputs, outputs, blocks)``."""
    sums = bits.sum((0, 1))
    return sums.std() / len(sums) ** 0.5


def unseen_bits(kept: Tensor) -> Tensor:
    r"""Return what each output's pairs may tell together where no sample has been, from the number of samples.

    Of N samples, shares of about 1/N lie beyond the outermost ones, at both ends of an output's range. Inputs are
    independent, so that an event of probability p tells no more about all of them than about
    :math:`p \log_2 \frac 1p`: in all, :math:`\frac 2N \log_2 N`.
    """
    number = kept.clamp_min(2).double() if kept.device.type != "mps" else kept.clamp_min(2).float()
    return 2 * number.log2() / number


def bias_left(bits: Tensor, by_block: Tensor, kept: Tensor, few: int) -> Tensor:
    """Return what may be left of the bias of the sum over pairs, of outputs most samples of which were dropped.

    Which inputs are kept then depends on the others, and the correction cannot tell that from what a pair shares. All
    that is known is how far blocks of the samples are from all of them.

    Args:
        bits: From all samples, ``(inputs, outputs)``.
        by_block: From blocks of them, ``(inputs, outputs, blocks)``.
        kept: How many samples of each output were not dropped.
        few: With so many of them the correction is good.
    """
    moved = (by_block.mean(2) - bits).sum(0)
    return torch.where(kept < few, moved, 0).sum().abs()


def _bits_by_level(
    owner: str, problem: Problem, samples: int, levels: Sequence[int], generator: torch.Generator
) -> tuple[list[Tensor], Tensor]:
    """Estimate all pairs from the samples cut into so many blocks; ``(inputs, outputs, blocks)`` for every level.

    Returns:
        The bits, and how many samples of each output were not dropped.
    """
    in_codes, out_codes = _draw_codes(owner, problem, samples, generator)
    kept = (out_codes < problem.out_bins).sum(1)
    dropped = bool((kept < samples).any())
    terms = grassberger_terms(samples, in_codes.device)
    bins = problem.in_bins, problem.out_bins + dropped
    found = [terms.new_empty(len(in_codes), len(out_codes), level) for level in levels]
    size = len(in_codes) * sum(
        level * PairSums.bytes_per_pair(samples // level, *bins, dropped=dropped) for level in levels
    )
    for part in chunks(len(out_codes), 2 * size, CPU_BYTES if in_codes.device.type == "cpu" else None):
        shape = len(in_codes), part.stop - part.start
        sums = [PairSums((*shape, level, *bins), terms, samples // level, dropped=dropped) for level in levels]
        for in_part, out_part, counts in count_pairs(
            in_codes, out_codes[part], problem.in_bins, problem.out_bins, max(levels), dropped=dropped
        ):
            for level, pairs in zip(levels, sums, strict=True):
                tables = counts if level == counts.shape[2] else counts.unflatten(2, (level, -1)).sum(3)
                pairs.add(in_part, out_part, tables)
        for bits, pairs in zip(found, sums, strict=True):
            bits[:, part] = pairs.information()
    return found, kept


def _draw_codes(owner: str, problem: Problem, samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the bins of noise ``(inputs, samples)`` and of what comes of it ``(outputs, samples)``."""
    inputs, outputs, device = num_inputs(problem), num_outputs(owner, problem, generator), problem.device
    low, high = problem.in_range
    in_codes = torch.empty(inputs, samples, dtype=code_type(problem.in_bins), device=device)
    out_codes = torch.empty(outputs, samples, dtype=code_type(problem.out_bins), device=device)
    with own_random_state(generator):
        for part in chunks(samples, 64 * max(inputs, outputs), CPU_CHUNK if device.type == "cpu" else None):
            noise = noise_in_bins(problem, generator, inputs, part.stop - part.start)
            in_codes[:, part] = noise  # whole numbers: the bins
            noise.mul_((high - low) / problem.in_bins).add_(low)
            out_codes[:, part] = output_codes(problem, respond(owner, problem, noise.T)).T
    return in_codes, out_codes


def warn_of_many_inputs(owner: str, problem: Problem) -> None:
    """Say what the sensitivity of a layer of many inputs costs, before any of it is paid."""
    inputs = num_inputs(problem)
    numbers = 2 * problem.in_bins * inputs**2
    silent = int((LONG_NUMBERS / (2 * problem.in_bins)) ** 0.5)
    if inputs > silent:
        warnings.warn(
            f"{owner}: each of {inputs} inputs is perturbed alone, {numbers:.1e} numbers in all, which may take "
            f"minutes or hours, with the square of the inputs; {silent} inputs "
            "pass in silence. Choose layers inside of it, or in_shape= of a single position or channel where these are "
            "treated alone.",
            stacklevel=3,
        )


def sampled_sensitivity(
    owner: str, problem: Problem, num_samples: int | None, generator: torch.Generator | None
) -> SampledPairs:
    """Estimate sensitivity from evenly spaced values of one input at a time, all others 0.

    Its error is that of the spacing, and is taken to be what half of the points would change in the sum.
    """
    generator = make_generator(problem, generator)
    inputs = num_inputs(problem)
    # Every input takes a pass of its own, so that the numbers to be made grow with the square of the inputs.
    wanted = num_samples or min(SENSITIVITY_POINTS, SENSITIVITY_NUMBERS // inputs**2)
    per_bin = 2 * max(1, wanted // problem.in_bins // 2)
    points = per_bin * problem.in_bins
    low, high = problem.in_range
    dtype = torch.float64 if problem.dtype == torch.float64 else torch.float32
    values = (torch.arange(points, dtype=dtype, device=problem.device) + 0.5) * ((high - low) / points) + low
    codes = torch.arange(points, device=problem.device) // per_bin
    step = chunk_length(inputs, 16 * points * (inputs + 8))
    parts, change = [], values.new_zeros((), dtype=torch.float64 if values.device.type != "mps" else torch.float32)
    for start in range(0, inputs, step):
        chosen = torch.arange(start, min(start + step, inputs), device=problem.device)
        noise = values.new_zeros(len(chosen), points, inputs)
        noise.scatter_(2, chosen.view(-1, 1, 1).expand(-1, points, 1), values.view(1, -1, 1).expand(len(chosen), -1, 1))
        with own_random_state(generator):
            outputs = respond(owner, problem, noise.flatten(0, 1))
        out_codes = output_codes(problem, outputs).view(len(chosen), points, -1)
        # One "output" per pair, all of them against the same input codes.
        flat = out_codes.transpose(1, 2).flatten(0, 1)
        bits = _plain_information(codes, flat, problem)
        change = change + (bits - _plain_information(codes[::2], flat[:, ::2], problem)).sum()
        parts.append(bits.view(len(chosen), -1))
    return SampledPairs(torch.cat(parts), change.abs(), points)


def _plain_information(in_codes: Tensor, out_codes: Tensor, problem: Problem) -> Tensor:
    dtype = torch.float64 if in_codes.device.type != "mps" else torch.float32
    tables = count_pairs(in_codes.unsqueeze(0), out_codes, problem.in_bins, problem.out_bins)
    # Whole rows of one input: chunks are of outputs.
    return torch.cat([joint_mutual_information(counts[0, :, 0].to(dtype)) for _, _, counts in tables])
