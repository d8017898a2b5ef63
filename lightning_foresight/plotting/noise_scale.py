"""The gradient noise scale over training, beside the batch size in use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from lightning_foresight.plotting._style import COLORS, label_epochs, legend_below, line_style, new_figure

if TYPE_CHECKING:
    from lightning_foresight.history import Row

# An end of an interval so many times the largest value says no more than one that is not there.
FAR = 100.0


def noise_scale(
    b_simple: Sequence[Row],
    batch_size: Sequence[Row],
    groups: Mapping[str, Sequence[Row]] | None = None,
    b_noise: Sequence[Row] = (),
) -> Figure:
    """Draw the noise scale with its confidence band and the batch size over epochs, on a logarithmic axis.

    Where the interval has no upper end, or one more than 100 times the largest value, the band runs to the top and an
    arrow marks it: the noise hides the gradient.
    Negative estimates, which occur there, cannot be drawn and are left out of the line.

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
    epochs = [row.epoch for row in b_simple]
    largest = max(row.value for row in (*b_simple, *batch_size, *b_noise) if math.isfinite(row.value))
    far = FAR * largest
    top = 3 * max([largest, *(row.upper for row in b_simple if row.upper <= far)])
    bottom = min(
        [end for row in b_simple for end in (row.value, row.lower) if math.isfinite(end) and end > 0]
        + [row.value for row in (*batch_size, *b_noise) if row.value > 0]
    )
    lower = [row.lower if row.lower > 0 else bottom / 3 for row in b_simple]
    upper = [max(low, min(row.upper, top)) for low, row in zip(lower, b_simple, strict=True)]
    axes.fill_between(epochs, lower, upper, color=COLORS[0], alpha=0.18, linewidth=0, label="confidence interval")
    axes.plot(epochs, _positive(b_simple), label=r"$\mathcal{B}_\mathrm{simple}$", markersize=4, **line_style(0))
    unbounded = [row.epoch for row in b_simple if row.upper > far]
    axes.plot(unbounded, [top] * len(unbounded), linestyle="none", marker="^", color=COLORS[0], label="unbounded")
    if b_noise:
        # The ends that are not there run to the edges of the picture.
        ends = [
            [max(0.0, row.value - row.lower) for row in b_noise],
            [max(0.0, min(row.upper, top) - row.value) for row in b_noise],
        ]
        axes.errorbar(
            [row.epoch for row in b_noise],
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
        axes.plot([row.epoch for row in rows], _positive(rows), label=group, markersize=3, linewidth=1, **style)
    axes.step(
        [row.epoch for row in batch_size],
        [row.value for row in batch_size],
        where="post",
        color=COLORS[1],
        linestyle="--",
        label="batch size",
    )
    axes.set_yscale("log")
    axes.set_ylim(bottom / 3, top * 1.3)
    label_epochs(axes, epochs)
    axes.set_ylabel("examples")
    axes.set_title("Gradient noise scale")
    handles, labels = axes.get_legend_handles_labels()
    legend_below(axes, [h for h, label in zip(handles, labels, strict=True) if label != "unbounded" or unbounded])
    return figure


def _positive(rows: Sequence[Row]) -> list[float]:
    return [row.value if row.value > 0 else math.nan for row in rows]
