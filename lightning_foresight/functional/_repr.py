"""Showing an object by the arguments it was made with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import PurePath
from typing import Any

from torch import Tensor

from lightning_foresight.functional._checks import describe


class ShowsArguments:
    """Gives subclasses a ``repr`` of the arguments that were passed and are not the default.

    Example:
        >>> from lightning_foresight.schedule import LogSchedule
        >>> LogSchedule(1000, num=30)
        LogSchedule(max_epochs=1000, num=30)
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the constructor remember what it was given."""
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = _remembering(cls.__init__)  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.__dict__.get('_shown_arguments', ()))})"


def _remembering(constructor: Callable[..., None]) -> Callable[..., None]:
    @wraps(constructor)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        # The outermost constructor comes first, and calls those of its bases. Words are kept and not the arguments,
        # which would go into pickles and copies; and not by assignment, of which a module makes more than is wanted.
        if "_shown_arguments" not in self.__dict__:
            self.__dict__["_shown_arguments"] = _shown_arguments(constructor, self, args, kwargs)
        constructor(self, *args, **kwargs)

    return wrapped


def _shown_arguments(
    constructor: Callable[..., None], owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[str, ...]:
    signature = inspect.signature(constructor)
    try:
        given = signature.bind(owner, *args, **kwargs).arguments
    except TypeError:  # which the constructor is about to say itself
        return ()
    shown: list[str] = []
    for name, value in list(given.items())[1:]:
        parameter = signature.parameters[name]
        if parameter.kind is parameter.VAR_KEYWORD:
            shown += [f"{one}={_in_words(passed)}" for one, passed in value.items()]
        elif parameter.kind is parameter.VAR_POSITIONAL:
            shown += map(_in_words, value)
        elif (words := _in_words(value)) != _in_words(parameter.default):
            shown.append(f"{name}={words}")
    return tuple(shown)


def _in_words(value: Any) -> str:
    """Return a short ``repr``: of data and functions the name of what they are."""
    if value is None or isinstance(value, (str, int, float, ShowsArguments, PurePath)):
        return repr(value)
    if isinstance(value, Tensor):
        return f"<{describe(value)}>"
    if isinstance(value, (list, tuple)) and len(value) <= 8:
        left, right = "[]" if isinstance(value, list) else ("(", ",)" if len(value) == 1 else ")")
        return f"{left}{', '.join(map(_in_words, value))}{right}"
    if isinstance(value, Mapping) and len(value) <= 8:
        return "{" + ", ".join(f"{key!r}: {_in_words(one)}" for key, one in value.items()) + "}"
    return getattr(value, "__name__", f"<{type(value).__name__}>")
