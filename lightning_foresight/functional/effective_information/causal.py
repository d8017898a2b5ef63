"""A layer's place in the causal plane: EI_parts, sensitivity, degeneracy, and what the whole adds to the parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import nn

from lightning_foresight.functional._checks import check_bool, check_int
from lightning_foresight.functional.effective_information.activations import monotone_rule
from lightning_foresight.functional.effective_information.affine import Affine, as_affine, connected_inputs
from lightning_foresight.functional.effective_information.affine_modules import find_affine
from lightning_foresight.functional.effective_information.embedding import embedding_parts
from lightning_foresight.functional.effective_information.exact import exact_parts
from lightning_foresight.functional.effective_information.noise import input_entropy, make_generator, some_answers
from lightning_foresight.functional.effective_information.pair_choice import choose_pairs, total_of_choice
from lightning_foresight.functional.effective_information.preimages import has_valley, resolution
from lightning_foresight.functional.effective_information.problem import Layer, Problem, Range, pose
from lightning_foresight.functional.effective_information.sampled import (
    sampled_parts,
    sampled_sensitivity,
    warn_of_many_inputs,
)
from lightning_foresight.functional.effective_information.sensitivity import exact_sensitivity
from lightning_foresight.functional.effective_information.shared_samples import SharedSamples
from lightning_foresight.functional.effective_information.totals import layer_total
from lightning_foresight.functional.effective_information.vector import DEFAULT_SAMPLES as VECTOR_SAMPLES
from lightning_foresight.functional.effective_information.vector import between, of_vectors, require_vectors
from lightning_foresight.functional.estimate import Estimate, make_estimate


class CausalMeasures(NamedTuple):
    """What the perturbation of a layer tells about it, in bits but for ``effectiveness``.

    Attributes:
        parts: :math:`EI_{parts}`, the sum over pairs.
        sensitivity: The sum over pairs, each perturbed alone.
        degeneracy: ``sensitivity - parts``: what is lost because connections overlap.
        vector: The vector EI, or ``None`` if it was not asked for.
        phi: ``vector - parts``: what the inputs tell together beyond what each tells alone. Where ``vector`` is only
            known by bounds (``kind="lower_bound"``), so are ``phi`` and ``effectiveness``: look at ``interval()``.
        effectiveness: ``vector`` over H(X), in [0, 1]; 1 where nothing of the input is lost.
    """

    parts: Estimate
    sensitivity: Estimate
    degeneracy: Estimate
    vector: Estimate | None
    phi: Estimate | None
    effectiveness: Estimate | None


def causal_measures(
    layer: Layer,
    activation: nn.Module | None = None,
    *,
    in_range: Range | None,
    max_pairs: int | None = None,
    vector: bool = False,
    extrapolate: bool = False,
    generator: torch.Generator | None = None,
    **options: Any,
) -> CausalMeasures:
    r"""Measure a layer's EI_parts, sensitivity and degeneracy, and on request vector EI, phi and effectiveness.

    .. math::
        \text{degeneracy} = \text{sensitivity} - EI_{parts},\qquad
        \varphi = EI - EI_{parts},\qquad
        \text{effectiveness} = EI / H(X)

    Sums over the layers of a network give the network's values.

    Args:
        layer: See :func:`ei_parts`.
        activation: The activation module that follows, if any.
        in_range: ``(low, high)`` of every input; ``None`` for an Embedding.
        max_pairs: Of a layer with more pairs measure a random choice of about so many: some inputs of some outputs, or
            all inputs of some outputs where answers have to be sampled. The sums then carry a standard error, which is
            too small for sparse or heavy-tailed weights and where few outputs are drawn.
        vector: Measure the vector EI too, by sampling. Where EI_parts is sampled, both are taken from the same samples,
            131,072 by default; only what the outputs do within single cells of the inputs takes others.
        extrapolate: Where EI_parts is sampled, extrapolate it to infinitely many samples, see :func:`ei_parts`. Its
            standard error then holds what a parabola in place of the line would change, too.
        generator: Draws that choice, and noise where something is sampled; by default one of our own.
        options: Further arguments of :func:`ei_parts`.

    Returns:
        A :class:`CausalMeasures` of estimates, exact where :func:`ei_parts` is. Elsewhere the standard error of
        ``parts`` is that of blocks of the samples, together with what no sample may have shown and, of outputs nearly
        all of which fall outside the range, how far blocks are from all samples; that of the sensitivity, from evenly
        spaced inputs, is what half of them would change.

    Raises:
        ValueError: If an argument does not fit.

    Source:
        Marrow, Michaud & Hoel 2020 (arXiv 2010.13871); effectiveness after Klein & Hoel 2020 (arXiv 1907.03902).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import causal_measures
        >>> layer = torch.nn.Linear(2, 1, bias=False)
        >>> _ = layer.weight.data.copy_(torch.tensor([[0.5, 0.5]]))
        >>> found = causal_measures(layer, in_range=(0, 1), out_range=(0, 1), in_bins=4, out_bins=4)
        >>> [round(found[i].value.item(), 3) for i in range(3)]
        [0.811, 2.0, 1.189]
    """
    owner = "causal_measures"
    if max_pairs is not None:
        check_int(owner, "max_pairs", max_pairs, 1)
    check_bool(owner, "extrapolate", extrapolate)
    pose_options = {"out_range": None, "in_bins": 64, "out_bins": 64, "method": "auto", **options}
    problem = pose(owner, layer, activation, in_range=in_range, generator=generator, **pose_options)
    rtol = options.get("rtol")
    generator = make_generator(problem, generator)
    if not problem.exact:
        warn_of_many_inputs(owner, problem)
    if vector:
        require_vectors(owner, pose_options["method"])
    question, number, shared = of_vectors(problem), options.get("num_samples"), None
    if problem.exact:
        totals = _exact_totals(problem, max_pairs, generator)
    elif vector:
        shared = SharedSamples(owner, question, generator)
        totals = _sampled_totals(shared.problem, max_pairs, extrapolate, number, rtol, generator, shared)
    else:
        totals = _sampled_totals(problem, max_pairs, extrapolate, number, rtol, generator)
    parts, sensitive, degeneracy = totals
    if not vector:
        return CausalMeasures(parts, sensitive, degeneracy, None, None, None)
    counted = None if shared is None else shared.counts
    whole = between(owner, question, None, None, number, rtol, generator, counted)
    phi = _minus(whole, parts, one_sample=shared is not None)
    return CausalMeasures(parts, sensitive, degeneracy, whole, phi, _over(whole, input_entropy(problem)))


def _exact_totals(problem: Problem, max_pairs: int | None, generator: torch.Generator) -> Iterator[Estimate]:
    tokens, dtype = problem.token_outputs(), problem.bits_dtype
    choice = None
    if tokens is not None:
        parts = sensitive = embedding_parts(tokens, problem.out_range, problem.out_bins)
    else:
        assert problem.affine is not None
        (weight, bias), outputs = problem.affine, problem.preimages()
        # Pairs without weight carry nothing, and need not be chosen from.
        connected = connected_inputs(weight)
        weight = weight if connected.shape == weight.shape else weight.gather(1, connected)
        scale = (problem.in_range[1] - problem.in_range[0]) * resolution(outputs)
        choice = choose_pairs(weight, max_pairs, resolution=scale, in_bins=problem.in_bins, generator=generator)
        question = outputs, problem.in_range, problem.in_bins
        if choice is None:
            every = Affine(weight, bias)
            parts, sensitive = exact_parts(every, *question), exact_sensitivity(every, *question)
        else:
            few = Affine(weight[choice.outputs], bias[choice.outputs])
            parts = exact_parts(few, *question, chosen=choice.inputs)
            # All other inputs are 0: what their weights are does not matter.
            sensitive = exact_sensitivity(Affine(few.weight.gather(1, choice.inputs), few.bias), *question)
    for bits in (parts, sensitive, sensitive - parts):
        total = make_estimate(bits.sum(), kind="exact") if choice is None else total_of_choice(bits, choice)
        yield total._replace(value=total.value.to(dtype), std_error=total.std_error.to(dtype))


def _sampled_totals(
    problem: Problem,
    max_pairs: int | None,
    extrapolate: bool,
    number: int | None,
    rtol: float | None,
    generator: torch.Generator,
    shared: SharedSamples | None = None,
) -> Iterator[Estimate]:
    """Yield the totals with both errors: of the choice of outputs, and of the samples or the spacing of inputs."""
    few, share = some_answers(problem, max_pairs, generator)
    # Any error is within such a tolerance: one round of samples, whose error is then measured by blocks.
    rtol = 1e30 if rtol is None else rtol
    with nullcontext() if shared is None else shared.counting():
        most = number if shared is None else number or VECTOR_SAMPLES
        parts = sampled_parts("causal_measures", few, most, rtol, generator, extrapolate=extrapolate)
    sensitive = sampled_sensitivity("causal_measures", few, number, generator)
    errors = parts.total_std_error, sensitive.total_std_error
    both = (errors[0] ** 2 + errors[1] ** 2) ** 0.5
    found = (parts.bits, errors[0]), (sensitive.bits, errors[1]), (sensitive.bits - parts.bits, both)
    for bits, error in found:
        total = layer_total(bits.to(problem.bits_dtype), share)
        std_error = (total.std_error**2 + (error.to(problem.bits_dtype) / share) ** 2).sqrt()
        yield make_estimate(total.value, std_error=std_error, num_samples=parts.num_samples, method="sampled")


def _minus(whole: Estimate, parts: Estimate, *, one_sample: bool) -> Estimate:
    """Return phi; bounds of the whole stay bounds of the difference."""
    errors = whole.std_error, parts.std_error
    return make_estimate(
        whole.value - parts.value,
        # Errors of the same samples may add up in full.
        std_error=errors[0] + errors[1] if one_sample else (errors[0].square() + errors[1].square()).sqrt(),
        num_samples=whole.num_samples,
        saturation=whole.saturation,
        lower=None if whole.lower is None else whole.lower - parts.value,
        upper=None if whole.upper is None else whole.upper - parts.value,
        kind=whole.kind,
        method=whole.method,
    )


def _over(whole: Estimate, most: float) -> Estimate:
    return whole._replace(
        value=whole.value / most,
        std_error=whole.std_error / most,
        lower=None if whole.lower is None else whole.lower / most,
        upper=None if whole.upper is None else whole.upper / most,
    )


def has_affine_map(layer: Layer) -> bool:
    """Say whether a layer is measured as a dense map, or an embedding as its table, whatever the shape of its input."""
    return isinstance(layer, nn.Embedding) or as_affine(layer) is not None


def has_exact_method(layer: Layer, activation: nn.Module | None, in_shape: tuple[int, ...] | None = None) -> bool:
    """Say whether no pair has to be sampled: an affine layer with an activation that is followed, or an embedding."""
    if isinstance(layer, nn.Embedding):
        return True
    followed = monotone_rule(activation) is not None or has_valley(activation)
    return followed and find_affine(layer, in_shape) is not None
