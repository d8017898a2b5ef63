"""The information plane: I(T;Y) against I(X;T), a path a layer."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lightning_foresight.plotting._limits import limit_label, plain_ticks, view
from lightning_foresight.plotting._paths import Path, draw_paths
from lightning_foresight.plotting._style import legend_below, line_style, new_figure


def information_plane(
    paths: Mapping[str, Path],
    *,
    nulls: Mapping[str, Path] | None = None,
    input_limit: float | None = None,
    label_limit: float | None = None,
    estimator: str = "",
    unit: str = "bits",
    input_interval: str = "",
) -> Figure:
    """Draw the information plane (Shwartz-Ziv & Tishby 2017, arXiv 1703.00810).

    Args:
        paths: By layer, the epochs with I(X;T) as ``x`` and I(T;Y) as ``y``.
        nulls: By layer, the same with I(T;Y) of shuffled labels as ``y``: what an estimate of nothing looks like.
        input_limit: Largest I(X;T) that the samples can express, log2 n; a line where the estimate is saturated.
        label_limit: Entropy of the labels, the largest possible I(T;Y); a line.
        estimator: What was estimated, for the title.
        unit: Unit of both axes; empty for a measure of dependence that has none.
        input_interval: What the ends of I(X;T) are, for the legend.

    Example:
        >>> from lightning_foresight.plotting.information_plane import information_plane
        >>> from lightning_foresight.plotting._paths import Path
        >>> figure = information_plane({"fc1": Path(epochs=[0, 1], x=[5.0, 4.0], y=[0.2, 0.8])})
        >>> figure.axes[0].get_xlabel()
        'I(X;T) in bits'
    """
    figure, (axes,) = new_figure()
    handles = draw_paths(axes, paths)
    for index, path in enumerate((nulls or {}).values()):
        axes.plot(
            path.x,
            path.y,
            ":x",
            color=line_style(index, len(paths))["color"],
            markersize=4,
            linewidth=0.8,
            alpha=0.7,
            zorder=0,
        )
    if nulls:
        handles.append(Line2D([], [], color="grey", linestyle=":", marker="x", markersize=4, label="shuffled labels"))
    if input_interval and any(path.x_interval for path in paths.values()):
        handles.append(Line2D([], [], color="grey", marker="|", markersize=8, linewidth=1.2, label=input_interval))
    if input_limit is not None and _frame(axes, paths, input_limit):
        handles.append(Line2D([], [], color="grey", marker=">", markersize=5, label="goes on to the right"))
    if input_limit is not None and input_limit < axes.get_xlim()[1]:
        label = limit_label((x for path in paths.values() for x in path.x), input_limit)
        handles.append(axes.axvline(input_limit, color="grey", linestyle="--", linewidth=1, zorder=0, label=label))
    if label_limit is not None:
        label = f"H(Y) = {label_limit:.2f}"
        handles.append(axes.axhline(label_limit, color="grey", linestyle="-", linewidth=0.8, zorder=0, label=label))
    axes.set_xlabel(f"I(X;T) in {unit}" if unit else "dependence of layer T on the inputs X")
    axes.set_ylabel(f"I(T;Y) in {unit}" if unit else "dependence of layer T and the labels Y")
    axes.set_title("Information plane" + (f", {estimator}" if estimator else ""))
    legend_below(axes, handles)
    return figure


def _frame(axes: Axes, paths: Mapping[str, Path], input_limit: float) -> bool:
    """Keep to what the samples can express, with an arrow where an interval ends beyond it; say if there is one."""
    left, right = view((x for path in paths.values() for x in path.x), input_limit, axes.get_xlim()[1])
    axes.set_xlim(left, right)
    plain_ticks(axes.xaxis)
    beyond = [bool(path.x_interval and path.x and path.x_interval[1][-1] > right) for path in paths.values()]
    for index, path in enumerate(paths.values()):
        if beyond[index]:
            color = line_style(index, len(paths))["color"]
            axes.plot([right], path.y[-1:], ">", color=color, markersize=5, clip_on=False)
    return any(beyond)
