"""Paths through a plane, one a layer, coloured by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from lightning_foresight.plotting._style import EPOCH_COLORS, EPOCHS, abridged, epoch_locator, line_style


class Path(NamedTuple):
    """Where a layer was at which epoch; ``x_interval`` and ``y_interval`` are (lower, upper) where known."""

    epochs: Sequence[float]
    x: Sequence[float]
    y: Sequence[float]
    x_interval: tuple[Sequence[float], Sequence[float]] | None = None
    y_interval: tuple[Sequence[float], Sequence[float]] | None = None


def draw_paths(axes: Axes, paths: Mapping[str, Path]) -> list[Artist]:
    """Draw paths with a marker a layer, colours from first to last epoch, and a colour bar; return legend handles."""
    epochs = [epoch for path in paths.values() for epoch in path.epochs]
    first, last = min(epochs, default=0.0), max(epochs, default=0.0)
    # Networks change fast at first: long runs are coloured by the logarithm of the epoch.
    norm = SymLogNorm(linthresh=1, vmin=first, vmax=last) if last > 50 else Normalize(first, max(last, first + 1e-9))
    handles, scatter = [], None
    for index, (name, path) in enumerate(paths.items()):
        color, marker = line_style(index, len(paths)).values()
        axes.plot(path.x, path.y, color=color, linewidth=1, alpha=0.5, zorder=1)
        across, up = _half_widths(path.x, path.x_interval), _half_widths(path.y, path.y_interval)
        if across or up:
            # Only where the path ends: intervals all along it would hide it.
            axes.errorbar(
                path.x[-1:],
                path.y[-1:],
                xerr=across,
                yerr=up,
                fmt="none",
                ecolor=color,
                alpha=0.6,
                linewidth=1.2,
                capsize=3,
                zorder=1,
            )
        scatter = axes.scatter(
            path.x,
            path.y,
            c=path.epochs,
            cmap=EPOCH_COLORS,
            norm=norm,
            marker=marker,
            s=34,
            edgecolors=color,
            linewidths=0.9,
            zorder=2,
        )
        handles.append(Line2D([], [], color=color, marker=marker, markerfacecolor="white", label=name))
    if scatter is not None and axes.figure is not None:
        bar = axes.figure.colorbar(scatter, ax=axes, label=EPOCHS)
        if not isinstance(norm, SymLogNorm) and (locator := epoch_locator(epochs)) is not None:
            bar.locator = locator
            bar.update_ticks()
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda epoch, _: f"{epoch:g}"))
    return abridged(handles)


def _half_widths(
    centre: Sequence[float], interval: tuple[Sequence[float], Sequence[float]] | None
) -> tuple[list[float], list[float]] | None:
    if interval is None or math.isnan(interval[0][-1] + interval[1][-1]):
        return None
    below = max(0.0, centre[-1] - interval[0][-1])
    above = max(0.0, interval[1][-1] - centre[-1])
    return [below], [above]


def plane_paths(table: Mapping[str, Mapping[str, Sequence[float]]], prefix: str, *, x: str, y: str) -> dict[str, Path]:
    """Return the path of every layer that has both ``<prefix>/<layer>/<x>`` and ``.../<y>``, where measured together.

    Args:
        table: A history as :meth:`~lightning_foresight.history.History.to_dict` returns it.
        prefix: First segment of the keys.
        x: Last segment of the keys of the horizontal values.
        y: Last segment of the keys of the vertical values.
    """
    paths = {}
    for key, columns in table.items():
        if not (key.startswith(f"{prefix}/") and key.endswith(f"/{x}")):
            continue
        layer = key[len(prefix) + 1 : -len(x) - 1]
        other = table.get(f"{prefix}/{layer}/{y}")
        if other is None:
            continue
        rows_x = _by_moment(columns)
        rows_y = _by_moment(other)
        moments = [moment for moment in rows_x if moment in rows_y]
        across, up = [rows_x[moment] for moment in moments], [rows_y[moment] for moment in moments]
        paths[layer] = Path(
            [epoch for _, epoch in moments],
            [value for value, _, _ in across],
            [value for value, _, _ in up],
            ([low for _, low, _ in across], [high for _, _, high in across]),
            ([low for _, low, _ in up], [high for _, _, high in up]),
        )
    return paths


def _by_moment(columns: Mapping[str, Sequence[float]]) -> dict[tuple[float, float], tuple[float, float, float]]:
    moments = zip(columns["step"], columns["epoch"], strict=True)
    values = zip(columns["value"], columns["lower"], columns["upper"], strict=True)
    return dict(zip(moments, values, strict=True))
