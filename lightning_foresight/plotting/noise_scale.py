"""The gradient noise scale over training, beside the batch size in use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_foresight.plotting._style import COLORS, draw_band, legend_below, line_style, new_figure
from lightning_foresight.plotting._time import time_axis

if TYPE_CHECKING:
    from lightning_foresight.history import Row

# An end of an interval so many times away from all values says no more than one that is not there.
FAR = 100.0
NO_UPPER = "noise hides the gradient: no upper end"
NO_LOWER = "too little data: no lower end"
NEGATIVE = r"$\mathcal{B}_\mathrm{simple}$ below 0, off the axis"
_STRIP = 0.05  # of the height of the axes


def noise_scale(
    b_simple: Sequence[Row],
    batch_size: Sequence[Row],
    groups: Mapping[str, Sequence[Row]] | None = None,
    b_noise: Sequence[Row] = (),
) -> Figure:
    """Draw the noise scale with its confidence band and the batch size over training, on a logarithmic axis.

    Where the interval has no upper end, or one more than 100 times the largest value, the band runs to the top, under a
    hatched strip; likewise to the bottom. Negative estimates, which occur where noise hides the gradient, cannot be
    drawn on the axis: crosses in the strip stand for them.

    Args:
        b_simple: Rows of the noise scale.
        batch_size: Rows of the batch size, at the same steps.
        groups: Rows of the noise scales of groups of parameters, by name.
        b_noise: Rows of the noise scale with curvature, which is measured less often.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import make_estimate
        >>> from lightning_foresight.history import History
        >>> from lightning_foresight.plotting.noise_scale import noise_scale
        >>> history = History()
        >>> history.add(step=0, epoch=1.0, key="b", value=make_estimate(torch.tensor(80.0), std_error=9.0))
        >>> history.add(step=0, epoch=1.0, key="size", value=torch.tensor(32.0))
        >>> noise_scale(history["b"], history["size"]).axes[0].get_ylabel()
        'examples'
    """
    figure, (axes,) = new_figure()
    time = time_axis([*b_simple, *batch_size, *b_noise])
    times = time.of(b_simple)
    values = [row.value for row in (*b_simple, *batch_size, *b_noise) if 0 < row.value < math.inf]
    low, high = min(values, default=1.0), max(values, default=1.0)
    far_below, far_above = low / FAR, FAR * high
    bottom = min([low, *(row.lower for row in b_simple if row.lower >= far_below)]) / 3
    top = 4 * max([high, *(row.upper for row in b_simple if row.upper <= far_above)])
    # Intervals below 0 as a whole lie beyond infinity: |G|^2 came out smaller than no gradient at all would make it.
    no_upper = [row.upper > far_above or row.upper <= 0 for row in b_simple]
    no_lower = [row.lower < far_below and row.upper > 0 for row in b_simple]
    lower = [bottom if none else row.lower for none, row in zip(no_lower, b_simple, strict=True)]
    upper = [top if none else row.upper for none, row in zip(no_upper, b_simple, strict=True)]
    lower = [end if end > 0 else math.nan for end in lower]
    draw_band(axes, times, lower, upper, COLORS[0], alpha=0.18, label="confidence interval")
    axes.plot(times, _positive(b_simple), label=r"$\mathcal{B}_\mathrm{simple}$", markersize=4, **line_style(0))
    if b_noise:
        # The ends that are not there run to the edges of the picture.
        ends = [
            [max(0.0, row.value - row.lower) for row in b_noise],
            [max(0.0, min(row.upper, top) - row.value) for row in b_noise],
        ]
        axes.errorbar(
            time.of(b_noise),
            _positive(b_noise),
            yerr=ends,
            label=r"$\mathcal{B}_\mathrm{noise}$",
            markersize=5,
            elinewidth=1,
            capsize=2,
            **line_style(2),
        )
    start = 3 if b_noise else 2
    for index, (group, rows) in enumerate((groups or {}).items(), start=start):
        style = line_style(index, start + len(groups or {}))
        axes.plot(time.of(rows), _positive(rows), label=group, markersize=3, linewidth=1, **style)
    sizes = [row.value for row in batch_size]
    dashed: dict[str, Any] = {"color": COLORS[1], "linestyle": "--", "label": "batch size"}
    if len(sizes) == 1:  # a step needs another moment
        axes.axhline(sizes[0], **dashed)
    else:
        axes.step(time.of(batch_size), sizes, where="post", **dashed)
    axes.set_yscale("log")
    axes.set_ylim(bottom, top)
    time.name(axes, time.of([*b_simple, *batch_size, *b_noise]))
    axes.set_ylabel("examples")
    axes.set_title("Gradient noise scale")
    _strip(axes, times, no_upper, NO_UPPER, at=1 - _STRIP)
    _strip(axes, times, no_lower, NO_LOWER, at=0.0)
    negative = [when for when, row in zip(times, b_simple, strict=True) if row.value <= 0]
    if negative:
        axes.plot(
            negative,
            [1 - _STRIP / 2] * len(negative),
            transform=axes.get_xaxis_transform(),
            marker="x",
            markersize=4,
            color="black",
            linestyle="none",
            label=NEGATIVE,
        )
    legend_below(axes, axes.get_legend_handles_labels()[0])
    return figure


def _strip(axes: Axes, times: Sequence[float], flags: Sequence[bool], label: str, *, at: float) -> None:
    """Hatch a strip at an edge of the axes around the times that are flagged."""
    if not any(flags):
        return
    left, right = axes.get_xlim()
    between = [(one + other) / 2 for one, other in pairwise(times)]
    edges = [left, *between, right]
    spans = [(start, end - start) for start, end, flag in zip(edges, edges[1:], flags, strict=False) if flag]
    axes.broken_barh(
        spans,
        (at, _STRIP),
        transform=axes.get_xaxis_transform(),
        facecolor="white",
        edgecolor=COLORS[0],
        alpha=0.6,
        hatch="/////",
        linewidth=0,
        label=label,
    )
    axes.set_xlim(left, right)


def _positive(rows: Sequence[Row]) -> list[float]:
    return [row.value if row.value > 0 else math.nan for row in rows]
