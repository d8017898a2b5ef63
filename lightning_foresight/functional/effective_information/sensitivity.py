"""Sensitivity: effective information of each connection with all other inputs silent."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_foresight.functional._memory import chunks
from lightning_foresight.functional.effective_information.affine import Affine
from lightning_foresight.functional.effective_information.embedding import embedding_parts
from lightning_foresight.functional.effective_information.preimages import Preimages
from lightning_foresight.functional.effective_information.problem import Layer, Range, pose
from lightning_foresight.functional.effective_information.sampled import sampled_sensitivity, warn_of_many_inputs


def sensitivity(
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
) -> Tensor:
    r"""Sensitivity of every (input, output) pair of a layer, in bits: noise on one input, all others at 0.

    .. math:: s_{ab} = I\big(x_a; y_b \mid do(x_a \sim U,\ x_{i \ne a} = 0)\big)

    The sum over all pairs is the layer's sensitivity, and sensitivity less :math:`EI_{parts}` its degeneracy. Where the
    layer is affine and the activation monotone per unit, the result is exact to rounding, see :func:`ei_parts`.

    Args:
        layer: See :func:`ei_parts`.
        activation: The activation module that follows, if any.
        in_range: ``(low, high)`` of every input; ``None`` for an Embedding.
        out_range: ``(low, high)`` of the outputs that are binned, see :func:`ei_parts`.
        in_bins: Equal bins of ``in_range``.
        out_bins: Equal bins of ``out_range``, see :func:`ei_parts`.
        method: ``"exact"``, ``"sampled"``, or ``"auto"``: exact where that is possible.
        num_samples: Evenly spaced values per input where it is sampled; 4,096 by default, fewer of more than 181
            inputs.
        rtol: Taken for the sake of a common signature: the spacing is regular, there is no sampling error to meet.
        in_shape: Shape of one input, for layers other than Linear and convolutions, see :func:`ei_parts`.
        generator: Source of the layer's own randomness (dropout in training mode), if it has any.

    Returns:
        Bits ``(inputs, outputs)``, on the layer's device and in its floating type, but at least float32.

    Raises:
        ValueError: If a range, a number of bins or the method does not fit, or weights are not finite.
        TypeError: If the weights are complex or integers.

    Source:
        Marrow, Michaud & Hoel 2020 (arXiv 2010.13871).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import sensitivity
        >>> layer = torch.nn.Linear(2, 1, bias=False)
        >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, 0.5]]))
        >>> sensitivity(layer, in_range=(0, 1), out_range=(0, 1), in_bins=8, out_bins=8)
        tensor([[3.],
                [2.]])
    """
    problem = pose(
        "sensitivity", layer, activation,
        in_range=in_range, out_range=out_range, in_bins=in_bins, out_bins=out_bins, method=method,
        in_shape=in_shape, generator=generator, num_samples=num_samples, rtol=rtol,
    )  # fmt: skip
    tokens = problem.token_outputs()
    if tokens is not None:
        return embedding_parts(tokens, problem.out_range, problem.out_bins)
    if not problem.exact:
        warn_of_many_inputs("sensitivity", problem)
        return sampled_sensitivity("sensitivity", problem, num_samples, generator).bits.to(problem.bits_dtype)
    assert problem.affine is not None
    bits = exact_sensitivity(problem.affine, problem.preimages(), problem.in_range, problem.in_bins)
    return bits.T.contiguous().to(problem.bits_dtype)


def exact_sensitivity(layer: Affine, outputs: Preimages, in_range: Range, in_bins: int) -> Tensor:
    r"""Return the sensitivity of every pair ``(outputs, inputs)`` in bits, in the precision of the layer's tensors.

    With the other inputs at 0, the output bins are intervals of :math:`x_a`. The joint cells are the pieces into which
    these and the input bins cut the range, so :math:`I = H(X) + H(Y) - H(X, Y)` needs lengths of intervals only.
    """
    bits = torch.zeros_like(layer.weight.T)
    edges = outputs.edges.to(bits)
    for part in chunks(len(bits), 6 * bits.element_size() * bits.shape[1] * (in_bins + 2 * len(edges))):
        weight = layer.weight.T[part]
        at = weight.nonzero(as_tuple=True)
        cuts = ((edges - layer.bias[at[1]].unsqueeze(-1)) / weight[at].unsqueeze(-1)).clamp(*in_range)
        steps = torch.linspace(*in_range, in_bins + 1, dtype=edges.dtype, device=edges.device)
        bits[part][at] = (_pairs if outputs.bins is None else _folded_pairs)(cuts, steps)
    return bits.T


# In both: ends of the intervals that lead into the output bins (pairs, intervals + 1), those of the input bins.
def _pairs(cuts: Tensor, steps: Tensor) -> Tensor:
    start, stop = cuts.aminmax(dim=-1, keepdim=True)
    return _information(cuts, torch.minimum(torch.maximum(steps, start), stop), cuts.diff(dim=-1).abs(), 0)


def _folded_pairs(cuts: Tensor, steps: Tensor) -> Tensor:
    """Two intervals lead into each bin, mirror images by number; those of the one in the middle are dropped."""
    middle = cuts.shape[-1] // 2
    bottom, top = cuts[..., middle - 1 : middle + 1].aminmax(dim=-1, keepdim=True)

    def without_middle(points: Tensor) -> Tensor:
        return points - (points.clamp(bottom, top) - bottom)

    start, stop = cuts.aminmax(dim=-1, keepdim=True)
    inputs = without_middle(torch.minimum(torch.maximum(steps, start), stop))
    cuts = without_middle(cuts)
    # Only the input bin around the bottom meets both intervals of an output bin: there, two pieces are one cell.
    low = inputs.where(inputs <= bottom, -torch.inf).amax(-1, keepdim=True)
    high = inputs.where(inputs >= bottom, torch.inf).amin(-1, keepdim=True)
    left, right = _halves(cuts.clamp(low, high))
    joined = _sum_of_logs(left + right) - _sum_of_logs(left) - _sum_of_logs(right)
    left, right = _halves(cuts)
    return _information(cuts, inputs, left + right, joined)


def _halves(cuts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lengths of both intervals that lead into each bin."""
    lengths = cuts.diff(dim=-1).abs()
    half = lengths.shape[-1] // 2
    return lengths[..., :half].flip(-1), lengths[..., half + 1 :]


def _information(cuts: Tensor, inputs: Tensor, outputs: Tensor, joined: Tensor | float) -> Tensor:
    """Return I(X;Y) in bits from where both are cut, the lengths of output bins, and sums of logs of cells joined."""
    pieces = torch.cat([cuts, inputs], -1).sort(-1).values.diff(dim=-1)
    mass = outputs.sum(-1, keepdim=True)
    total = mass.clamp_min(torch.finfo(mass.dtype).tiny)
    cells, rows, columns = (_sum_of_logs(lengths / total) for lengths in (pieces, inputs.diff(dim=-1), outputs))
    bits = (cells + joined / total.squeeze(-1) - rows - columns) / math.log(2)
    return torch.where(mass.squeeze(-1) > 0, bits, 0).clamp_min_(0)


def _sum_of_logs(lengths: Tensor) -> Tensor:
    return (lengths.clamp_min(torch.finfo(lengths.dtype).tiny).log() * lengths).sum(-1)
