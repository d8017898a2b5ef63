"""Argument checks whose messages say what was passed, what was expected, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

import torch
from torch import Tensor


def fail(owner: str, argument: str, passed: Any, expected: str, error: type[Exception] = ValueError) -> None:
    """Raise ``error`` in the house form: ``owner(argument=passed): expected ...``."""
    raise error(f"{owner}({argument}={passed!r}): {expected}")


def check_choice(owner: str, argument: str, value: Any, choices: Iterable[Any]) -> None:
    """Require ``value`` to be one of ``choices``."""
    choices = tuple(choices)
    if value not in choices:
        fail(owner, argument, value, f"expected one of {', '.join(map(repr, choices))}.")


def check_int(owner: str, argument: str, value: Any, minimum: int) -> None:
    """Require an integer of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        fail(owner, argument, value, f"expected an integer of at least {minimum}.")


def is_number(value: Any) -> bool:
    """Say whether something is a real number, of Python or numpy; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_bool(owner: str, argument: str, value: Any) -> None:
    """Require True or False, as a string such as "no" would count as true."""
    if not isinstance(value, bool):
        fail(owner, argument, value, "expected True or False.", TypeError)


def check_range(owner: str, argument: str, value: Any) -> tuple[float, float]:
    """Require a pair ``(low, high)`` of finite numbers with ``low < high``; return it as floats."""
    try:
        low, high = (float(end) for end in value)
    except (TypeError, ValueError):
        low, high = float("nan"), float("nan")
    if not (-float("inf") < low < high < float("inf")):
        fail(owner, argument, value, "expected a pair (low, high) of finite numbers with low < high.")
    return low, high


def check_base(owner: str, base: float) -> None:
    """Require a base of logarithms above 1."""
    if not base > 1:
        fail(owner, "base", base, "expected a number above 1: 2 for bits, math.e for nats.")


def describe(tensor: Tensor) -> str:
    """Say what a tensor is in a few words, for error texts."""
    return f"a tensor of shape {tuple(tensor.shape)} and dtype {str(tensor.dtype).removeprefix('torch.')}"


def check_finite(owner: str, argument: str, tensor: Tensor) -> None:
    """Require every entry to be finite. Waits for the device: not for the hot path."""
    if not torch.isfinite(tensor).all():
        bad = int((~torch.isfinite(tensor)).sum())
        raise ValueError(
            f"{owner}({argument}): {bad} of {tensor.numel()} entries are NaN or infinite in {describe(tensor)}; "
            "expected finite numbers. Look for a diverged layer, or drop those rows first."
        )


def check_samples(owner: str, argument: str, tensor: Tensor, minimum: int = 2) -> None:
    """Require at least ``minimum`` samples along the first axis."""
    if tensor.ndim == 0 or tensor.shape[0] < minimum:
        raise ValueError(
            f"{owner}({argument}): got {describe(tensor)}; expected at least {minimum} samples along the first axis. "
            "Pass a larger batch."
        )


def check_same_length(owner: str, first_name: str, first: Tensor, second_name: str, second: Tensor) -> None:
    """Require the same number of samples in both tensors."""
    if first.shape[0] != second.shape[0]:
        raise ValueError(
            f"{owner}({first_name}, {second_name}): got {first.shape[0]} and {second.shape[0]} samples; expected "
            "one row of each for every sample, in the same order."
        )
