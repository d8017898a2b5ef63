"""Values of unlike level over training, each in a panel of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from lightning_foresight.plotting._limits import plain_ticks, widen
from lightning_foresight.plotting._style import line_style, new_figure
from lightning_foresight.plotting._time import time_axis

if TYPE_CHECKING:
    from lightning_foresight.history import Row

_LEAST = 0.01  # of the vertical axis


def panels(lines: Mapping[str, Sequence[Row]], *, ylabel: str, title: str = "") -> Figure:
    """Draw rows of a history over training, stacked under one another with the horizontal axis in common.

    Args:
        lines: Rows by label; labels stand over the panels.
        ylabel: Label of all vertical axes, with the unit.
        title: Title of the figure.

    Example:
        >>> import torch
        >>> from lightning_foresight.history import History
        >>> from lightning_foresight.plotting.panels import panels
        >>> history = History()
        >>> history.add(step=0, epoch=0.0, key="ei/network", value=torch.tensor(1.0))
        >>> panels({"EI": history["ei/network"]}, ylabel="bits").axes[0].get_xlabel()
        'epochs completed'
    """
    figure, stack = new_figure(height=0.8 + 1.4 * len(lines), rows=len(lines))
    time = time_axis(row for rows in lines.values() for row in rows)
    for index, (axes, (label, rows)) in enumerate(zip(stack, lines.items(), strict=True)):
        axes.plot(time.of(rows), [row.value for row in rows], markersize=4, linewidth=1.4, **line_style(index))
        axes.set_title(label, loc="left", fontsize="small")
        axes.set_ylabel(ylabel)
        widen(axes, _LEAST)
        plain_ticks(axes.yaxis)
    time.name(stack[-1], time.of(row for rows in lines.values() for row in rows))
    figure.suptitle(title, fontsize="large")
    return figure
