"""Which layers EICallback can perturb, said before training starts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import nn

from lightning_foresight.functional._checks import describe, fail
from lightning_foresight.functional.effective_information.affine_modules import find_affine
from lightning_foresight.functional.effective_information.causal import has_exact_method
from lightning_foresight.probes.layers import listing
from lightning_foresight.probes.perturbation import PerturbedLayer


def check_plan(
    owner: str, plan: Sequence[PerturbedLayer], *, by_default: bool, method: str, max_pairs: int
) -> list[PerturbedLayer]:
    """Refuse layers that every measurement of the run would fail on, or leave them out if nobody chose them.

    Args:
        owner: Who asks, for error texts.
        plan: The layers.
        by_default: Whether the user chose none: a default stops no run.
        method: What the user asked for.
        max_pairs: Largest number of pairs of one layer.

    Returns:
        The layers that can be perturbed.

    Raises:
        ValueError: If the exact method is asked for and a layer has none, or a layer reads too many numbers, or it
            cannot be called with noise.
    """
    inexact = [layer.name for layer in plan if not has_exact_method(layer.module, layer.activation, layer.in_shape)]
    if method == "exact" and inexact:
        fail(
            owner,
            "method",
            method,
            f"{', '.join(inexact[:8])} and what follows have no exact method. Use 'auto', which samples where it must, "
            "or choose others with layers=.",
        )
    kept, reasons = [], {}
    for layer in plan:
        try:
            if not isinstance(layer.module, nn.Embedding) and find_affine(layer.module, layer.in_shape) is None:
                _check_general(owner, layer, max_pairs)
            kept.append(layer)
        except ValueError as error:
            if not by_default:
                raise
            reasons[layer.name] = error
    if reasons:
        rank_zero_warn(
            f"{owner}: leaves {listing(list(reasons))} out of perturbation, whose forward is no known map of its "
            f"weights. {next(iter(reasons.values()))}"
        )
    return kept


def check_weights(owner: str, layers: Mapping[str, nn.Module]) -> None:
    """Refuse layers with weights that are no real floating-point numbers.

    Raises:
        TypeError: If there is one.
    """
    for name, module in layers.items():
        for parameter in module.parameters(recurse=False):
            if not parameter.is_floating_point():
                fail(
                    owner,
                    "layers",
                    name,
                    f"its weights are {describe(parameter)}; expected real floating-point ones. Choose others with "
                    "layers=.",
                    TypeError,
                )


def _check_general(owner: str, layer: PerturbedLayer, max_pairs: int) -> None:
    inputs = math.prod(layer.in_shape)
    if 2 * inputs > max_pairs:
        fail(
            owner,
            "layers",
            layer.name,
            f"it reads {inputs} numbers, two pairs of each are more than max_pairs={max_pairs}. Choose layers inside "
            "of it, or raise max_pairs.",
        )
    dtype = next((parameter.dtype for parameter in layer.module.parameters()), torch.get_default_dtype())
    noise = torch.full((2, *layer.in_shape), sum(layer.in_range) / 2, dtype=dtype, device=layer.device)
    try:
        layer.module(noise)
    except (RuntimeError, TypeError, IndexError) as error:
        raise ValueError(
            f"{owner}(layers={layer.name!r}): it cannot be called with noise of shape {tuple(noise.shape)} alone "
            f"({type(error).__name__}: {error}). Choose layers that map one floating-point tensor to another."
        ) from error
