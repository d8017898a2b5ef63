"""The part of an axis that is shown where samples limit what a value can be."""

from __future__ import annotations

import math
from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator, ScalarFormatter

# In bits: so near the limit another draw of the noise moves a value by about as much.
_LEAST = 0.02
_SATURATED = 0.95


def view(values: Iterable[float], limit: float, far: float) -> tuple[float, float]:
    """Return what to show: from the smallest value to what is drawn farthest, or to a little beyond the limit.

    Args:
        values: The values.
        limit: The largest one that there can be; intervals may go beyond it.
        far: Where all that is drawn ends.
    """
    lowest = min(values, default=limit)
    high = min(far, limit + 0.1 * max(limit - lowest, _LEAST))
    return min(lowest - 0.05 * (high - lowest), high - _LEAST), high


def stand_ins(values: Iterable[float]) -> tuple[float, float]:
    """Return what to draw for ends at minus and plus infinity, which is as far from all else as this is wide.

    Args:
        values: All that is drawn, ends of intervals among it.
    """
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    return low - max(high - low, 1.0), high + max(high - low, 1.0)


def widen(axes: Axes, least: float) -> None:
    """Show no less than so much of the vertical axis: closer up, the rounding of a constant reads as a change."""
    low, high = axes.get_ylim()
    missing = max(0.0, least - (high - low))
    axes.set_ylim(low - missing / 2, high + missing / 2)


def limit_label(values: Iterable[float], limit: float) -> str:
    """Return the name of the limit, and that all values are at it, where the axis alone would make much of little."""
    saturated = min(values, default=0.0) > _SATURATED * limit
    return f"log$_2$ n = {limit:.2f}" + (", all saturated" if saturated else "")


def plain_ticks(axis: Axis) -> None:
    """Write ticks out, fewer where they are long: an offset apart from them is overlooked."""
    low, high = axis.get_view_interval()
    formatter = ScalarFormatter(useOffset=False)
    axis.set_major_formatter(formatter)
    if high - low < 0.3:
        axis.set_major_locator(MaxNLocator(nbins=4))
