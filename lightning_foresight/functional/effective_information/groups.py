"""EI between groups of neurons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from lightning_foresight.functional._checks import fail
from lightning_foresight.functional.effective_information.noise import make_generator
from lightning_foresight.functional.effective_information.problem import Layer, Range
from lightning_foresight.functional.effective_information.vector import between, pose_vector
from lightning_foresight.functional.estimate import Estimate


def ei_between_groups(
    layer: Layer,
    groups: Sequence[tuple[Sequence[int], Sequence[int]]],
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
) -> list[Estimate]:
    r"""Effective information from groups of inputs to groups of outputs, in bits.

    .. math:: EI_{A \to B} = I\big(X_A; Y_B \mid do(X \sim U)\big)

    Inputs outside the group are noise as well. A group of one input and one output is a pair of :func:`ei_parts`,
    the group of all is :func:`effective_information`.

    Args:
        layer: See :func:`effective_information`.
        groups: Pairs ``(input indices, output indices)``, counted in flattened inputs and outputs.
        activation: See :func:`effective_information`, as for all further arguments.
        in_range: Range of every input.
        out_range: Range of the output bins.
        in_bins: Equal bins of every input.
        out_bins: Equal bins of every output, see :func:`ei_parts`.
        method: ``"auto"`` or ``"sampled"``.
        num_samples: Samples for each entropy.
        rtol: Relative standard error to reach.
        in_shape: Shape of one input.
        generator: Source of the noise.

    Returns:
        An :class:`~lightning_foresight.functional.Estimate` per group, each with bounds where it saturates.

    Raises:
        ValueError: If a group is empty or names an input or output that is not there.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import ei_between_groups
        >>> swap = lambda x: x.flip(1)
        >>> options = dict(in_range=(0, 1), out_range=(0, 1), in_bins=4, out_bins=4, in_shape=(2,))
        >>> [round(group.value.item(), 2) for group in ei_between_groups(swap, [([0], [1]), ([0], [0])], **options)]
        [2.0, 0.0]
    """
    problem = pose_vector(
        "ei_between_groups", layer, activation,
        in_range=in_range, out_range=out_range, in_bins=in_bins, out_bins=out_bins, method=method,
        in_shape=in_shape, generator=generator, num_samples=num_samples, rtol=rtol,
    )  # fmt: skip
    generator = make_generator(problem, generator)
    try:
        pairs = [(list(sources), list(targets)) for sources, targets in groups]
    except (TypeError, ValueError):
        expected = "expected pairs (indices of inputs, indices of outputs), such as [((0, 1), (0,)), ((2, 3), (1,))]."
        fail("ei_between_groups", "groups", groups, expected, TypeError)
    return [
        between("ei_between_groups", problem, sources, targets, num_samples, rtol, generator)
        for sources, targets in pairs
    ]
