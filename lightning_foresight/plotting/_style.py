"""The look that all figures share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

# Okabe & Ito: distinguishable for the colour-blind, and in print.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#A0A000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# A legend names so many lines. Of more, colours follow the order of the lines, which tells where the others are.
NAMED = 16
SEQUENCE, SEQUENCE_END = "plasma", 0.9  # beyond it is too light for a white page
_TEX = re.compile(r"\\[a-z]+|[${}_]")


def new_figure(width: float = 5.6, height: float = 4.3, columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure with its axes, made without pyplot: no global state and nothing to close.

    Axes under one another have the horizontal axis in common.
    """
    # White on every page: the colours are chosen for it, and a dark page would swallow transparent labels.
    figure = Figure(figsize=(width, height), layout="constrained", dpi=150, facecolor="white")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex="col").flat)
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.25, linewidth=0.6)
    return figure, axes


def line_style(index: int, count: int = 1) -> dict[str, Any]:
    """Return colour and marker of the ``index``-th of ``count`` lines."""
    turn, place = divmod(index, len(COLORS))
    if count > NAMED:
        return {"color": colormaps[SEQUENCE](SEQUENCE_END * index / (count - 1)), "marker": MARKERS[place]}
    # The second of a colour has another marker.
    return {"color": COLORS[place], "marker": MARKERS[(index + 3 * turn) % len(MARKERS)]}


def draw_band(
    axes: Axes,
    times: Sequence[float],
    lower: Sequence[float],
    upper: Sequence[float],
    color: str,
    *,
    alpha: float,
    label: str = "",
) -> None:
    """Draw intervals over time as a band; a single one as a bar, since a band from it to itself has no area."""
    if len(times) == 1:
        axes.vlines(times, lower, upper, color=color, alpha=0.6, linewidth=1.5, zorder=1, label=label)
    else:
        axes.fill_between(times, lower, upper, color=color, alpha=alpha, linewidth=0, label=label)


def epoch_colors(count: int) -> str:
    """Return the colour map of time, which no colour of ``count`` lines is taken for."""
    return "viridis" if count <= NAMED else "Greys"


def abridged(handles: Sequence[Artist], most: int = NAMED) -> list[Artist]:
    """Return what a legend has room for: of too many lines some, at equal distances from the first to the last."""
    if len(handles) <= most:
        return list(handles)
    chosen = [handles[round(place * (len(handles) - 1) / (most - 2))] for place in range(most - 1)]
    rest = Line2D([], [], linestyle="none", label=f"and {len(handles) - len(chosen)} between, in order")
    return [*chosen, rest]


def legend_below(axes: Axes, handles: Sequence[Artist]) -> None:
    """Put the legend under the axes, where it hides no path and no band, and make room for it."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    under_the_label = axes.transAxes + ScaledTranslation(0, -40 / 72, figure.dpi_scale_trans)
    axes.legend(
        handles=list(handles),
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=under_the_label,
        borderaxespad=0,
        **_legend_look(figure, handles),
    )


def legend_below_panels(figure: Figure, handles: Sequence[Artist]) -> None:
    """Put one legend under all panels of a figure, as wide as they are together, and make room for it."""
    figure.legend(handles=list(handles), loc="outside lower center", **_legend_look(figure, handles))


def _legend_look(figure: Figure, handles: Sequence[Artist]) -> dict[str, Any]:
    """Return a legend's arguments, after making the figure taller by its lines."""
    longest = max(len(_TEX.sub("", str(handle.get_label()))) for handle in handles)
    columns = int(0.85 * figure.get_figwidth() / (0.5 + 0.06 * longest))  # inches of a line, and of a letter
    columns = max(1, min(4, columns))
    rows = -(-len(handles) // columns)
    figure.set_figheight(figure.get_figheight() + 0.19 * (rows - 1))
    return {
        "ncols": columns,
        "fontsize": "small",
        "frameon": False,
        "handlelength": 1.6,
        "columnspacing": 1.2,
    }
