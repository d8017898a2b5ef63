"""One try of a measure before the run: a mistake in it would otherwise cost every measurement of the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.metrics.dependence import DependenceMetric

# First on so many samples; what fails there may yet work on all of them, as a measure that needs more than columns.
FEW = 64


def as_second_argument(metric: DependenceMetric, labels: Tensor, like: Tensor) -> Tensor:
    """Return labels as a metric takes them: class numbers, or one-hot rows of the type of ``like``."""
    if metric.takes_classes:
        return labels
    classes, numbers = labels.unique(return_inverse=True)
    return torch.nn.functional.one_hot(numbers, len(classes)).to(like)


def try_measure(
    owner: str, metric: DependenceMetric, layer: str, inputs: Tensor, activation: Tensor, labels: Tensor | None
) -> None:
    """Compare the inputs with the activations of one layer, and those with the labels.

    Raises:
        ValueError: If the measure fails, or returns something else than one finite number.
    """
    _attempt(owner, metric, f"the inputs and the outputs of {layer}", lambda n: (inputs[:n], activation[:n]))
    if labels is not None:
        _attempt(
            owner,
            metric,
            f"the outputs of {layer} and the labels",
            lambda n: (activation[:n], as_second_argument(metric, labels[:n], activation)),
        )


def _attempt(
    owner: str, metric: DependenceMetric, what: str, pair: Callable[[int | None], tuple[Tensor, Tensor]]
) -> None:
    name = f"{type(metric).__name__}.dependence"
    expected = "expected a scalar tensor or an Estimate of rows a (n, features) and b (n, features), labels as "
    expected += "class numbers (n,)." if metric.takes_classes else "one-hot rows."
    try:
        try:
            a, b = pair(FEW)
            result: Any = metric.dependence(a, b)
        except Exception:
            a, b = pair(None)
            result = metric.dependence(a, b)
    except Exception as error:
        raise ValueError(f"{owner}: {name} fails on {what} ({type(error).__name__}: {error}); {expected}") from error
    value = result.value if isinstance(result, Estimate) else result
    if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
        shown = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"type {type(value).__name__}"
        raise ValueError(f"{owner}: {name} returns something of {shown} for {what}; {expected}")
    if not bool(torch.isfinite(value)) and _varies(a) and _varies(b):
        raise ValueError(
            f"{owner}: {name} returns {float(value)} for {what}, {len(a)} samples that are neither constant nor "
            "infinite; expected a finite number. Look for divisions by 0, as of units that never change."
        )


def _varies(rows: Tensor) -> bool:
    return bool(torch.isfinite(rows).all()) and bool((rows != rows[:1]).any())
