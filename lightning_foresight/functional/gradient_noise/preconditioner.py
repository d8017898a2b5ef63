"""The metric in which an adaptive optimizer descends, and squared norms in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def adam_preconditioner(optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> list[Tensor | None]:
    r"""What Adam multiplies each entry of a gradient by, :math:`1 / (\sqrt{\hat v} + \epsilon)`.

    :math:`\hat v` is the bias-corrected second moment that the optimizer holds *now*. Before a step it comes from
    earlier batches only and owes nothing to the gradient that is measured, so squared norms in this metric stay
    unbiased: ask before ``optimizer.step()``. Learning rate and momentum are left out; they scale or delay the step and
    cancel in the ratio of noise to signal.

    Args:
        optimizer: One with a second moment in its state: ``Adam``, ``AdamW`` and others with ``exp_avg_sq``
            (the maximum with ``amsgrad``), ``RMSprop``, ``Adagrad``.
        parameters: Parameters that it updates.

    Returns:
        One tensor per parameter, of its shape; ``None`` for one that the optimizer has not stepped yet.

    Raises:
        ValueError: If the optimizer does not update one of the parameters, or keeps no second moment.

    References:
        Kingma & Ba (2015), Adam: a method for stochastic optimization, arXiv 1412.6980.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lightning_foresight.functional import adam_preconditioner
        >>> weight = nn.Parameter(torch.zeros(2))
        >>> optimizer = torch.optim.Adam([weight])
        >>> adam_preconditioner(optimizer, [weight])
        [None]
        >>> weight.grad = torch.tensor([0.5, -4.0])
        >>> optimizer.step()
        >>> adam_preconditioner(optimizer, [weight])
        [tensor([2.0000, 0.2500])]
    """
    if not hasattr(optimizer, "param_groups"):
        raise TypeError(
            f"adam_preconditioner(optimizer): got a {type(optimizer).__name__}; expected an optimizer of torch."
        )
    owners = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    found = []
    for position, parameter in enumerate(parameters):
        if id(parameter) not in owners:
            raise ValueError(
                f"adam_preconditioner(parameters[{position}]): {type(optimizer).__name__} does not update this "
                f"parameter of shape {tuple(parameter.shape)}. Pass parameters of this optimizer only."
            )
        found.append(preconditioner_of(optimizer.state.get(parameter, {}), owners[id(parameter)], type(optimizer)))
    return found


def preconditioner_of(
    state: Mapping[str, Any], group: Mapping[str, Any], kind: type[Optimizer] = torch.optim.Adam
) -> Tensor | None:
    """Return the preconditioner of one parameter from its optimizer state and parameter group; ``None`` if it has none.

    Args:
        state: ``optimizer.state[parameter]``.
        group: The parameter group that holds the parameter.
        kind: Type of the optimizer, for the error text.

    Raises:
        ValueError: If the state has no second moment.
    """
    if not state:
        return None
    if "exp_avg_sq" in state:
        second_moment = state["max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"]
        # With capturable=True the count is a tensor on the device: never read on the host.
        correction = 1 - group["betas"][1] ** state["step"]
        second_moment = second_moment / correction
    elif "square_avg" in state and "acc_delta" not in state:  # Adadelta divides by more than this
        second_moment = state["square_avg"]
        if group.get("centered"):
            second_moment = second_moment - state["grad_avg"] ** 2
    elif "sum" in state:
        second_moment = state["sum"]
    else:
        raise ValueError(
            f"adam_preconditioner(optimizer={kind.__name__}): its state holds no second moment of the gradient (it has "
            f"{', '.join(state)}). Expected Adam, AdamW, RMSprop, Adagrad or another with exp_avg_sq; measure the "
            "plain noise scale for this one."
        )
    return 1 / (second_moment.sqrt() + group["eps"])


def preconditioned_sq_norm(gradients: Sequence[Tensor | None], preconditioner: Sequence[Tensor | None]) -> Tensor:
    r"""Squared norm of a gradient in a diagonal metric, :math:`g^\top P g = \sum_i p_i g_i^2`.

    Args:
        gradients: One tensor per parameter; ``None`` counts as zero.
        preconditioner: As many, from :func:`adam_preconditioner`; parameters without one are left out.

    Returns:
        A scalar, in float32 or better.

    Raises:
        ValueError: If the lengths differ, or no parameter has both.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import preconditioned_sq_norm
        >>> preconditioned_sq_norm([torch.tensor([3.0, 4.0])], [torch.tensor([1.0, 0.5])])
        tensor(17.)
    """
    if len(gradients) != len(preconditioner):
        raise ValueError(
            f"preconditioned_sq_norm(gradients, preconditioner): got {len(gradients)} and {len(preconditioner)} "
            "tensors; expected one of each for every parameter, in the same order."
        )
    squares = [
        _sq_norm(gradient, scale)
        for gradient, scale in zip(gradients, preconditioner, strict=True)
        if gradient is not None and scale is not None
    ]
    if not squares:
        raise ValueError(
            "preconditioned_sq_norm(gradients, preconditioner): no parameter has both a gradient and a second moment. "
            "Adam has one after its first step: leave that step out."
        )
    return torch.stack(squares).sum()


def _sq_norm(gradient: Tensor, scale: Tensor) -> Tensor:
    if gradient.is_sparse:
        gradient = gradient.coalesce()  # rows that occur twice are summed before squaring
        gradient, scale = gradient.values(), scale[tuple(gradient.indices())]
    gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
    return (gradient * gradient * scale).sum()


def metric_roots(
    owner: str, named: Mapping[str, nn.Parameter], preconditioner: Sequence[Tensor | None] | None
) -> dict[str, Tensor] | None:
    """Return the square roots of a preconditioner by parameter name: gradients times these have its squared norms."""
    if preconditioner is None:
        return None
    shapes = [tuple(parameter.shape) for parameter in named.values()]
    given = [None if scale is None else tuple(scale.shape) for scale in preconditioner]
    if len(given) != len(shapes) or any(g not in (None, shape) for g, shape in zip(given, shapes, strict=True)):
        raise ValueError(
            f"{owner}(preconditioner): got shapes {given}; expected one tensor (or None) for each parameter that "
            f"requires a gradient, of shapes {shapes}."
        )
    if not any(given):
        raise ValueError(
            f"{owner}(preconditioner): every entry is None. An optimizer has a second moment after its first step."
        )
    return {
        name: scale.to(torch.float32 if scale.device.type == "mps" else torch.float64).sqrt()
        for name, scale in zip(named, preconditioner, strict=True)
        if scale is not None
    }
