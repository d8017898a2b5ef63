"""The information plane: I(T;Y) against I(X;T), a path a layer."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from lightning_foresight.plotting._paths import Path, draw_paths
from lightning_foresight.plotting._style import line_style, new_figure


def information_plane(
    paths: Mapping[str, Path],
    *,
    nulls: Mapping[str, Path] | None = None,
    input_limit: float | None = None,
    label_limit: float | None = None,
    estimator: str = "",
    unit: str = "bits",
) -> Figure:
    """Draw the information plane (Shwartz-Ziv & Tishby 2017, arXiv 1703.00810).

    Args:
        paths: By layer, the epochs with I(X;T) as ``x`` and I(T;Y) as ``y``.
        nulls: By layer, the same with I(T;Y) of shuffled labels as ``y``: what an estimate of nothing looks like.
        input_limit: Largest I(X;T) that the samples can express, log2 n; a line where the estimate is saturated.
        label_limit: Entropy of the labels, the largest possible I(T;Y).
        estimator: What was estimated, for the title.
        unit: Unit of both axes; empty for a measure of dependence that has none.

    Example:
        >>> from lightning_foresight.plotting.information_plane import information_plane
        >>> from lightning_foresight.plotting._paths import Path
        >>> figure = information_plane({"fc1": Path(epochs=[0, 1], x=[5.0, 4.0], y=[0.2, 0.8])})
        >>> figure.axes[0].get_xlabel()
        'I(X;T) in bits'
    """
    figure, (axes,) = new_figure()
    draw_paths(axes, paths)
    for index, path in enumerate((nulls or {}).values()):
        axes.plot(
            path.x, path.y, ":x", color=line_style(index)["color"], markersize=4, linewidth=0.8, alpha=0.7, zorder=0
        )
    if nulls:
        axes.plot([], [], ":x", color="grey", markersize=4, label="shuffled labels")
        handles = [*axes.get_legend().legend_handles, axes.lines[-1]]  # type: ignore[union-attr]
        axes.legend(handles=handles, title="layer", fontsize="small", framealpha=0.85, loc="best")
    if input_limit is not None:
        # Upper ends of intervals may lie far beyond what the samples can express: they run out of the picture.
        right = min(axes.get_xlim()[1], 1.04 * input_limit)
        first = min(min(path.x, default=right) for path in paths.values())
        axes.set_xlim(max(axes.get_xlim()[0], first - 0.05 * (right - first)), right)
    if input_limit is not None and input_limit < axes.get_xlim()[1]:
        axes.axvline(input_limit, color="grey", linestyle="--", linewidth=1)
        axes.annotate(
            "saturated: log$_2$ n",
            (input_limit, 0.02),
            xycoords=("data", "axes fraction"),
            rotation=90,
            ha="right",
            fontsize="small",
            color="grey",
        )
    if label_limit is not None:
        axes.axhline(label_limit, color="grey", linestyle=":", linewidth=1)
        axes.annotate(
            "H(Y)", (0.01, label_limit), xycoords=("axes fraction", "data"), va="bottom", fontsize="small", color="grey"
        )
    axes.set_xlabel(f"I(X;T) in {unit}" if unit else "dependence of layer T on the inputs X")
    axes.set_ylabel(f"I(T;Y) in {unit}" if unit else "dependence of layer T and the labels Y")
    axes.set_title("Information plane" + (f", {estimator}" if estimator else ""))
    return figure
