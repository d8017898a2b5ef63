"""The causal plane: sensitivity against degeneracy, a path a layer."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from lightning_foresight.plotting._paths import Path, draw_paths
from lightning_foresight.plotting._style import new_figure


def causal_plane(paths: Mapping[str, Path], *, unit: str = "bits") -> Figure:
    """Draw the causal plane (Marrow, Michaud & Hoel 2020, arXiv 2010.13871); EI is constant along the grey diagonals.

    Args:
        paths: By layer, the epochs with degeneracy as ``x`` and sensitivity as ``y``.
        unit: Unit of both axes.

    Example:
        >>> from lightning_foresight.plotting.causal_plane import causal_plane
        >>> from lightning_foresight.plotting._paths import Path
        >>> figure = causal_plane({"fc1": Path(epochs=[0, 1], x=[1.0, 2.0], y=[3.0, 5.0])})
        >>> figure.axes[0].get_ylabel()
        'sensitivity in bits'
    """
    figure, (axes,) = new_figure()
    draw_paths(axes, paths)
    # As much room in both directions, or the diagonals would mislead.
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for step in range(9):
        effective_information = (top - left) * step / 8
        axes.axline((left, left + effective_information), slope=1, color="grey", alpha=0.35, linewidth=0.7, zorder=0)
        axes.annotate(
            f"EI {effective_information:.3g}",
            (left, left + effective_information),
            fontsize="x-small",
            color="grey",
            annotation_clip=True,
        )
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_xlabel(f"degeneracy in {unit}")
    axes.set_ylabel(f"sensitivity in {unit}")
    axes.set_title("Causal plane")
    return figure
