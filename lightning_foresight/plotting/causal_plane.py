"""The causal plane: sensitivity against degeneracy, a path a layer."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lightning_foresight.plotting._paths import Path, draw_paths
from lightning_foresight.plotting._style import line_style, new_figure


def causal_plane(paths: Mapping[str, Path], *, unit: str = "bits") -> Figure:
    """Draw the causal plane (Marrow, Michaud & Hoel 2020, arXiv 2010.13871), and beside it EI over training.

    EI, the distance from the diagonal, is constant along the grey lines. In wide layers it is small against both
    coordinates, so that all paths seem to lie on the diagonal: the second panel shows it on a scale of its own.

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
    figure, (plane, over_time) = new_figure(width=11, columns=2)
    draw_paths(plane, paths)
    _draw_levels(plane)
    plane.set_xlabel(f"degeneracy in {unit}")
    plane.set_ylabel(f"sensitivity in {unit}")
    plane.set_title("Causal plane")

    for index, path in enumerate(paths.values()):
        information = [y - x for x, y in zip(path.x, path.y, strict=True)]
        over_time.plot(path.epochs, information, markersize=4, linewidth=1.4, **line_style(index))
    over_time.set_xlabel("epochs completed")
    over_time.set_ylabel(f"EI = sensitivity - degeneracy, in {unit}")
    over_time.set_ylim(bottom=0)
    over_time.set_title("Distance from the diagonal")
    return figure


def _draw_levels(axes: Axes) -> None:
    """Draw the lines of constant EI at round values, labelled along the upper edge."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    axes.axline((0, 0), slope=1, color="grey", linewidth=0.9, zorder=0)
    for level in MaxNLocator(nbins=4, steps=[1, 2, 5, 10]).tick_values(0, top - left):
        if not 0 < level < top - left:
            continue
        axes.axline((0, level), slope=1, color="grey", alpha=0.5, linewidth=0.7, linestyle=":", zorder=0)
        axes.annotate(
            f"EI {level:g}",
            (min(top - level, right), min(top, right + level)),
            xytext=(-3, -3),
            textcoords="offset points",
            fontsize="x-small",
            color="grey",
            ha="right",
            va="top",
        )
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
