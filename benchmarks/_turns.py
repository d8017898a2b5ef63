"""Training runs side by side: one at a time goes on for some steps, so that their times can be compared turn by turn.

The speed of a virtual machine changes from second to second. Of runs one after the other it decides the ratio; turns of
a tenth of a second, each beside one of every other run, share it.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytorch_lightning as pl
import torch


class Baton:
    """Lets one thread run at a time, in an order that is known beforehand.

    Args:
        order: Names of the runs; whoever passes the baton on gives it to the next of the list.
    """

    def __init__(self, order: Sequence[str]) -> None:
        self.order = iter(order)
        self.error: BaseException | None = None
        self.gates = {name: threading.Semaphore(0) for name in order}

    def wait(self, name: str) -> None:
        """Wait for one's turn."""
        self.gates[name].acquire()
        if self.error is not None:
            raise RuntimeError("another run failed")

    def pass_on(self) -> None:
        """Let the next run go on."""
        following = next(self.order, None)
        if following is not None:
            self.gates[following].release()

    def fail(self, error: BaseException) -> None:
        """End all runs."""
        self.error = self.error or error
        for gate in self.gates.values():
            gate.release()


class Turns(pl.Callback):
    """Stops a run at the end of each of its turns and takes the turn's CPU time; to be listed before other callbacks.

    Args:
        name: Of the run.
        baton: Shared by the runs.
        first: Batches before the first turn: they warm up, and place the turns among the steps that are observed.
        length: Batches of a turn.
        untimed: Batches at the beginning of a turn that are left out: caches hold what another run left.
    """

    def __init__(self, name: str, baton: Baton, *, first: int, length: int, untimed: int) -> None:
        self.name, self.baton = name, baton
        self.first, self.length, self.untimed = first, length, untimed
        self.num_batches = 0
        self.begun: float | None = None
        self.seconds: list[float] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        place = (self.num_batches - self.first) % self.length if self.num_batches >= self.first else -1
        self.num_batches += 1
        if place == 0:
            if self.begun is not None:
                self.seconds.append(time.thread_time() - self.begun)
            self.baton.pass_on()
            self.baton.wait(self.name)
        if place == self.untimed:
            self.begun = time.thread_time()


def take_turns(
    fits: Mapping[str, Callable[[pl.Callback], None]], *, rounds: int, first: int, length: int, untimed: int
) -> dict[str, np.ndarray]:
    """Train all runs at the same time in turns; return the CPU seconds of every turn, shape (rounds,) each.

    In each round every run has one turn; every other round goes the other way round, so that none is always first.

    Args:
        fits: By name, what trains a run with a further callback, for ``first + rounds * length + 1`` batches or more.
        rounds: Turns of each run.
        first: Batches before the first turn.
        length: Batches of a turn.
        untimed: How many of them, at its beginning, are not timed.
    """
    names = list(fits)
    order = [*names]  # warm up
    for number in range(rounds):
        order += names if number % 2 == 0 else names[::-1]
    baton = Baton([*order, *names])  # finish
    turns = {name: Turns(name, baton, first=first, length=length, untimed=untimed) for name in names}

    def run(name: str) -> None:
        try:
            torch.set_num_threads(1)
            baton.wait(name)
            fits[name](turns[name])
            baton.pass_on()
        except BaseException as error:
            baton.fail(error)

    threads = [threading.Thread(target=run, args=(name,)) for name in names]
    gc.collect()
    gc.freeze()  # else collecting what was there before falls on some turn
    for thread in threads:
        thread.start()
    baton.pass_on()
    for thread in threads:
        thread.join()
    gc.unfreeze()
    if baton.error is not None:
        raise baton.error
    return {name: np.array(turns[name].seconds[:rounds]) for name in names}
