"""Saying once that measurements take long: how long, for which layer, and what to set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

from lightning_utilities.core.rank_zero import rank_zero_info

LONG = 2.0  # seconds
SHARE = 0.1  # of the time since training began


class CostReport:
    """Adds up the time spent in hooks; nothing here waits for the device.

    Args:
        owner: Name of the callback, for the text.
        arguments: Its arguments that make a measurement cheaper.
    """

    def __init__(self, owner: str, arguments: Sequence[str]) -> None:
        self.owner = owner
        self.arguments = tuple(arguments)
        self._began = perf_counter()
        self._layers: dict[str, float] = {}
        self._seconds = self._total = 0.0
        self._num_measurements = 0
        self._told = False

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Count the time of a measurement."""
        self._num_measurements += 1
        with self.waiting():
            yield

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time until the values of the measurements so far have come from the device."""
        start = perf_counter()
        try:
            yield
        finally:
            self._seconds += perf_counter() - start

    @contextmanager
    def layer(self, name: str) -> Iterator[None]:
        """Count the time of a layer within a measurement."""
        start = perf_counter()
        try:
            yield
        finally:
            self._layers[name] = self._layers.get(name, 0.0) + perf_counter() - start

    def report(self, moment: str | None) -> None:
        """Tell of the measurements since the last report, if they were long or all of them are much of the run.

        Args:
            moment: Step and epoch, in words; ``None`` before training, when there is nothing to be a share of.
        """
        number, layers = max(self._num_measurements, 1), self._layers
        seconds = self._seconds / number
        self._total += self._seconds
        self._seconds, self._num_measurements, self._layers = 0.0, 0, {}
        share = self._total / max(perf_counter() - self._began, self._total)
        # A run of a few seconds is nobody's concern, whatever the share.
        if self._told or self._total < LONG or (seconds < LONG and share < SHARE):
            return
        self._told = True
        longest = max(layers, key=layers.__getitem__, default=None)
        layer = "" if longest is None else f", {layers[longest] / number:.1f} s of it layer {longest!r}"
        spent = "" if moment is None else f"; until {moment} measuring was {share:.0%} of the training time"
        *some, last = (f"{argument}=" for argument in self.arguments)
        rank_zero_info(
            f"{self.owner}: a measurement takes {seconds:.1f} s{layer}{spent}. To spend less, set {', '.join(some)} or "
            f"{last}."
        )
