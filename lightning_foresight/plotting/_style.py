"""The look that all figures share."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe & Ito: distinguishable for the colour-blind, and in print.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#A0A000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
EPOCH_COLORS = "viridis"


def new_figure(width: float = 6.4, height: float = 4.8, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure with a row of axes, made without pyplot: no global state and nothing to close."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=130)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.25, linewidth=0.6)
    return figure, list(axes)


def line_style(index: int) -> dict[str, Any]:
    """Return colour and marker of the ``index``-th line."""
    return {"color": COLORS[index % len(COLORS)], "marker": MARKERS[index % len(MARKERS)]}
