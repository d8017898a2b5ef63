"""The connectivity matrix of a layer, written out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_foresight.functional._checks import a_module, takes
from lightning_foresight.functional._memory import chunks
from lightning_foresight.functional._swap import call_with
from lightning_foresight.functional.effective_information.operators import RULES, rule_names


@torch.no_grad()
@takes(module=a_module)
def connectivity_matrix(module: nn.Module, in_shape: Sequence[int], out_shape: Sequence[int]) -> Tensor:
    r"""Weights between all input and output nodes of a layer, from what it does to unit vectors.

    .. math:: W_{ij} = \partial\, \text{output}_j / \partial\, \text{input}_i

    For small layers, for looking and for checking: a 64 -> 64 convolution at 32x32 would take 17 GB.
    :func:`weight_effective_information` needs no such matrix.

    Args:
        module: A layer of a kind that :func:`weight_effective_information` measures.
        in_shape: Shape of its input, without the batch axis; for an Embedding, of its indices.
        out_shape: Shape of its output, likewise.

    Returns:
        ``(inputs, outputs)``, nodes in the order of ``flatten()``; the inputs of an Embedding are one-hot codes,
        ``(positions x vocabulary)``. Pass it to :func:`lin_norm`, :func:`soft_norm` or :func:`sig_norm` for transition
        probabilities.

    Raises:
        TypeError: If the module is of another kind.
        ValueError: If it does not map ``in_shape`` to ``out_shape``.

    Source:
        torch-foresight's ``create_matrix`` functions, but an average pool connects a channel to itself only.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import connectivity_matrix
        >>> conv = torch.nn.Conv1d(1, 1, 2)
        >>> _ = torch.nn.init.ones_(conv.weight)
        >>> connectivity_matrix(conv, (1, 3), (1, 2))
        tensor([[1., 0.],
                [1., 1.],
                [0., 1.]])
    """
    if not isinstance(module, tuple(RULES)):
        raise TypeError(
            f"connectivity_matrix(module={type(module).__name__}): expected a module as trace_weight_layers lists it, "
            f"of {rule_names()}."
        )
    weight = next(module.parameters(), torch.empty(0))
    if isinstance(module, nn.Embedding):
        positions = torch.eye(math.prod(in_shape), dtype=weight.dtype, device=weight.device)
        return torch.kron(positions, weight)
    num_inputs = math.prod(in_shape)
    bias = getattr(module, "bias", None)
    without_bias = {"bias": torch.zeros_like(bias)} if isinstance(bias, Tensor) else {}
    rows = []
    for part in chunks(num_inputs, bytes_per_item=num_inputs * weight.element_size()):
        unit = torch.zeros(part.stop - part.start, num_inputs, dtype=weight.dtype, device=weight.device)
        unit.diagonal(part.start).fill_(1)
        output = call_with(module, without_bias, unit.unflatten(1, tuple(in_shape)))
        if output.shape[1:] != torch.Size(out_shape):
            raise ValueError(
                f"connectivity_matrix(out_shape={tuple(out_shape)}): the layer maps {tuple(in_shape)} to "
                f"{tuple(output.shape[1:])}; expected that shape, without the batch axis."
            )
        rows.append(output.flatten(1))
    return torch.cat(rows)
