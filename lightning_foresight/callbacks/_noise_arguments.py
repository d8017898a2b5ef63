"""What the arguments of GradientNoiseScaleCallback may be."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from lightning_foresight.callbacks._noise_methods import METHODS
from lightning_foresight.functional._checks import check_choice, check_int, fail
from lightning_foresight.functional.gradient_noise.quadrature import check_level


def check_number(owner: str, argument: str, value: Any, allowed: Callable[[float], bool], expected: str) -> None:
    """Require a finite number in a range."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not (number and allowed(value)):
        fail(owner, argument, value, f"expected {expected}.")


def count_examples(owner: str, batch_size: Callable[[Any], int], batch: Any) -> int:
    """Return the size of a batch, which has to be a whole number of at least 1."""
    size = batch_size(batch)
    try:
        count = operator.index(size)
    except TypeError:
        count = 0
    if count < 1:
        fail(
            owner,
            "batch_size",
            size,
            "expected a batch to have a whole number of examples, at least 1. Say how to count them, for instance "
            "batch_size=lambda batch: len(batch['labels']).",
        )
    return count


def check_arguments(
    owner: str,
    *,
    method: Any,
    decay: Any,
    window: Any,
    confidence: Any,
    budget: Any,
    preconditioner: Any,
    hessian: Any,
    batch_size: Any,
) -> None:
    """Require arguments in range that fit together.

    Raises:
        ValueError: With what was passed, what was expected, and what to do.
    """
    check_choice(owner, "method", method, METHODS)
    check_choice(owner, "preconditioner", preconditioner, (None, "adam"))
    check_number(owner, "decay", decay, lambda d: 0 < d <= 1, "a factor in (0, 1], such as 0.99")
    check_level(owner, "confidence", confidence)
    check_number(owner, "budget", budget, lambda b: b > 0, "a positive share of the training time, such as 0.02")
    if window is not None:
        check_int(owner, "window", window, minimum=2)
    if not isinstance(hessian, bool):
        check_int(owner, "hessian", hessian, minimum=1)
    if batch_size is not None and not callable(batch_size):
        fail(
            owner, "batch_size", batch_size, "expected a function of a batch, such as lambda batch: batch[0].shape[1]."
        )
    if preconditioner is not None and method in ("per_example", "norm_layers"):
        fail(
            owner,
            "preconditioner",
            preconditioner,
            f'method={method!r} never sees a gradient to precondition; expected "micro_batches" or "split".',
        )
    if window is not None and method == "norm_layers":
        fail(owner, "window", window, 'expected None with method="norm_layers": calibration is discounted by decay.')
