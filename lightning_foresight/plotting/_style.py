"""The look that all figures share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, Locator, MaxNLocator
from matplotlib.transforms import ScaledTranslation

# Okabe & Ito: distinguishable for the colour-blind, and in print.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#A0A000")
# Of more lines than that, colours in the order of the lines: those of neighbours are alike, and none occurs twice.
SEQUENCE, SEQUENCE_END = "plasma", 0.9  # beyond it is too light for a white page
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
EPOCH_COLORS = "viridis"
EPOCHS = "epochs completed"
_TEX = re.compile(r"\\[a-z]+|[${}_]")


def new_figure(width: float = 5.6, height: float = 4.3, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure with a row of axes, made without pyplot: no global state and nothing to close."""
    # White on every page: the colours are chosen for it, and a dark page would swallow transparent labels.
    figure = Figure(figsize=(width, height), layout="constrained", dpi=150, facecolor="white")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.25, linewidth=0.6)
    return figure, list(axes)


def line_style(index: int, count: int = 1) -> dict[str, Any]:
    """Return colour and marker of the ``index``-th of ``count`` lines."""
    color: Any = COLORS[index % len(COLORS)]
    if count > len(COLORS):
        color = colormaps[SEQUENCE](SEQUENCE_END * index / (count - 1))
    return {"color": color, "marker": MARKERS[index % len(MARKERS)]}


def abridged(handles: Sequence[Artist], most: int = 16) -> list[Artist]:
    """Return what a legend has room for: of too many lines some, at equal distances from the first to the last."""
    if len(handles) <= most:
        return list(handles)
    chosen = [handles[round(place * (len(handles) - 1) / (most - 2))] for place in range(most - 1)]
    rest = Line2D([], [], linestyle="none", label=f"and {len(handles) - len(chosen)} between, in order")
    return [*chosen, rest]


def epoch_locator(epochs: Sequence[float]) -> Locator | None:
    """Return whole epochs as ticks, or None where all there is happened within an epoch."""
    if len(set(epochs)) == 1:
        return FixedLocator(epochs[:1])
    within = bool(epochs) and max(epochs) - min(epochs) < 2 and any(epoch % 1 for epoch in epochs)
    return None if within else MaxNLocator(nbins=7, integer=True)


def label_epochs(axes: Axes, epochs: Iterable[float]) -> None:
    """Name the horizontal axis, with ticks at whole epochs."""
    axes.set_xlabel(EPOCHS)
    locator = epoch_locator(list(epochs))
    if locator is not None:
        axes.xaxis.set_major_locator(locator)


def legend_below(axes: Axes, handles: Sequence[Artist], panels: int = 1) -> None:
    """Put the legend under the axes, where it hides no path and no band, and make room for it.

    Args:
        axes: The first of the figure's panels.
        handles: What to name.
        panels: Panels of the figure beside each other.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    longest = max(len(_TEX.sub("", str(handle.get_label()))) for handle in handles)
    columns = int(0.85 * figure.get_figwidth() / panels / (0.5 + 0.06 * longest))  # inches of a line, and of a letter
    columns = max(1, min(4, columns))
    rows = -(-len(handles) // columns)
    figure.set_figheight(figure.get_figheight() + 0.19 * (rows - 1))
    under_the_label = axes.transAxes + ScaledTranslation(0, -40 / 72, figure.dpi_scale_trans)
    axes.legend(
        handles=list(handles),
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=under_the_label,
        borderaxespad=0,
        ncols=columns,
        fontsize="small",
        frameon=False,
        handlelength=1.6,
        columnspacing=1.2,
    )
