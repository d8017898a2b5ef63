"""Ranges and bins of the outputs that follow from the layer instead of being given."""

from __future__ import annotations

import math

import torch
from torch import nn

from lightning_foresight.functional._checks import check_range, fail
from lightning_foresight.functional._random import own_generator
from lightning_foresight.functional.effective_information.noise import num_inputs, own_random_state, respond, uniform
from lightning_foresight.functional.effective_information.preimages import has_valley
from lightning_foresight.functional.effective_information.problem import Problem, Range

# Samples whose outputs show the range of a layer that says nothing else about it, and numbers that they may hold.
MOST_SAMPLES, MOST_NUMBERS = 2**12, 2**24
# Places at which an activation with a minimum is looked at.
PLACES = 1025
MOST_BINS = 2**16


def dynamic_range(owner: str, problem: Problem) -> Range:
    """Return the range of all outputs of a layer together.

    Of affine layers with a monotone activation, or one with a single minimum, it is what they can put out, from end to
    end; of embeddings that of the table; of others that of the outputs to a few thousand samples of noise.
    """
    outputs = problem.token_outputs()
    monotone = problem.rule is not None
    if outputs is None and problem.affine is not None and (monotone or has_valley(problem.activation)):
        weight, bias = problem.affine
        low, high = problem.in_range
        lowest = bias + (weight * low).minimum(weight * high).sum(1)
        highest = bias + (weight * low).maximum(weight * high).sum(1)
        along = torch.linspace(0, 1, 2 if monotone else PLACES, dtype=weight.dtype, device=weight.device).unsqueeze(1)
        outputs = torch.lerp(lowest, highest, along)
        if problem.activation is not None:
            outputs = problem.activation(outputs.to(problem.dtype)).detach()
    elif outputs is None:
        generator = own_generator(problem.device)
        inputs = num_inputs(problem)
        samples = max(64, min(MOST_SAMPLES, MOST_NUMBERS // inputs))
        with own_random_state(generator):
            outputs = respond(owner, problem, uniform(problem, generator, samples, inputs))
    low, high = (float(end) for end in torch.aminmax(outputs))
    return check_range(owner, "out_range", (low, high))


def dynamic_bins(owner: str, problem: Problem) -> tuple[Range, int]:
    """Return as many output bins as wide as those of the inputs as it takes, and the range that they fill."""
    if isinstance(problem.layer, nn.Embedding):
        fail(owner, "out_bins", "dynamic", "the input of an Embedding has no bins to be as wide as; pass a number.")
    low, high = problem.out_range
    width = (problem.in_range[1] - problem.in_range[0]) / problem.in_bins
    bins = max(2, math.ceil((high - low) / width * (1 - 1e-9)))
    if bins > MOST_BINS:
        fail(owner, "out_bins", "dynamic", f"outputs in ({low:g}, {high:g}) take {bins} bins of the inputs' width "
             f"{width:g}; pass a number of bins, or fewer in_bins.")  # fmt: skip
    return (low, low + bins * width), bins
