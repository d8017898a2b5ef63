"""Noise in, outputs out: the perturbation itself, and the bins both fall into."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lightning_foresight.functional._checks import fail
from lightning_foresight.functional._memory import chunk_length
from lightning_foresight.functional._random import forked_random_state, own_generator
from lightning_foresight.functional._trace import first_tensor
from lightning_foresight.functional.effective_information.binning import bins_or_outside, clamped_bins
from lightning_foresight.functional.effective_information.problem import Problem


def make_generator(problem: Problem, generator: torch.Generator | None) -> torch.Generator:
    """Return the generator passed in, or one of our own on the layer's device."""
    return own_generator(problem.device) if generator is None else generator


@contextmanager
def own_random_state(generator: torch.Generator) -> Iterator[None]:
    """Let the layer's own randomness (dropout in training mode) follow the generator, not the global state."""
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with forked_random_state([generator.device], seed):
        yield


def uniform(problem: Problem, generator: torch.Generator, *shape: int) -> Tensor:
    """Draw inputs uniformly from their range; the last axis counts the inputs."""
    low, high = problem.in_range
    dtype = torch.float64 if problem.dtype == torch.float64 else torch.float32
    noise = torch.rand(*shape, generator=generator, device=generator.device, dtype=dtype).to(problem.device)
    return noise * (high - low) + low


def noise_in_bins(problem: Problem, generator: torch.Generator, *shape: int) -> Tensor:
    """Draw inputs uniformly, in units of their bins: from 0 to less than ``in_bins``."""
    bins = problem.in_bins
    if generator.device.type != "cpu" or problem.dtype == torch.float64:
        dtype = torch.float64 if problem.dtype == torch.float64 else torch.float32
        noise = torch.rand(*shape, generator=generator, device=generator.device, dtype=dtype).mul_(bins)
        return noise.clamp_max_(bins * (1 - torch.finfo(dtype).eps)).to(problem.device)
    # A CPU makes 64 random bits in the time of one 24-bit number: enough for two.
    number = math.prod(shape)
    raw = torch.empty(-(-number // 2), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    noise = raw.view(torch.int32)[:number].view(shape).float()
    # Shrunk a little, so that rounding cannot reach the end of the last bin.
    return noise.mul_(bins * 2.0**-32 * (1 - 2.0**-22)).add_(bins / 2).to(problem.device)


def respond(owner: str, problem: Problem, inputs: Tensor) -> Tensor:
    """Return the outputs ``(samples, outputs)`` to inputs ``(samples, inputs)``, in chunks of samples.

    Layers that are affine answer as their dense map: a convolution as one receptive field.
    """
    step = chunk_length(len(inputs), 16 * inputs.element_size() * inputs.shape[1])
    parts = [_respond(owner, problem, part) for part in inputs.split(step)]
    outputs = parts[0] if len(parts) == 1 else torch.cat(parts)
    if not outputs.numel():
        fail(owner, "layer", _name(problem), f"expected outputs, got none for inputs of shape {tuple(inputs.shape)}.")
    if not torch.isfinite(torch.stack(torch.aminmax(outputs.T))).all():
        raise ValueError(
            f"{owner}(layer={_name(problem)}): the layer gives NaN or infinite outputs for inputs in "
            f"{problem.in_range}; expected finite ones. Look for a diverged layer, or narrow in_range."
        )
    return outputs


@torch.no_grad()
def _respond(owner: str, problem: Problem, inputs: Tensor) -> Tensor:
    if problem.affine is not None:
        inputs = inputs.to(problem.dtype)
        # The samples run along the last axis in memory, as the counts of pairs want them.
        bias = problem.affine.bias.to(inputs).unsqueeze(1)
        result = torch.addmm(bias, problem.affine.weight.to(inputs), inputs.T).T
    else:
        # A layer that works in place may write into it.
        rows = inputs.to(problem.dtype, copy=True, memory_format=torch.contiguous_format)
        found = first_tensor(_call(owner, problem, rows.view(-1, *problem.in_shape)))
        if found is None or found.shape[0] != len(inputs):
            fail(owner, "layer", _name(problem), "expected a tensor with one row of outputs for every row of inputs.")
        assert found is not None
        result = found
    if problem.activation is not None:
        result = problem.activation(result)
    return result.reshape(len(inputs), -1)  # one number a row is one output


def _call(owner: str, problem: Problem, inputs: Tensor) -> object:
    with _kept_buffers(problem.layer):
        try:
            return problem.layer(inputs)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError, IndexError) as error:
            raise ValueError(
                f"{owner}(layer={_name(problem)}): it cannot be called with noise of shape {tuple(inputs.shape)} and "
                f"dtype {inputs.dtype} alone ({type(error).__name__}: {error}). Expected a map of one floating-point "
                "tensor of shape (batch, *in_shape): check in_shape, or wrap the layer so that its other arguments are "
                "fixed."
            ) from error


@contextmanager
def _kept_buffers(layer: object) -> Iterator[None]:
    """Undo what a layer in training mode does to its buffers, such as running means: noise is no data."""
    training = isinstance(layer, nn.Module) and any(module.training for module in layer.modules())
    # Their version counters do not tell: the kernels of BatchNorm update running means without counting.
    buffers = [(buffer, buffer.clone()) for buffer in layer.buffers()] if training else []  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for buffer, value in buffers:
            buffer.copy_(value)


def some_answers(problem: Problem, max_pairs: int | None, generator: torch.Generator) -> tuple[Problem, float]:
    """Return the same question about a random choice of the outputs, at least 2, and their share of all."""
    if max_pairs is None:
        return problem, 1.0
    inputs, outputs = num_inputs(problem), num_outputs("max_pairs", problem, generator)
    kept = max(2, max_pairs // max(1, inputs))
    if kept >= outputs:
        return problem, 1.0
    chosen = torch.randperm(outputs, generator=generator, device=generator.device)[:kept].to(problem.device)

    def answers(noise: Tensor) -> Tensor:
        return respond("max_pairs", problem, noise)[:, chosen]

    # Activations may mix the outputs: they come first, and are part of the answer.
    few = problem._replace(layer=answers, activation=None, affine=None, in_shape=(inputs,))
    return few, kept / outputs


def input_codes(problem: Problem, inputs: Tensor) -> Tensor:
    """Return the bins of inputs."""
    return clamped_bins(inputs, problem.in_range, problem.in_bins)


def output_codes(problem: Problem, outputs: Tensor) -> Tensor:
    """Return the bins of outputs; ``out_bins`` for those outside the range."""
    low, high = problem.out_range
    if problem.rule is not None and low <= problem.rule.lower and problem.rule.upper <= high:
        return clamped_output_codes(problem, outputs)  # the activation lets nothing out: several times faster
    return bins_or_outside(outputs, problem.out_range, problem.out_bins)


def clamped_output_codes(problem: Problem, outputs: Tensor) -> Tensor:
    """Return the bins of outputs, the outermost ones for those outside the range."""
    return clamped_bins(outputs, problem.out_range, problem.out_bins)


def input_entropy(problem: Problem) -> float:
    """Return H(X) in bits."""
    if isinstance(problem.layer, nn.Embedding):
        return math.log2(problem.layer.num_embeddings)
    return num_inputs(problem) * math.log2(problem.in_bins)


def num_inputs(problem: Problem) -> int:
    """Return how many numbers one input has."""
    return problem.affine.weight.shape[1] if problem.affine is not None else math.prod(problem.in_shape)


def num_outputs(owner: str, problem: Problem, generator: torch.Generator) -> int:
    """Return how many numbers one output has; a layer that is not affine is asked."""
    if problem.affine is not None:
        return problem.affine.weight.shape[0]
    with own_random_state(generator):
        return respond(owner, problem, uniform(problem, generator, 2, num_inputs(problem))).shape[1]


def _name(problem: Problem) -> str:
    layer = problem.layer
    return type(layer).__name__ if isinstance(layer, nn.Module) else getattr(layer, "__name__", repr(layer))
