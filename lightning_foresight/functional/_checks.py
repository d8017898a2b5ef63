"""Argument checks whose messages say what was passed, what was expected, and what to do."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

P = ParamSpec("P")
R = TypeVar("R")
# (owner, argument, value) -> value as the function takes it; raises if it is something else.
Check = Callable[[str, str, Any], Any]


def takes(**checks: Check) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Check named arguments of a function or method before it runs, and pass on what the checks return.

    Example:
        >>> import numpy as np
        >>> from lightning_foresight.functional._checks import data, takes
        >>> @takes(x=data)
        ... def double(x):
        ...     return 2 * x
        >>> double(np.ones(2))
        tensor([2., 2.], dtype=torch.float64)
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        names = list(inspect.signature(function).parameters)
        places = [(names.index(name), name, check) for name, check in checks.items()]
        is_method = names[0] == "self"

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            owner = type(args[0]).__name__ if is_method else function.__name__
            given = list(args)
            for place, name, check in places:
                if place < len(given):
                    given[place] = check(owner, name, given[place])
                elif name in kwargs:
                    kwargs[name] = check(owner, name, kwargs[name])
            return function(*given, **kwargs)

        return checked

    return decorate


def array(owner: str, argument: str, value: Any) -> Tensor:
    """Take a tensor, or a numpy array, which becomes one."""
    if isinstance(value, np.ndarray):
        return _from_numpy(owner, argument, value)
    expected = "a tensor or a numpy array. torch.tensor(...) makes one of a list of numbers, .to_numpy() of a table"
    return value if isinstance(value, Tensor) else _refuse(owner, argument, value, expected)


def data(owner: str, argument: str, value: Any) -> Tensor:
    """Take a dense tensor of real numbers, or a numpy array, which becomes one."""
    value = array(owner, argument, value)
    if value.is_complex():
        raise TypeError(
            f"{owner}({argument}): got {describe(value)}; expected real numbers. Pass the real and the imaginary part "
            "as two features: torch.view_as_real(x)."
        )
    if value.layout is not torch.strided or value.is_meta:
        form = "meta" if value.is_meta else str(value.layout).removeprefix("torch.")
        raise TypeError(
            f"{owner}({argument}): got {describe(value)} in {form} form; expected a dense tensor that holds its "
            f"numbers.{'' if value.is_meta else ' Pass x.to_dense().'}"
        )
    # torch can neither sort nor add these.
    return value.to(torch.int64) if value.dtype in (torch.uint16, torch.uint32, torch.uint64) else value


def tensors_as_data(owner: str, argument: str, value: Any) -> Any:
    """Look at tensors and arrays only, where the function judges of all else."""
    return data(owner, argument, value) if isinstance(value, (Tensor, np.ndarray)) else value


def numbers(owner: str, argument: str, value: Any) -> Any:
    """Take a number or a list of them besides."""
    is_list = isinstance(value, (list, tuple)) and all(map(is_number, value))
    return value if is_number(value) or is_list else data(owner, argument, value)


def number_tensor(owner: str, argument: str, value: Any) -> Tensor:
    """Take the same, as a tensor."""
    return torch.as_tensor(numbers(owner, argument, value))


def a_number(owner: str, argument: str, value: Any) -> Any:
    """Take a number, or a tensor that holds one."""
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
        return value.item()
    return value if is_number(value) else _refuse(owner, argument, value, "a number")


def a_module(owner: str, argument: str, value: Any) -> nn.Module:
    """Take a module."""
    return value if isinstance(value, nn.Module) else _refuse(owner, argument, value, "a torch.nn.Module")


def a_function(owner: str, argument: str, value: Any) -> Any:
    """Take anything that can be called."""
    return value if callable(value) else _refuse(owner, argument, value, "a function")


def optional(check: Check) -> Check:
    """Take ``None``, too."""
    return lambda owner, argument, value: None if value is None else check(owner, argument, value)


def one_or_named(check: Check) -> Check:
    """Take several of a kind by name, too."""

    def check_each(owner: str, argument: str, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return check(owner, argument, value)
        return {name: check(owner, f"{argument}[{name!r}]", item) for name, item in value.items()}

    return check_each


def _refuse(owner: str, argument: str, value: Any, expected: str) -> Any:
    what = "None" if value is None else f"a {type(value).__name__}"
    raise TypeError(f"{owner}({argument}): got {what}; expected {expected}.")


def _from_numpy(owner: str, argument: str, array: np.ndarray) -> Tensor:
    try:
        # torch takes neither negative strides nor, without a warning, arrays that must not be written to.
        return torch.from_numpy(np.require(array, requirements=["C", "W"]))
    except TypeError:
        expected = f"an array of real numbers. array.astype(float) makes one if its entries, {array.dtype}, are numbers"
        return _refuse(owner, argument, array, expected)


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
