"""Kernel measures of dependence under the names and arguments of the estimators; their values are no bits."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import Tensor

from lightning_foresight.functional._checks import check_base, fail
from lightning_foresight.functional.dependence import cka, distance_correlation, hsic, nhsic
from lightning_foresight.functional.dependence.kernels import check_kernel
from lightning_foresight.functional.estimate import Estimate

MEASURES: dict[str, Callable[..., Estimate]] = {
    "hsic": hsic,
    "nhsic": nhsic,
    "cka": cka,
    "distance_correlation": distance_correlation,
}


def measure(name: str) -> Callable[..., Estimate]:
    """Return the measure with a ``base`` that has no effect, as the estimators have one; no gradients flow."""

    def compare(x: Tensor, y: Tensor, *, base: float = 2, **options: Any) -> Estimate:
        check_base(name, base)
        return MEASURES[name](x.detach(), y.detach(), **options)

    return compare


def check_measure(name: str) -> Callable[..., None]:
    """Return the check of the measure's options, with their names and defaults in its signature."""
    signature = inspect.signature(MEASURES[name])
    options = [option for option in signature.parameters.values() if option.kind is option.KEYWORD_ONLY]

    @wraps(MEASURES[name])
    def check(**given: Any) -> None:
        if "kernel" in given or "bandwidth" in given:
            check_kernel(name, given.get("kernel", "gaussian"), given.get("bandwidth", "median"))
        if not 0 < given.get("ridge", 1.0) < math.inf:
            fail(name, "ridge", given["ridge"], "expected a positive number.")

    check.__signature__ = signature.replace(parameters=options, return_annotation=None)  # type: ignore[attr-defined]
    return check
