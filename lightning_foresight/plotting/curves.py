"""Values over training, with their intervals as bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from lightning_foresight.plotting._style import abridged, label_epochs, legend_below, line_style, new_figure

if TYPE_CHECKING:
    from lightning_foresight.history import Row


def curves(
    lines: Mapping[str, Sequence[Row]],
    *,
    ylabel: str,
    title: str = "",
    nulls: Mapping[str, Sequence[Row]] | None = None,
) -> Figure:
    """Draw rows of a history over epochs, a line a label, with a band where a row has an interval.

    Args:
        lines: Rows by label.
        ylabel: Label of the vertical axis, with the unit.
        title: Title of the figure.
        nulls: What each line would be if there were nothing to measure, by label; dashed, in the line's colour.

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
    handles: list[Artist] = []
    for index, (label, rows) in enumerate(lines.items()):
        style = line_style(index, len(lines))
        epochs = [row.epoch for row in rows]
        handles += axes.plot(epochs, [row.value for row in rows], label=label, markersize=4, linewidth=1.4, **style)
        if any(row.has_interval for row in rows):
            axes.fill_between(
                epochs,
                [row.lower for row in rows],
                [row.upper for row in rows],
                color=style["color"],
                alpha=0.15,
                linewidth=0,
            )
        if nulls and label in nulls:
            null = nulls[label]
            axes.plot([row.epoch for row in null], [row.value for row in null], "--", color=style["color"])
    handles = abridged(handles)
    if nulls:
        handles += axes.plot([], [], "--", color="grey", label="null: labels shuffled")
    label_epochs(axes, [row.epoch for rows in lines.values() for row in rows])
    axes.set_ylabel(ylabel)
    axes.set_title(title)
    if len(handles) > 1:
        legend_below(axes, handles)
    return figure
