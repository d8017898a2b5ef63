"""The causal plane: sensitivity against degeneracy, a path a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, ScalarFormatter

from lightning_foresight.plotting._limits import plain_ticks, widen
from lightning_foresight.plotting._paths import Path, draw_paths, time_of
from lightning_foresight.plotting._style import legend_below_panels, line_style, new_figure


def causal_plane(paths: Mapping[str, Path], *, unit: str = "bits") -> Figure:
    """Draw the causal plane (Marrow, Michaud & Hoel 2020, arXiv 2010.13871), and beside it EI_parts over training.

    EI_parts, the height above the diagonal, is constant along the dotted lines. In wide layers it is small against
    both coordinates, so that all paths seem to lie on the diagonal: the second panel shows it on a scale of its own.

    Args:
        paths: By layer, the epochs with degeneracy as ``x`` and sensitivity as ``y``.
        unit: Unit of all axes.

    Example:
        >>> from lightning_foresight.plotting.causal_plane import causal_plane
        >>> from lightning_foresight.plotting._paths import Path
        >>> figure = causal_plane({"fc1": Path(epochs=[0, 1], x=[1.0, 2.0], y=[3.0, 5.0])})
        >>> figure.axes[0].get_ylabel()
        'sensitivity in bits'
    """
    figure, (plane, over_time) = new_figure(width=9.6, height=4.2, columns=2)
    heights = {name: [y - x for x, y in zip(path.x, path.y, strict=True)] for name, path in paths.items()}
    handles = draw_paths(plane, paths)
    _draw_levels(plane, max((height for values in heights.values() for height in values), default=0.0))
    plane.set_xlabel(f"degeneracy in {unit}")
    plane.set_ylabel(f"sensitivity in {unit}")
    plane.set_title("Causal plane")
    legend_below_panels(figure, handles)

    time = time_of(paths)
    for index, (name, path) in enumerate(paths.items()):
        style = line_style(index, len(paths))
        over_time.plot(time.of(path.moments), heights[name], markersize=4, linewidth=1.4, **style)
    time.name(over_time, time.of(moment for path in paths.values() for moment in path.moments))
    over_time.set_ylabel(f"sensitivity \N{MINUS SIGN} degeneracy in {unit}")
    _fit_scale(over_time, [height for values in heights.values() for height in values])
    over_time.set_title("EI_parts, the height above the diagonal")
    return figure


def _fit_scale(axes: Axes, heights: Sequence[float]) -> None:
    """Show layers of unlike size on a logarithmic axis, where equal shares of each are equal steps."""
    lowest, highest = min(heights, default=0.0), max(heights, default=0.0)
    if lowest <= 0 or not 5 < highest / lowest < 1000:
        widen(axes, 0.02 * highest)
        plain_ticks(axes.yaxis)
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if highest / lowest < 100 else (1,)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_locator(NullLocator())


def _draw_levels(axes: Axes, highest: float) -> None:
    """Draw the diagonal, and lines of constant EI_parts at round values as far as paths reach."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    axes.axline((0, 0), slope=1, color="grey", linewidth=0.9, zorder=0)
    # Where all paths hug the diagonal, the second panel is the one to read.
    levels = MaxNLocator(nbins=4, steps=[1, 2, 5, 10]).tick_values(0, top - left) if highest > (top - left) / 10 else []
    for level in levels:
        if not 0 < level < min(2 * highest, 0.9 * (top - left)):
            continue
        axes.axline((0, level), slope=1, color="grey", alpha=0.6, linewidth=0.8, linestyle=":", zorder=0)
        axes.annotate(
            f"EI_parts {level:g}",
            (min(top - level, right), min(top, right + level)),
            xytext=(-3, -3),
            textcoords="offset points",
            fontsize="x-small",
            color="dimgrey",
            ha="right",
            va="top",
        )
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
