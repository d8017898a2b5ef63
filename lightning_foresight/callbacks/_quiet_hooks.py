"""Hooks that Lightning passes over at steps that have nothing for them: at a small network its calls cost most."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytorch_lightning import Callback, Trainer


def passes_over_none(trainer: Trainer) -> bool:
    """Say whether the Trainer leaves out a hook that is ``None``: tried on a stand-in, since no version promises it."""
    bystander = SimpleNamespace(on_after_backward=None, state_key="")
    profiler = SimpleNamespace(profile=lambda name: nullcontext())
    run = SimpleNamespace(lightning_module=None, callbacks=[bystander], profiler=profiler)
    try:
        kind = next(kind for kind in type(trainer).__mro__ if kind.__module__.endswith(".trainer.trainer"))
        sys.modules[kind.__module__].call._call_callback_hooks(run, "on_after_backward")
    except Exception:
        return False
    return True


class QuietHooks:
    """Sets hooks of a callback to ``None`` and back.

    Lightning calls every hook of every callback in a context of its profiler, which takes longer than a hook that
    finds nothing to do; it tests first whether the hook can be called.

    Args:
        callback: Whose hooks.
        names: Names of the hooks.
    """

    def __init__(self, callback: Callback, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._attributes: dict[str, Any] = vars(callback)

    def hush(self) -> None:
        """Let the Trainer pass over the hooks."""
        self._attributes.update(dict.fromkeys(self.names))

    def wake(self) -> None:
        """Let the Trainer call the hooks again."""
        for name in self.names:
            self._attributes.pop(name, None)


def silenceable(callback: Callback, owner: type, names: Iterable[str], trainer: Trainer) -> list[str]:
    """Return the hooks of a callback that nobody but the Trainer can miss.

    Args:
        callback: A callback of the run.
        owner: The class that knows when its hooks have nothing to do; what a subclass overrides is none of its.
        names: Names of hooks.
        trainer: The run.
    """
    # Another callback that holds this one and passes its hooks on would call what is None.
    if not any(one is callback for one in trainer.callbacks) or not passes_over_none(trainer):  # type: ignore[attr-defined]
        return []
    own = vars(callback)
    return [name for name in names if name not in own and getattr(type(callback), name) is getattr(owner, name)]
