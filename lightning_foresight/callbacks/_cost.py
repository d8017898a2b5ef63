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
        self._now = self._total = 0.0
        self._told = False

    @contextmanager
    def counting(self, layer: str | None = None) -> Iterator[None]:
        """Count the time of a block, as a whole or as that of a layer within."""
        start = perf_counter()
        try:
            yield
        finally:
            seconds = perf_counter() - start
            if layer is None:
                self._now += seconds
            else:
                self._layers[layer] = self._layers.get(layer, 0.0) + seconds

    def report(self, moment: str) -> None:
        """Tell of the measurement that just ended, if it was long or all of them are a large share of the run.

        Args:
            moment: Step and epoch, in words.
        """
        seconds, layers = self._now, self._layers
        self._now, self._layers = 0.0, {}
        self._total += seconds
        share = self._total / max(perf_counter() - self._began, self._total)
        # A run of a few seconds is nobody's concern, whatever the share.
        if self._told or self._total < LONG or (seconds < LONG and share < SHARE):
            return
        self._told = True
        longest = max(layers, key=layers.__getitem__, default=None)
        layer = "" if longest is None else f", {layers[longest]:.1f} s of it layer {longest!r}"
        *some, last = (f"{argument}=" for argument in self.arguments)
        rank_zero_info(
            f"{self.owner}: the measurement at {moment} took {seconds:.1f} s{layer}; all so far are {share:.0%} of the "
            f"time since training began. To spend less, set {', '.join(some)} or {last}."
        )
