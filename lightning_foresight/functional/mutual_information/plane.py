"""The information plane's two questions about a layer, by the estimator's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

from torch import Tensor

from lightning_foresight.functional._checks import data, one_or_named, optional, takes
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.mutual_information.registry import find_estimator


@takes(activations=data, inputs=optional(data))
def input_information(
    activations: Tensor,
    *,
    inputs: Tensor | None = None,
    estimator: str = "auto",
    base: float = 2,
    **options: Any,
) -> Estimate:
    r"""I(X;T): how many of the inputs a layer keeps apart, at the estimator's resolution.

    X is uniform on the given samples and each is an input of its own, so a deterministic layer has
    :math:`I(X;T) = H(T)`, which without binning or noise is :math:`\log n`, or infinite.

    Args:
        activations: Shape ``(n, ...)``, one row for each of n distinct inputs.
        inputs: The inputs, shape ``(n, ...)``, for the estimators that compare two sets of samples; ``"binned"`` and
            ``"kde"`` do without.
        estimator: A name in :data:`ESTIMATORS` that answers this question; ``"auto"`` says in ``method`` what it took.
            ``"hsic"`` and other measures of dependence put their own value, without unit, in its place.
        base: Base of the logarithm; 2 gives bits.
        **options: The estimator's own, such as ``bin_width=0.07`` or ``noise_variance=1e-3``.

    Returns:
        The estimate, a scalar.

    Raises:
        ValueError: If the estimator or an option is not known, or the samples are not what it needs.

    Source: Shwartz-Ziv & Tishby 2017 (arXiv 1703.00810).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import input_information
        >>> activations = torch.tensor([[0.01], [0.02], [0.51], [0.52]])
        >>> input_information(activations, estimator="binned", bin_width=0.1).value.item()
        1.0
    """
    entry = find_estimator("input_information", estimator, "input", options)
    assert entry.input is not None  # find_estimator refuses the others
    return entry.input(activations, inputs, base=base, **options)


@takes(activations=data, labels=data)
def label_information(
    activations: Tensor, labels: Tensor, *, estimator: str = "auto", base: float = 2, **options: Any
) -> Estimate:
    r"""I(T;Y): what a layer tells about integer labels.

    .. math:: I(T;Y) = H(T) - \sum_y p(y) H(T | Y = y)

    Once samples have cells of their own (``saturation`` near 1) binned and kde values are near H(Y) for shuffled labels
    too: measure those beside it.

    Args:
        activations: Shape ``(n, ...)``.
        labels: Integer classes, shape ``(n,)``, on any device.
        estimator: A name in :data:`ESTIMATORS` that answers this question; ``"auto"`` says in ``method`` what it took.
            ``"hsic"`` and other measures of dependence put their own value, without unit, in its place.
        base: Base of the logarithm; 2 gives bits.
        **options: The estimator's own, such as ``bin_width=0.07`` or ``noise_variance=1e-3``.

    Returns:
        The estimate, a scalar.

    Raises:
        ValueError: If the estimator or an option is not known, or labels are not integers or do not match.

    Source: Shwartz-Ziv & Tishby 2017 (arXiv 1703.00810).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import label_information
        >>> activations = torch.tensor([[0.01], [0.02], [0.51], [0.52]])
        >>> label_information(activations, torch.tensor([0, 0, 1, 1]), estimator="binned", bin_width=0.1).value.item()
        1.0
    """
    entry = find_estimator("label_information", estimator, "label", options)
    assert entry.label is not None
    return entry.label(activations, labels.to(activations.device), base=base, **options)


@overload
def plane_information(
    activations: Tensor,
    labels: Tensor,
    *,
    inputs: Tensor | None = None,
    estimator: str = "auto",
    base: float = 2,
    **options: Any,
) -> tuple[Estimate, Estimate]: ...
@overload
def plane_information(
    activations: Mapping[str, Tensor],
    labels: Tensor,
    *,
    inputs: Tensor | None = None,
    estimator: str = "auto",
    base: float = 2,
    **options: Any,
) -> dict[str, tuple[Estimate, Estimate]]: ...
@takes(activations=one_or_named(data), labels=data, inputs=optional(data))
def plane_information(
    activations: Tensor | Mapping[str, Tensor],
    labels: Tensor,
    *,
    inputs: Tensor | None = None,
    estimator: str = "auto",
    base: float = 2,
    **options: Any,
) -> tuple[Estimate, Estimate] | dict[str, tuple[Estimate, Estimate]]:
    """I(X;T) and I(T;Y) of a layer or of several, sharing the work where the estimator can.

    All estimators share one sort, or one pass over pairs, between the two questions; ``"binned"`` between layers, too.

    Args:
        activations: Shape ``(n, ...)``, one row for each of n distinct inputs; or several layers by name.
        labels: Integer classes, shape ``(n,)``, on any device.
        inputs: As in :func:`input_information`.
        estimator: A name in :data:`ESTIMATORS` that answers both questions.
        base: Base of the logarithm; 2 gives bits.
        **options: The estimator's own.

    Returns:
        The two estimates, scalars; those of several layers by the same names.

    Raises:
        ValueError: As :func:`input_information` and :func:`label_information`.

    Source: Shwartz-Ziv & Tishby 2017 (arXiv 1703.00810).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import plane_information
        >>> activations = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
        >>> i_xt, i_ty = plane_information(activations, torch.tensor([0, 1, 0, 1]), estimator="kde")
        >>> i_xt.value.item(), i_ty.value.item()
        (1.0, 0.0)
        >>> layers = {"first": activations, "second": torch.zeros(4, 1)}
        >>> plane = plane_information(layers, torch.tensor([0, 1, 0, 1]), estimator="binned")
        >>> plane["first"][0].value.item(), plane["second"][0].value.item()
        (1.0, 0.0)
    """
    entry = find_estimator("plane_information", estimator, "label", options)
    if isinstance(activations, Mapping):
        if entry.planes is not None and activations:
            planes = entry.planes(list(activations.values()), labels, base=base, **options)
            return dict(zip(activations, planes, strict=True))
        return {
            name: plane_information(layer, labels, inputs=inputs, estimator=estimator, base=base, **options)
            for name, layer in activations.items()
        }
    if entry.plane is not None:
        return entry.plane(activations, labels, base=base, **options)
    return (
        input_information(activations, inputs=inputs, estimator=estimator, base=base, **options),
        label_information(activations, labels, estimator=estimator, base=base, **options),
    )
