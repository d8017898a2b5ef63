"""Values over training, with their intervals as bands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lightning_foresight.plotting._limits import limit_label, plain_ticks, stand_ins, view
from lightning_foresight.plotting._style import abridged, draw_band, legend_below, line_style, new_figure
from lightning_foresight.plotting._time import TimeAxis, time_axis

if TYPE_CHECKING:
    from lightning_foresight.history import Row


def curves(
    lines: Mapping[str, Sequence[Row]],
    *,
    ylabel: str,
    title: str = "",
    nulls: Mapping[str, Sequence[Row]] | None = None,
    limit: float | None = None,
    bands: str = "",
) -> Figure:
    """Draw rows of a history over training, a line a label, with a band where a row has an interval.

    Args:
        lines: Rows by label.
        ylabel: Label of the vertical axis, with the unit.
        title: Title of the figure.
        nulls: What each line would be if there were nothing to measure, by label; dashed, in the line's colour.
        limit: Largest value that the samples can express, log2 n; a line where values come near. Bands may go beyond
            it, and out of the figure.
        bands: What the bands are, for the legend, where they are no 95% interval.

    Example:
        >>> import torch
        >>> from lightning_foresight.history import History
        >>> from lightning_foresight.plotting.curves import curves
        >>> history = History()
        >>> history.add(step=0, epoch=0.0, key="ei/network", value=torch.tensor(1.0))
        >>> curves({"network": history["ei/network"]}, ylabel="EI in bits").axes[0].get_xlabel()
        'epochs completed'
    """
    figure, (axes,) = new_figure()
    time = time_axis(row for rows in lines.values() for row in rows)
    bottom, top = stand_ins(end for rows in lines.values() for row in rows for end in (row.value, row.lower, row.upper))
    handles: list[Artist] = []
    for index, (label, rows) in enumerate(lines.items()):
        style = line_style(index, len(lines))
        times = time.of(rows)
        handles += axes.plot(times, [row.value for row in rows], label=label, markersize=4, linewidth=1.4, **style)
        if any(row.has_interval for row in rows):
            lower, upper = [max(row.lower, bottom) for row in rows], [min(row.upper, top) for row in rows]
            draw_band(axes, times, lower, upper, style["color"], alpha=0.15)
        if nulls and label in nulls:
            null = nulls[label]
            axes.plot(time.of(null), [row.value for row in null], "--", color=style["color"])
    handles = abridged(handles)
    if nulls:
        handles += axes.plot([], [], "--", color="grey", label="null: chance, labels shuffled")
    if bands and axes.collections:
        handles.append(Patch(color="grey", alpha=0.3, linewidth=0, label=bands))
    if limit is not None and _frame(axes, lines, limit, time):
        handles += axes.plot([], [], "^", color="grey", markersize=5, label="goes on above")
    if limit is not None and limit < axes.get_ylim()[1]:
        label = limit_label((row.value for rows in lines.values() for row in rows), limit)
        handles.append(axes.axhline(limit, color="grey", linestyle="--", linewidth=1, zorder=0, label=label))
    time.name(axes, time.of(row for rows in lines.values() for row in rows))
    axes.set_ylabel(ylabel)
    axes.set_title(title)
    if len(handles) > 1:
        legend_below(axes, handles)
    return figure


def _frame(axes: Axes, lines: Mapping[str, Sequence[Row]], limit: float, time: TimeAxis) -> bool:
    """Keep to what the samples can express, with an arrow where a band ends beyond it; say if there is one."""
    rows = [row for rows in lines.values() for row in rows]
    ends = [end for row in rows for end in (row.value, row.lower) if math.isfinite(end)]
    bottom, top = view(ends, limit, axes.get_ylim()[1])
    axes.set_ylim(bottom, top)
    plain_ticks(axes.yaxis)
    last = [(index, of_line[-1]) for index, of_line in enumerate(lines.values())]
    beyond = [(index, row) for index, row in last if row.has_interval and row.upper > top]
    for index, row in beyond:
        color = line_style(index, len(lines))["color"]
        axes.plot(time.of([row]), [top], "^", color=color, markersize=5, clip_on=False)
    return bool(beyond)
