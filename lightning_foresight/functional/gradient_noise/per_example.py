"""Per-example gradients by torch.func: squared norms, and the noise scale they give without further approximation."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

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
from lightning_foresight.functional._memory import chunk_length
from lightning_foresight.functional._swap import call_with
from lightning_foresight.functional.gradient_noise.ghost_pass import ghost_pass
from lightning_foresight.functional.gradient_noise.moments import MeanMoments
from lightning_foresight.functional.gradient_noise.noise_scale import NoiseScale, noise_scale_from_means
from lightning_foresight.functional.gradient_noise.preconditioner import metric_roots

LossFn = Callable[[Tensor, Tensor], Tensor]

# Modules whose training mode makes an example's gradient depend on other examples or on chance.
COUPLING = (nn.modules.batchnorm._BatchNorm,)
RANDOM = (nn.modules.dropout._DropoutNd, nn.RReLU)


@takes(model=a_module, loss_fn=a_function, inputs=array, targets=array)
def per_example_sq_norms(
    model: nn.Module,
    loss_fn: LossFn,
    inputs: Tensor,
    targets: Tensor,
    *,
    method: str = "ghost",
    chunk_size: int | None = None,
) -> Tensor:
    r"""Squared norm of each example's gradient, :math:`|\nabla_\theta \ell(f_\theta(x_j), y_j)|^2`.

    A linear layer's gradient of one example is a sum of outer products of its inputs and output gradients over tokens,
    and :math:`\big|\sum_t d_t x_t^\top\big|^2 = \sum_{t,s} (d_t \cdot d_s)(x_t \cdot x_s)` needs no gradient at all;
    likewise for convolutions (unfolded), embeddings (equal tokens), normalisation layers and biases. One backward pass
    of the whole batch then measures all examples. A tied parameter's uses are added before they are squared. What is
    left, such as the projections of ``nn.MultiheadAttention``, goes through ``torch.func``.

    Args:
        model: A module called as ``model(inputs)``; its parameters that require gradients are measured.
        loss_fn: ``loss_fn(output, target)`` on a batch of one, returning a scalar.
        inputs: Shape (examples, ...).
        targets: Shape (examples, ...).
        method: ``"ghost"`` as described, or ``"func"`` for the gradients themselves by ``torch.func``.
        chunk_size: Examples differentiated at a time; by default as many as the memory budget holds gradients of.

    Returns:
        Squared norms, shape (examples,).

    Raises:
        ValueError: If the lengths differ, no parameter requires a gradient, a module in training mode couples
            examples (BatchNorm) or draws random numbers (dropout), or an embedding has ``scale_grad_by_freq``.

    References:
        Goodfellow (2015), Efficient per-example gradient computations, arXiv 1510.01799; Li et al. (2022), Large
        language models can be strong differentially private learners, arXiv 2110.05679.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lightning_foresight.functional import per_example_sq_norms
        >>> model = nn.Linear(2, 1, bias=False)
        >>> x, y = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.zeros(2, 1)
        >>> per_example_sq_norms(model, lambda out, target: (out - target).sum(), x, y)
        tensor([25.,  1.])
    """
    _check("per_example_sq_norms", model, inputs, targets, chunk_size, minimum=1)
    check_choice("per_example_sq_norms", "method", method, ("ghost", "func"))
    if method == "func":
        return torch.cat([_dot(g, g) for g in _gradients(model, loss_fn, inputs, targets, chunk_size)])
    norms = []
    length = chunk_size or len(inputs)
    for x, y in zip(inputs.split(length), targets.split(length), strict=True):
        squares, left_over = ghost_pass(model, loss_fn, x, y)
        if left_over:
            only = {id(parameter) for parameter in left_over}
            squares = squares + torch.cat([_dot(g, g) for g in _gradients(model, loss_fn, x, y, chunk_size, only)])
        norms.append(squares)
    return torch.cat(norms)


@takes(model=a_module, loss_fn=a_function, inputs=array, targets=array)
def exact_noise_scale(
    model: nn.Module,
    loss_fn: LossFn,
    inputs: Tensor,
    targets: Tensor,
    chunk_size: int | None = None,
    *,
    level: float = 0.95,
    preconditioner: Sequence[Tensor | None] | None = None,
) -> NoiseScale:
    r"""Noise scale from the gradient of every example: the value that the cheaper estimators are held to.

    With per-example gradients :math:`g_j`, their mean :math:`\bar g` and :math:`n` examples, the unbiased U-statistics

    .. math::
        \operatorname{tr}\Sigma = \frac{1}{n - 1} \sum_j |g_j - \bar g|^2, \qquad
        |G|^2 = \frac{1}{n (n - 1)} \sum_{i \ne j} g_i \cdot g_j = |\bar g|^2 - \frac{\operatorname{tr}\Sigma}{n}.

    These are also exactly what within-step estimators average to when batches are drawn from these ``n`` examples
    without replacement, as a shuffled DataLoader does. Errors come from the jackknife over examples and say how far
    the values are from those of the distribution behind the examples. Two passes over the data.

    Args:
        model: A module called as ``model(inputs)``; its parameters that require gradients are measured.
        loss_fn: ``loss_fn(output, target)`` on a batch of one, returning a scalar.
        inputs: Shape (examples, ...), at least 3 examples.
        targets: Shape (examples, ...).
        chunk_size: Examples differentiated at a time; by default as many as the memory budget holds gradients of.
        level: Coverage of the interval of ``b_simple``.
        preconditioner: Measure in the metric :math:`g^\top P g`: one tensor for each parameter that requires a
            gradient, as from :func:`adam_preconditioner`; parameters with ``None`` are left out.

    Returns:
        :class:`NoiseScale`.

    Raises:
        ValueError: As :func:`per_example_sq_norms`, or with fewer than 3 examples.

    References:
        McCandlish et al. (2018), An empirical model of large-batch training, arXiv 1812.06162.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lightning_foresight.functional import exact_noise_scale
        >>> model = nn.Linear(1, 1, bias=False)
        >>> x, y = torch.tensor([[1.0], [2.0], [3.0]]), torch.zeros(3, 1)
        >>> scale = exact_noise_scale(model, lambda out, target: (out - target).sum(), x, y)
        >>> [round(float(part.value), 4) for part in scale]  # gradients 1, 2, 3: variance 1, (1*2 + 1*3 + 2*3) / 3
        [0.2727, 1.0, 3.6667]
    """
    _check("exact_noise_scale", model, inputs, targets, chunk_size, minimum=3)
    n = inputs.shape[0]
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    roots = metric_roots("exact_noise_scale", named, preconditioner)
    only = None if roots is None else {id(named[name]) for name in roots}

    def wide_gradients() -> Iterator[dict[str, Tensor]]:
        for gradients in _gradients(model, loss_fn, inputs, targets, chunk_size, only):
            wide = {name: value.to(_wide(value)) for name, value in gradients.items()}
            yield wide if roots is None else {name: value * roots[name] for name, value in wide.items()}

    total: dict[str, Tensor] = {}
    for gradients in wide_gradients():
        for name, value in gradients.items():
            total[name] = total.get(name, 0) + value.sum(0)
    squares, products = [], []
    mean = {name: value / n for name, value in total.items()}
    for gradients in wide_gradients():
        squares.append(_dot(gradients, gradients))
        products.append(_dot(gradients, mean))
    square, with_mean = torch.cat(squares), torch.cat(products)
    # Mean of each example's products with, and half squared distances to, the others.
    others = (n * with_mean - square) / (n - 1)
    distance = 0.5 * (square + (square.sum() - square) / (n - 1)) - others
    trace_sigma, grad_sq_norm = distance.mean(), others.mean()
    # Jackknife pseudo-values of a U-statistic of degree 2 are 2 (n - 1) / (n - 2) times the deviations of these.
    factor = (2 * (n - 1) / (n - 2)) ** 2 / (n * (n - 1))
    s, g = distance - trace_sigma, others - grad_sq_norm
    moments = MeanMoments(
        trace_sigma,
        grad_sq_norm,
        factor * (s * s).sum(),
        factor * (g * g).sum(),
        factor * (s * g).sum(),
        torch.full_like(trace_sigma, n),
    )
    return noise_scale_from_means(moments, level=level, dtype=_result_dtype(model), method="per-example gradients")


def _result_dtype(model: nn.Module) -> torch.dtype:
    """Return the dtype that results for this model are reported in."""
    return torch.promote_types(next(p for p in model.parameters() if p.requires_grad).dtype, torch.float32)


def _wide(value: Tensor) -> torch.dtype:
    return torch.float32 if value.device.type == "mps" else torch.float64


def _check(
    owner: str, model: nn.Module, inputs: Tensor, targets: Tensor, chunk_size: int | None, *, minimum: int
) -> None:
    check_samples(owner, "inputs", inputs, minimum)
    check_same_length(owner, "inputs", inputs, "targets", targets)
    if chunk_size is not None:
        check_int(owner, "chunk_size", chunk_size, 1)
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"{owner}(model): no parameter requires a gradient; nothing to measure.")
    for name, module in model.named_modules():
        if getattr(module, "scale_grad_by_freq", False):
            raise ValueError(
                f"{owner}(model): {type(module).__name__} {name!r} has scale_grad_by_freq=True, which divides an "
                "example's gradient by how often its entries occur in the whole batch, so one example's gradient is "
                "not defined. Pass scale_grad_by_freq=False."
            )
    for kinds, reason in ((COUPLING, "couples the examples of a batch"), (RANDOM, "draws random numbers")):
        for name, module in model.named_modules():
            if isinstance(module, kinds) and module.training and getattr(module, "p", 1) > 0:
                raise ValueError(
                    f"{owner}(model): {type(module).__name__} {name!r} is in training mode and {reason}, so one "
                    "example's gradient is not defined. Call model.eval() first."
                )


def _gradients(
    model: nn.Module,
    loss_fn: LossFn,
    inputs: Tensor,
    targets: Tensor,
    chunk_size: int | None,
    only: Container[int] | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Yield the gradients of chunks of examples, by parameter name, each of shape (chunk, *parameter)."""
    measured: dict[str, Tensor] = {}
    fixed: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        wanted = parameter.requires_grad and (only is None or id(parameter) in only)
        (measured if wanted else fixed)[name] = parameter.detach()
    fixed |= {name: buffer.detach() for name, buffer in model.named_buffers()}

    def loss(parameters: dict[str, Tensor], example: Tensor, target: Tensor) -> Tensor:
        output = call_with(model, {**fixed, **parameters}, example.unsqueeze(0))
        return loss_fn(output, target.unsqueeze(0))

    # Gradients twice over: the wide copy that sums are taken in.
    size = sum(3 * p.numel() * p.element_size() for p in measured.values())
    length = chunk_size or chunk_length(inputs.shape[0], size)
    each = vmap(grad(loss), in_dims=(None, 0, 0))
    with torch.no_grad():
        for x, y in zip(inputs.split(length), targets.split(length), strict=True):
            yield each(measured, x, y)


def _dot(first: dict[str, Tensor], second: dict[str, Tensor]) -> Tensor:
    """Inner products of per-example gradients with per-example or single ones, shape (chunk,)."""
    return sum((value.flatten(1) * second[name].reshape(-1, value[0].numel())).sum(1) for name, value in first.items())  # type: ignore[return-value]
