"""What samples tell that are all the same: nothing, whatever the estimator would make of rounding and ties."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_same_length
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.mutual_information._arguments import as_rows


def varying_columns(rows: Tensor) -> Tensor:
    """Which columns hold more than one value, ``(features,)``; rounding gives some of the others a deviation."""
    return (rows != rows[:1]).any(0)


def is_constant(samples: Tensor) -> bool:
    """Whether all samples are equal: of most layers the first two say no."""
    if bool((samples[0] != samples[1]).any()):
        return False
    return not bool(varying_columns(samples.reshape(samples.shape[0], -1)).any())


def zero_of_constants(owner: str) -> Callable[[Callable[..., Estimate]], Callable[..., Estimate]]:
    """Let an estimator of two sets of samples answer 0 where one of them, as a dead layer, is constant."""

    def decorate(estimator: Callable[..., Estimate]) -> Callable[..., Estimate]:
        @functools.wraps(estimator)
        def answer(x: Tensor, y: Tensor, *, base: float = 2, **options: Any) -> Estimate:
            if min(x.ndim, y.ndim, x.numel(), y.numel()) < 1 or min(x.shape[0], y.shape[0]) < 2:
                return estimator(x, y, base=base, **options)
            if not (is_constant(x) or is_constant(y)):
                return estimator(x, y, base=base, **options)
            check_base(owner, base)
            x_rows, y_rows = as_rows(owner, "x", x), as_rows(owner, "y", y)
            check_same_length(owner, "x", x_rows, "y", y_rows)
            zero = torch.zeros((), dtype=torch.float64, device=x.device)
            method = f"{options.get('objective', owner)} (constant samples)"
            return make_estimate(zero, num_samples=x.shape[0], lower=zero, upper=zero.clone(), method=method)

        return answer

    return decorate
