"""Where a layer lies in the causal plane: the totals of its pairs, with their errors."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_foresight.functional.effective_information.activations import monotone_rule
from lightning_foresight.functional.effective_information.affine import as_affine
from lightning_foresight.functional.effective_information.parts import ei_parts
from lightning_foresight.functional.effective_information.problem import Layer, Range, pose
from lightning_foresight.functional.effective_information.sampled import sampled_parts
from lightning_foresight.functional.effective_information.sensitivity import sensitivity
from lightning_foresight.functional.effective_information.totals import layer_total
from lightning_foresight.functional.estimate import Estimate, make_estimate


def has_exact_method(layer: Layer, activation: nn.Module | None) -> bool:
    """Say whether a layer is affine and its activation monotone per unit, so that nothing has to be sampled."""
    return as_affine(layer) is not None and monotone_rule(activation) is not None


class CausalCoordinates(NamedTuple):
    """Totals of a layer in bits.

    Attributes:
        parts: EI_parts, the sum over all (input, output) pairs.
        sensitivity: The same with one input perturbed at a time.
        degeneracy: ``sensitivity - parts``.
    """

    parts: Estimate
    sensitivity: Estimate
    degeneracy: Estimate


def causal_coordinates(
    layer: Layer,
    activation: nn.Module | None = None,
    *,
    in_range: Range,
    out_range: Range | None = None,
    in_bins: int = 64,
    out_bins: int = 64,
    method: str = "auto",
    num_samples: int | None = None,
    in_shape: tuple[int, ...] | None = None,
    generator: torch.Generator | None = None,
    share: float = 1.0,
) -> CausalCoordinates:
    r"""EI_parts, sensitivity and degeneracy of a layer.

    .. math::
        EI_{parts} = \sum_{a,b} I(x_a; y_b \mid do(x \sim U)), \qquad
        S = \sum_{a,b} I(x_a; y_b \mid do(x_a \sim U), x_{-a} = 0), \qquad D = S - EI_{parts}

    Exact where :func:`ei_parts` is; elsewhere the standard error of ``parts`` is that of blocks of the samples, and the
    sensitivity, from evenly spaced inputs, has an error that is not known (NaN).

    Args:
        layer: See :func:`ei_parts`, as for all further arguments.
        activation: The activation module that follows, if any.
        in_range: ``(low, high)`` of every input.
        out_range: ``(low, high)`` of the outputs that are binned.
        in_bins: Equal bins of every input.
        out_bins: Equal bins of every output.
        method: ``"auto"``, ``"exact"`` or ``"sampled"``.
        num_samples: Samples of the noise where the layer is sampled.
        in_shape: Shape of one input, for layers other than Linear and convolutions.
        generator: Source of the noise.
        share: Share of the outputs of a larger layer that ``layer`` is a random choice of; the totals are those of the
            larger one, with the error of the choice.

    Returns:
        Three totals, scalars.

    Raises:
        ValueError: As :func:`ei_parts`.

    Source:
        Marrow, Michaud & Hoel 2020 (arXiv 2010.13871).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import causal_coordinates
        >>> layer = torch.nn.Linear(2, 1, bias=False)
        >>> _ = layer.weight.data.copy_(torch.tensor([[4.0, 1.0]]))
        >>> point = causal_coordinates(layer, torch.nn.Sigmoid(), in_range=(0, 1), in_bins=8, out_bins=8)
        >>> [round(float(total.value), 4) for total in point]
        [0.9639, 2.5301, 1.5662]
    """
    question: dict[str, Any] = {
        "in_range": in_range,
        "out_range": out_range,
        "in_bins": in_bins,
        "out_bins": out_bins,
        "method": method,
        "num_samples": num_samples,
        "in_shape": in_shape,
        "generator": generator,
    }
    problem = pose("causal_coordinates", layer, activation, rtol=None, **question)
    alone = sensitivity(layer, activation, **question)
    if problem.exact:
        together = ei_parts(layer, activation, **question)
        return CausalCoordinates(*(layer_total(bits, share) for bits in (together, alone, alone - together)))
    # Any error is within such a tolerance: it stops at the first round, and still measures the error by blocks.
    pairs = sampled_parts("causal_coordinates", problem, num_samples, 1e30, generator)
    together = pairs.bits.to(alone)
    unknown = torch.full((), float("nan"), device=alone.device, dtype=alone.dtype)
    noise = pairs.total_std_error.to(alone)
    return CausalCoordinates(
        _sampled(together, share, noise, pairs.num_samples),
        _sampled(alone, share, unknown, pairs.num_samples),
        _sampled(alone - together, share, unknown, pairs.num_samples),
    )


def _sampled(bits: Tensor, share: float, noise: Tensor, num_samples: int) -> Estimate:
    """Return the total with both errors: of the choice of outputs, and of the samples."""
    total = layer_total(bits, share)
    std_error = (total.std_error**2 + (noise / share) ** 2).sqrt()
    return make_estimate(total.value, std_error=std_error, num_samples=num_samples, method="sampled")
