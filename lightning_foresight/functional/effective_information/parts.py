"""EI_parts: effective information of every single connection of a layer."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from lightning_foresight.functional._checks import check_bool
from lightning_foresight.functional.effective_information.embedding import embedding_parts
from lightning_foresight.functional.effective_information.exact import exact_parts
from lightning_foresight.functional.effective_information.problem import Layer, Range, pose
from lightning_foresight.functional.effective_information.sampled import sampled_parts


def ei_parts(
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
    extrapolate: bool = False,
    in_shape: tuple[int, ...] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Effective information of every (input, output) pair of a layer, in bits.

    All inputs are set to independent uniform noise, and each pair is judged by the mutual information of its binned
    values; the sum over all pairs is the layer's :math:`EI_{parts}`:

    .. math:: EI_{parts} = \sum_{a, b} I\big(x_a; y_b \mid do(x \sim U)\big)

    Where the layer is affine and the activation monotone per unit, or falls to one minimum and rises from there (GELU,
    SiLU, Mish, Hardswish), the result is exact: the pre-activation is a sum of independent uniforms, whose distribution
    is known in closed form or as a Fourier series. Every bin's probability is
    then off by less than 2e-12, a pair in 64 x 64 bins by less than 1e-7 bits (in float64, which is used on every
    device that has it).

    Affine are Linear layers, convolutions and average pooling; for inputs of a given ``in_shape`` also BatchNorm,
    InstanceNorm with running statistics and dropout in evaluation mode, Identity, Flatten, padding, PixelShuffle and
    Upsample, and ``nn.Sequential`` of all these, where their dense map fits into the memory budget.

    Everything else is sampled: histograms with Grassberger's correction, less what is left of their bias: its mean for
    independent inputs and outputs, known in closed form. Some bias remains where samples are fewer than cells.

    Args:
        layer: A Linear layer, or a convolution, of which one receptive field is taken:
            ``in_channels / groups * kernel`` inputs, ``out_channels`` outputs; or average pooling, of which one window
            is taken, ``kernel`` inputs and one output, unless ``in_shape`` is given; or an Embedding, whose one input
            is a token, all equally likely; or any module or callable, with ``in_shape``.
        activation: The activation module that follows, if any.
        in_range: ``(low, high)`` of every input; ``None`` for an Embedding.
        out_range: ``(low, high)`` of the outputs that are binned; those outside are dropped, as by
            ``numpy.histogram``. By default the activation's own range, with 10 for an open end and (-10, 10) for none;
            ``"dynamic"`` for the range that the layer's outputs can take, all of them together: from end to end for
            affine layers whose activation is monotone or has one minimum, else that of a few thousand samples.
        in_bins: Equal bins of ``in_range``.
        out_bins: Equal bins of ``out_range``; ``"dynamic"`` for as many as it takes, each as wide as a bin of the
            inputs: the upper end of ``out_range`` is moved up to the end of the last one.
        method: ``"exact"``, ``"sampled"``, or ``"auto"``: exact where that is possible.
        num_samples: Samples of noise, the first number of them if ``rtol`` is given; 32,768 by default.
        rtol: Double the samples until the standard error of the sum, by blocks, is at most this share of the sum, or
            the next doubling would pass 1,048,576 samples.
        extrapolate: Where it is sampled, fit a line in one over the number of samples to the estimates from all, halves
            and quarters of the samples, and take its value for infinitely many. This lowers what is left of the bias
            and adds noise: it pays for strong connections with a few samples a cell, see the documentation.
        in_shape: Shape of one input, for layers other than Linear and convolutions, which do not look at it; for those,
            too, where a subclass overrides ``forward`` or forward hooks may change what they do: they are then sampled.
            ``()`` measures a layer with hooks by its weights alone.
        generator: Source of the noise; by default one of our own with a fixed seed.

    Returns:
        Bits ``(inputs, outputs)``, on the layer's device and in its floating type, but at least float32.

    Raises:
        ValueError: If a range, a number of bins or samples, or the method does not fit, or weights are not finite.
        TypeError: If the weights are complex or integers.

    Source:
        Michaud, "deep-ei"; Marrow, Michaud & Hoel 2020, "Examining the causal structures of deep neural networks using
        information theory" (arXiv 2010.13871).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import ei_parts
        >>> layer = torch.nn.Linear(2, 1, bias=False)
        >>> _ = layer.weight.data.copy_(torch.tensor([[4.0, 1.0]]))
        >>> ei_parts(layer, torch.nn.Sigmoid(), in_range=(0, 1), in_bins=8, out_bins=8)
        tensor([[0.9073],
                [0.0566]])
    """
    check_bool("ei_parts", "extrapolate", extrapolate)
    problem = pose(
        "ei_parts", layer, activation,
        in_range=in_range, out_range=out_range, in_bins=in_bins, out_bins=out_bins, method=method,
        in_shape=in_shape, generator=generator, num_samples=num_samples, rtol=rtol,
    )  # fmt: skip
    tokens = problem.token_outputs()
    if tokens is not None:
        return embedding_parts(tokens, problem.out_range, problem.out_bins)
    if not problem.exact:
        found = sampled_parts("ei_parts", problem, num_samples, rtol, generator, extrapolate=extrapolate)
        return found.bits.to(problem.bits_dtype)
    assert problem.affine is not None
    bits = exact_parts(problem.affine, problem.preimages(), problem.in_range, problem.in_bins)
    return bits.T.contiguous().to(problem.bits_dtype)
