"""What figures count training in: epochs, or steps where epochs do not tell moments apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, Locator, MaxNLocator


class Moment(NamedTuple):
    """When something was measured."""

    step: int
    epoch: float


class HasMoment(Protocol):
    """A :class:`Moment`, or a row of a history."""

    @property
    def step(self) -> int:
        """The step under which it is logged."""

    @property
    def epoch(self) -> float:
        """Epochs completed."""


class TimeAxis(NamedTuple):
    """What an axis or a colour bar counts.

    Attributes:
        label: Its name.
        in_steps: Whether it counts steps instead of epochs.
    """

    label: str
    in_steps: bool

    def of(self, moments: Iterable[HasMoment]) -> list[float]:
        """Return where moments are on the axis."""
        return [moment.step if self.in_steps else moment.epoch for moment in moments]

    def name(self, axes: Axes, times: Sequence[float]) -> None:
        """Name the horizontal axis, with ticks at whole epochs or steps."""
        axes.set_xlabel(self.label)
        locator = time_locator(times)
        if locator is not None:
            axes.xaxis.set_major_locator(locator)


def time_axis(moments: Iterable[HasMoment]) -> TimeAxis:
    """Return the axis for all that a figure shows.

    Within an epoch whose length nobody knows, as of an ``IterableDataset``, epochs stand still.
    """
    moments = list(moments)
    in_steps = len({moment.step for moment in moments}) > len({moment.epoch for moment in moments})
    return TimeAxis("step" if in_steps else "epochs completed", in_steps)


def time_locator(times: Sequence[float]) -> Locator | None:
    """Return whole epochs or steps as ticks, or None where all there is happened within an epoch."""
    if len(set(times)) == 1:
        return FixedLocator(times[:1])
    within = bool(times) and max(times) - min(times) < 2 and any(time % 1 for time in times)
    return None if within else MaxNLocator(nbins=7, integer=True)
