"""Hooks that Lightning passes over at steps that have nothing for them: at a small network its calls cost most."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING

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


def silenced(callback: Callback, names: Iterable[str]) -> list[str]:
    """Return the hooks that the Trainer passes over at the moment."""
    own = vars(callback)
    return [name for name in names if name in own and own[name] is None]


def wake(callback: Callback, names: Iterable[str]) -> None:
    """Let the Trainer call hooks again, whoever silenced them."""
    for name in silenced(callback, names):
        delattr(callback, name)


class QuietHooks:
    """Sets hooks of a callback to ``None`` and back.

    Lightning calls every hook of every callback in a context of its profiler, which takes longer than a hook that
    finds nothing to do; it tests first whether the hook can be called.

    Args:
        callback: Whose hooks.
        names: Names of the hooks.
    """

    def __init__(self, callback: Callback, names: Iterable[str]) -> None:
        self.callback = callback  # not its attributes, which a copy would share with nobody
        self.names = tuple(names)

    def hush(self) -> None:
        """Let the Trainer pass over the hooks."""
        own = vars(self.callback)
        for name in self.names:
            own.setdefault(name)  # what the user sets on the instance stays

    def wake(self) -> None:
        """Let the Trainer call the hooks again."""
        wake(self.callback, self.names)


def silenceable(callback: Callback, owner: type, names: Iterable[str], trainer: Trainer) -> list[str]:
    """Return the hooks of a callback if nobody but the Trainer can miss them, else none.

    All or nothing: a hook that is called at every step leaves notes for the next one, which must then be called, too.

    Args:
        callback: A callback of the run.
        owner: The class that knows when its hooks have nothing to do; of what a subclass overrides it cannot know.
        names: Names of hooks.
        trainer: The run.
    """
    # Another callback that holds this one and passes its hooks on would call what is None.
    if not any(one is callback for one in trainer.callbacks) or not passes_over_none(trainer):  # type: ignore[attr-defined]
        return []
    own, names = vars(callback), list(names)
    plain = all(name not in own and getattr(type(callback), name) is getattr(owner, name) for name in names)
    return names if plain else []
