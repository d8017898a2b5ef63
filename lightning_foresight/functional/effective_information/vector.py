"""Vector EI: what the inputs of a layer say together about its outputs together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_foresight.functional._checks import fail
from lightning_foresight.functional._memory import chunks
from lightning_foresight.functional.effective_information.embedding import embedding_information
from lightning_foresight.functional.effective_information.noise import (
    clamped_output_codes,
    input_codes,
    make_generator,
    num_inputs,
    own_random_state,
    respond,
    uniform,
)
from lightning_foresight.functional.effective_information.problem import Layer, Problem, Range, pose
from lightning_foresight.functional.effective_information.vector_entropy import (
    VectorCounts,
    VectorEntropy,
    vector_entropy,
)
from lightning_foresight.functional.estimate import Estimate, make_estimate

DEFAULT_SAMPLES = 2**17
MOST_SAMPLES = 2**21
CELLS = 1024
# An output of a sample while it is counted: its value, its bin, its share of a key, its place in a table.
BYTES_PER_OUTPUT = 48
# With a larger share of samples that are like no other, no correction of the entropy can be trusted.
MOST_SINGLES = 0.25


def effective_information(
    layer: Layer,
    activation: nn.Module | None = None,
    *,
    in_range: Range | None,
    out_range: Range | Literal["dynamic"] | None = None,
    in_bins: int = 64,
    out_bins: int | Literal["dynamic"] = 64,
    method: str = "auto",
    num_samples: int | None = None,
    rtol: float | None = None,
    in_shape: tuple[int, ...] | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Effective information of a layer as a whole, in bits, with bounds where samples cannot tell.

    .. math:: EI = I\big(X; Y \mid do(X \sim U)\big) = H(Y) - H(Y \mid X)

    with X the vector of input bins and Y that of output bins. X is ours to set and its entropy known, so that only the
    entropies of Y are estimated: over all of the range, and again and again within the same cell of X.

    Where more than a quarter of the samples of Y are like no other, their entropy is out of reach. The result is then
    a lower bound (``kind="lower_bound"``), with an upper one beside it: H(Y) lies between its collision entropy and
    the sum of its components' entropies, EI is at most H(X), and at least what X tells about any single output.

    Args:
        layer: A Linear layer, a convolution (one receptive field of it), an Embedding, or any module or callable with
            ``in_shape``.
        activation: The activation module that follows, if any.
        in_range: ``(low, high)`` of every input; ``None`` for an Embedding.
        out_range: ``(low, high)`` of the output bins, see :func:`ei_parts`; outputs outside count to the outermost
            bins here, so that X stays uniform.
        in_bins: Equal bins of every input.
        out_bins: Equal bins of every output, see :func:`ei_parts`.
        method: ``"auto"`` or ``"sampled"``: there is no exact method for vectors.
        num_samples: Samples for each of the two entropies; 131,072 by default.
        rtol: Double the samples until the standard error is at most this share of the value, or the next doubling would
            pass 2,097,152 samples.
        in_shape: Shape of one input, for layers other than Linear and convolutions.
        generator: Source of the noise; by default one of our own with a fixed seed.

    Returns:
        An :class:`~lightning_foresight.functional.Estimate`: ``value`` in bits, ``saturation`` the larger of both
        entropies' share of what so many samples can express.

    Raises:
        ValueError: If an argument does not fit, or the layer gives NaN.
        TypeError: If the weights are complex or integers.

    Source:
        Marrow, Michaud & Hoel 2020 (arXiv 2010.13871); Grassberger 2003 (arXiv physics/0307138) for the correction.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import effective_information
        >>> identity = torch.nn.Identity()
        >>> result = effective_information(
        ...     identity, in_range=(0, 1), out_range=(0, 1), in_bins=8, out_bins=8, in_shape=(3,)
        ... )
        >>> round(result.value.item(), 2), result.kind
        (9.0, 'estimate')
    """
    problem = pose_vector(
        "effective_information", layer, activation,
        in_range=in_range, out_range=out_range, in_bins=in_bins, out_bins=out_bins, method=method,
        in_shape=in_shape, generator=generator, num_samples=num_samples, rtol=rtol,
    )  # fmt: skip
    return between("effective_information", problem, None, None, num_samples, rtol, generator)


def pose_vector(owner: str, layer: Layer, activation: nn.Module | None, *, method: str, **options: object) -> Problem:
    """Check the arguments of a measure of vectors."""
    require_vectors(owner, method)
    return of_vectors(pose(owner, layer, activation, method=method, **options))  # type: ignore[arg-type]


def require_vectors(owner: str, method: str) -> None:
    """Refuse a method that vectors do not have."""
    if method == "exact":
        fail(owner, "method", method, "the entropy of vectors has no exact method; use 'auto' or 'sampled'.")


def of_vectors(problem: Problem) -> Problem:
    """Return a question about pairs as one about vectors."""
    # What was asked for its map answers for itself: faster than the map.
    return problem._replace(affine=None) if problem.in_shape else problem


def between(
    owner: str,
    problem: Problem,
    sources: Sequence[int] | None,
    targets: Sequence[int] | None,
    num_samples: int | None,
    rtol: float | None,
    generator: torch.Generator | None,
    counted: VectorCounts | None = None,
) -> Estimate:
    """Estimate I(X_sources; Y_targets), all of them where ``None``, of outputs some of which were counted already."""
    tokens = problem.token_outputs()
    if tokens is not None:
        _indices(owner, "input", sources, 1, tokens.device)
        columns = tokens[:, _indices(owner, "output", targets, tokens.shape[1], tokens.device)]
        return make_estimate(embedding_information(columns, problem.out_range, problem.out_bins), kind="exact")
    generator = make_generator(problem, generator)
    samples = num_samples or DEFAULT_SAMPLES
    chosen = _indices(owner, "input", sources, num_inputs(problem), problem.device)
    while True:
        result = _between_once(owner, problem, chosen, targets, samples, generator, counted)
        done = rtol is None or result.kind != "estimate" or 2 * samples > MOST_SAMPLES
        if done or bool(result.std_error <= (rtol or 0) * result.value.abs()):
            return result
        samples, counted = 2 * samples, None


def _between_once(
    owner: str,
    problem: Problem,
    sources: Tensor,
    targets: Sequence[int] | None,
    samples: int,
    generator: torch.Generator,
    counted: VectorCounts | None,
) -> Estimate:
    def answer(inputs: Tensor) -> Tensor:
        codes = clamped_output_codes(problem, respond(owner, problem, inputs))
        return codes[:, _indices(owner, "output", targets, codes.shape[1], codes.device)]

    width = num_inputs(problem)
    low, high = problem.in_range
    with own_random_state(generator):
        # The first samples tell how many outputs there are, which decides how many more fit into memory.
        inputs = uniform(problem, generator, min(CELLS, samples), width)
        in_codes, codes = input_codes(problem, inputs)[:, sources].long(), answer(inputs)
        outputs, per_sample = codes.shape[1], 64 * width + BYTES_PER_OUTPUT * codes.shape[1]
        counts = counted
        if counts is None:
            counts = VectorCounts(problem.out_bins, generator)
            counts.add(codes)
            for part in chunks(samples - len(inputs), per_sample):
                counts.add(answer(uniform(problem, generator, part.stop - part.start, width)))
        marginal = counts.entropy()

        cells = _cells(problem, in_codes, samples)
        repeats = max(2, samples // len(cells))
        found = []
        for part in chunks(len(cells), per_sample * repeats + BYTES_PER_OUTPUT * outputs * problem.out_bins):
            chosen = cells[part].unsqueeze(1)
            inputs = uniform(problem, generator, len(chosen), repeats, width)
            # The noise on the chosen inputs, moved into their cell.
            inside = (inputs[..., sources] - low) / problem.in_bins
            inputs[..., sources] = chosen.to(inputs.dtype) * ((high - low) / problem.in_bins) + low + inside
            codes = answer(inputs.flatten(0, 1)).view(len(chosen), repeats, -1)
            found.append(vector_entropy(codes, problem.out_bins, generator))
        within = VectorEntropy(*(torch.cat(field) for field in zip(*found, strict=True)))
    all_cells = len(cells) == problem.in_bins ** len(sources)
    return _combine(problem, marginal, within, len(sources), samples, all_cells)


def _cells(problem: Problem, codes: Tensor, samples: int) -> Tensor:
    """Return all cells of the inputs where they are few, and those of the first samples otherwise."""
    count, width = problem.in_bins, codes.shape[1]
    if width * math.log2(count) <= math.log2(min(CELLS, max(1, samples // 32))):
        axis = torch.arange(count, device=codes.device)
        return torch.cartesian_prod(*[axis] * width).view(-1, width)
    return codes[: max(1, min(CELLS, samples // 32))]


def _combine(
    problem: Problem, marginal: VectorEntropy, within: VectorEntropy, sources: int, samples: int, all_cells: bool
) -> Estimate:
    dtype = problem.dtype if problem.dtype == torch.float64 else torch.float32
    most = sources * math.log2(problem.in_bins)
    saturation = torch.maximum(marginal.saturation, within.saturation.mean())
    spread = torch.zeros_like(marginal.value)
    if all_cells:
        spread = within.std_error.square().sum().sqrt() / len(within.value)
    elif len(within.value) > 1:
        spread = within.value.std() / len(within.value) ** 0.5
    value = (marginal.value - within.value.mean()).clamp(0, most)
    if bool((marginal.singles <= MOST_SINGLES) & (within.singles.mean() <= MOST_SINGLES)):
        return make_estimate(
            value.to(dtype),
            std_error=(marginal.std_error.square() + spread.square()).sqrt().to(dtype),
            num_samples=samples,
            saturation=saturation.clamp(0, 1).to(dtype),
            method="sampled (grassberger)",
        )
    # The bounds get two standard errors of room.
    most_within = within.upper.mean() + 2 * (within.upper_error.square().sum().sqrt() / len(within.value) + spread)
    upper = (marginal.upper + 2 * marginal.upper_error - within.lower.mean() + 2 * spread).clamp(0, most)
    lower = (marginal.lower - most_within).maximum(_best_component(marginal, within, all_cells))
    lower = lower.clamp_min(0).minimum(upper)
    return make_estimate(
        lower.to(dtype),
        std_error=float("nan"),
        num_samples=samples,
        saturation=saturation.clamp(0, 1).to(dtype),
        lower=lower.to(dtype),
        upper=upper.to(dtype),
        kind="lower_bound",
        method="sampled (collisions and components)",
    )


def _best_component(marginal: VectorEntropy, within: VectorEntropy, all_cells: bool) -> Tensor:
    """Return what the inputs tell about the best-known single output: they tell no less about all outputs together."""
    cells = len(within.components)
    error = marginal.component_errors + within.component_errors.square().sum(0).sqrt() / cells
    if not all_cells and cells > 1:
        error = error + within.components.std(0) / cells**0.5
    return (marginal.components - within.components.mean(0) - 2 * error).amax()


def _indices(owner: str, what: str, chosen: Sequence[int] | None, count: int, device: torch.device) -> Tensor:
    if chosen is None:
        return torch.arange(count, device=device)
    indices = list(chosen)
    if not indices or not all(0 <= index < count for index in indices) or len(set(indices)) < len(indices):
        fail(owner, "groups", chosen, f"expected different {what} indices from 0 to {count - 1}, at least one.")
    return torch.tensor(indices, device=device)
