"""Paths through a plane, one a layer, coloured by epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from lightning_foresight.plotting._limits import stand_ins
from lightning_foresight.plotting._style import COLORS, abridged, epoch_colors, line_style
from lightning_foresight.plotting._time import Moment, TimeAxis, time_axis, time_locator

Interval: TypeAlias = tuple[Sequence[float], Sequence[float]]


class Path(NamedTuple):
    """Where a layer was at which epoch; ``x_interval`` and ``y_interval`` are (lower, upper) where known.

    ``steps`` stand in for epochs that do not tell moments apart.
    """

    epochs: Sequence[float]
    x: Sequence[float]
    y: Sequence[float]
    x_interval: Interval | None = None
    y_interval: Interval | None = None
    steps: Sequence[int] = ()

    @property
    def moments(self) -> list[Moment]:
        """When the layer was where."""
        steps = self.steps or [0] * len(self.epochs)
        return [Moment(step, epoch) for step, epoch in zip(steps, self.epochs, strict=True)]


def time_of(paths: Mapping[str, Path]) -> TimeAxis:
    """Return what all paths of a figure are counted in."""
    return time_axis(moment for path in paths.values() for moment in path.moments)


def draw_paths(axes: Axes, paths: Mapping[str, Path]) -> list[Artist]:
    """Draw paths with a marker a layer, colours from first to last epoch, and a colour bar; return legend handles."""
    time = time_of(paths)
    times = time.of(moment for path in paths.values() for moment in path.moments)
    norm = _norm(times)
    handles, scatter = [], None
    x_ends = stand_ins(_all_of((path.x, path.x_interval) for path in paths.values()))
    y_ends = stand_ins(_all_of((path.y, path.y_interval) for path in paths.values()))
    for index, (name, path) in enumerate(paths.items()):
        color, marker = line_style(index, len(paths)).values()
        axes.plot(path.x, path.y, color=color, linewidth=1, alpha=0.5, zorder=1)
        across, up = _half_widths(path.x, path.x_interval, x_ends), _half_widths(path.y, path.y_interval, y_ends)
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
            c=time.of(path.moments),
            cmap=epoch_colors(len(paths)),
            norm=norm,
            marker=marker,
            s=34 if len(paths) <= len(COLORS) else 16,
            edgecolors=color,
            linewidths=0.9,
            zorder=2,
        )
        handles.append(Line2D([], [], color=color, marker=marker, markerfacecolor="white", label=name))
    if scatter is not None and axes.figure is not None:
        bar = axes.figure.colorbar(scatter, ax=axes, label=time.label)
        if not isinstance(norm, SymLogNorm) and (locator := time_locator(times)) is not None:
            bar.locator = locator
            bar.update_ticks()
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda time, _: f"{time:.12g}"))
    return abridged(handles)


def _norm(times: Sequence[float]) -> Normalize:
    """Return how times become colours: networks change fast at first, so that long runs go by the logarithm."""
    first, last = min(times, default=0.0), max(times, default=0.0)
    start = max(1.0, min((time for time in times if time > 0), default=1.0))
    if last > 50 * start:
        return SymLogNorm(linthresh=start, vmin=first, vmax=last)
    return Normalize(first, max(last, first + 1e-9))


def _all_of(parts: Iterable[tuple[Sequence[float], Interval | None]]) -> Iterator[float]:
    for centre, interval in parts:
        for values in (centre, *(interval or ())):
            yield from values


def _half_widths(
    centre: Sequence[float], interval: Interval | None, ends: tuple[float, float]
) -> tuple[list[float], list[float]] | None:
    if interval is None or math.isnan(interval[0][-1]) or math.isnan(interval[1][-1]):
        return None
    below = max(0.0, centre[-1] - max(interval[0][-1], ends[0]))
    above = max(0.0, min(interval[1][-1], ends[1]) - centre[-1])
    return [below], [above]


def plane_paths(table: Mapping[str, Mapping[str, Sequence[Any]]], prefix: str, *, x: str, y: str) -> dict[str, Path]:
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
            [step for step, _ in moments],
        )
    return paths


def _by_moment(columns: Mapping[str, Sequence[Any]]) -> dict[tuple[int, float], tuple[float, float, float]]:
    moments = zip(columns["step"], columns["epoch"], strict=True)
    values = zip(columns["value"], columns["lower"], columns["upper"], strict=True)
    return dict(zip(moments, values, strict=True))
