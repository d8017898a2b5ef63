"""The noise scale that weighs directions by the curvature of the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_foresight.functional._checks import (
    a_function,
    a_module,
    array,
    check_choice,
    check_int,
    check_same_length,
    check_samples,
    takes,
)
from lightning_foresight.functional._swap import call_with
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.gradient_noise.moments import MomentSums, mean_moments, moment_sums
from lightning_foresight.functional.gradient_noise.noise_scale import noise_scale_from_means
from lightning_foresight.functional.gradient_noise.per_example import LossFn

METHODS = ("double_backward", "finite_difference")


class HessianNoiseScale(NamedTuple):
    r"""The curvature-weighted noise scale and its parts.

    Attributes:
        b_noise: :math:`\operatorname{tr}(H \Sigma) / (G^\top H G)`, in examples; ``kind`` is ``"not_valid"`` where the
            denominator is not significantly positive, as early in training: a step has no best size there.
        trace_h_sigma: :math:`\operatorname{tr}(H \Sigma)`.
        grad_h_grad: :math:`G^\top H G`, the curvature along the gradient.
    """

    b_noise: Estimate
    trace_h_sigma: Estimate
    grad_h_grad: Estimate


@takes(model=a_module, loss_fn=a_function, inputs=array, targets=array)
def hessian_noise_scale(
    model: nn.Module,
    loss_fn: LossFn,
    inputs: Tensor,
    targets: Tensor,
    *,
    num_blocks: int = 8,
    num_parts: int = 2,
    method: str = "double_backward",
    level: float = 0.95,
) -> HessianNoiseScale:
    r"""Noise scale weighted by the Hessian of the loss, the one that predicts the best batch size of a single step.

    .. math:: \mathcal B_\text{noise} = \frac{\operatorname{tr}(H \Sigma)}{G^\top H G}

    The examples are cut into blocks, and each block into :math:`p` parts of :math:`b` examples with gradients
    :math:`g_i` and mean :math:`g`. Then

    .. math::
        \mathcal S_H = \frac{b}{p - 1} \sum_i (g_i - g)^\top H (g_i - g), \qquad
        \mathcal G^2_H = g^\top H g - \frac{\mathcal S_H}{p b}

    are unbiased for numerator and denominator when :math:`H` comes from another block; the same block's Hessian is
    correlated with its gradient and inflates the denominator. Both are averaged over blocks, unclamped, before the
    ratio is taken. With two parts it takes two Hessian-vector products a block. No Hessian is formed, and the model is
    left as it is.

    Args:
        model: A module called as ``model(inputs)``; its parameters that require gradients are measured. The examples
            must not influence each other, and nothing must be random: call ``model.eval()``.
        loss_fn: ``loss_fn(outputs, targets)``, a mean over examples.
        inputs: Shape (examples, ...), at least ``num_blocks * num_parts``, in random order.
        targets: Shape (examples, ...).
        num_blocks: Independent observations, at least 2; the interval rests on their spread.
        num_parts: Parts of a block, at least 2; more of them, at as many products, make the numerator more precise.
        method: ``"double_backward"`` is exact; ``"finite_difference"`` takes central differences of gradients, which
            needs no double backward and less memory, and in float32 is good to a tenth or so; kinks (ReLU)
            count as curvature where the step crosses them.
        level: Coverage of the interval of ``b_noise``.

    Returns:
        :class:`HessianNoiseScale`; ``num_samples`` counts blocks.

    Raises:
        ValueError: If there are too few examples or blocks, or ``method`` is unknown.

    References:
        McCandlish et al. (2018), An empirical model of large-batch training, arXiv 1812.06162, section 2.2.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lightning_foresight.functional import hessian_noise_scale
        >>> model = nn.Linear(1, 1, bias=False)
        >>> x, y = torch.ones(64, 1), torch.randn(64, 1, generator=torch.Generator().manual_seed(0))
        >>> scale = hessian_noise_scale(model, nn.functional.mse_loss, x, y + 3)
        >>> float(scale.trace_h_sigma.value) > 0  # the Hessian is 2 everywhere
        True
    """
    numerators, denominators = hessian_moments(
        model, loss_fn, inputs, targets, num_blocks=num_blocks, num_parts=num_parts, method=method
    )
    wide = torch.float32 if inputs.device.type == "mps" else torch.float64
    sums = moment_sums(numerators.to(wide), denominators.to(wide))
    means = mean_moments(MomentSums(*sums))
    dtype = torch.promote_types(numerators.dtype, torch.float32)
    b_noise, numerator, denominator = noise_scale_from_means(means, level=level, dtype=dtype, method=method)
    indefinite = not bool(denominator.interval(level)[0] > 0)
    return HessianNoiseScale(b_noise._replace(kind="not_valid") if indefinite else b_noise, numerator, denominator)


def hessian_moments(
    model: nn.Module,
    loss_fn: LossFn,
    inputs: Tensor,
    targets: Tensor,
    *,
    num_blocks: int = 8,
    num_parts: int = 2,
    method: str = "double_backward",
) -> tuple[Tensor, Tensor]:
    r"""Unbiased :math:`\operatorname{tr}(H \Sigma)` and :math:`G^\top H G` of each block, shape (num_blocks,) each.

    Arguments and errors are those of :func:`hessian_noise_scale`, which averages them.
    """
    owner = "hessian_noise_scale"
    check_choice(owner, "method", method, METHODS)
    check_int(owner, "num_blocks", num_blocks, 2)
    check_int(owner, "num_parts", num_parts, 2)
    check_samples(owner, "inputs", inputs, num_blocks * num_parts)
    check_same_length(owner, "inputs", inputs, "targets", targets)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    values = [model.get_parameter(name).detach() for name in names]

    def gradient(at: Sequence[Tensor], x: Tensor, y: Tensor, *, graph: bool = False) -> tuple[Tensor, ...]:
        loss = loss_fn(call_with(model, dict(zip(names, at, strict=True)), x), y)
        return torch.autograd.grad(loss, at, create_graph=graph, allow_unused=True, materialize_grads=True)

    def curvature(along: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
        """Return ``along^T H along``."""
        if method == "finite_difference":
            # Rounding and truncation are of one size here, for weights of typical size.
            length_of_step = torch.finfo(values[0].dtype).eps ** (1 / 3)
            step = length_of_step / _dot(along, along).sqrt().clamp(min=1e-30)
            ends = []
            for sign in (1, -1):
                moved = [(v + sign * step * a).requires_grad_() for v, a in zip(values, along, strict=True)]
                ends.append(_dot(gradient(moved, x, y), along))
            return (ends[0] - ends[1]) / (2 * step)
        at = [value.clone().requires_grad_() for value in values]
        slope = _dot(gradient(at, x, y, graph=True), along)
        if not slope.requires_grad:  # a loss that is linear in the parameters
            return torch.zeros_like(slope)
        product = torch.autograd.grad(slope, at, allow_unused=True, materialize_grads=True)
        return _dot(product, along)

    length = len(inputs) // (num_blocks * num_parts)
    blocks = [slice(start, start + num_parts * length) for start in range(0, len(inputs), num_parts * length)]
    numerators, denominators = [], []
    # Fused attention has no double backward.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        for block, other in zip(blocks[:num_blocks], [*blocks[1:num_blocks], blocks[0]], strict=True):
            at = [value.clone().requires_grad_() for value in values]
            parts = [
                gradient(at, x, y)
                for x, y in zip(inputs[block].split(length), targets[block].split(length), strict=True)
            ]
            mean = [torch.stack(pieces).mean(0) for pieces in zip(*parts, strict=True)]
            # The deviations of two parts are each other's negatives.
            kept = parts[:1] if num_parts == 2 else parts
            spread = [[g - m for g, m in zip(part, mean, strict=True)] for part in kept]
            bend = torch.stack([curvature(direction, inputs[other], targets[other]) for direction in spread]).mean()
            noise = bend * num_parts / (num_parts - 1)
            numerators.append(length * noise)
            denominators.append(curvature(mean, inputs[other], targets[other]) - noise / num_parts)
    return torch.stack(numerators), torch.stack(denominators)


def _dot(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).sum()
