"""What every figure owes its reader: whole epochs, and no text over another one, a line, or the edge."""

from __future__ import annotations

from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from lightning_foresight.history import Row
from lightning_foresight.plotting._paths import Path
from lightning_foresight.plotting._style import COLORS, line_style
from lightning_foresight.plotting.causal_plane import causal_plane
from lightning_foresight.plotting.curves import curves
from lightning_foresight.plotting.information_plane import information_plane
from lightning_foresight.plotting.noise_scale import noise_scale


def _rows(epochs, value, half_width=0.0):
    kind = "estimate" if half_width else "exact"
    return [Row(i, float(e), "key", value + i, value + i - half_width, value + i + half_width, 9, kind)
            for i, e in enumerate(epochs)]  # fmt: skip


def _paths(epochs, layers=4):
    return {
        f"encoder.layers.{n}.linear": Path(
            list(epochs),
            [5.0 + n + 0.1 * e for e in epochs],
            [n + 0.2 * e + 3 for e in epochs],
            ([4.0] * len(epochs), [30.0] * len(epochs)),
        )
        for n in range(layers)
    }


def _figure(name, epochs, layers=4):
    names = [f"encoder.layers.{n}.linear" for n in range(layers)]
    lines = {name: _rows(epochs, n + 1.0, 0.5) for n, name in enumerate(names)}
    paths = _paths(epochs, layers)
    match name:
        case "curves":
            return curves(lines, ylabel="I(S;T) in bits", title="Mutual information", nulls=lines)
        case "causal plane":
            return causal_plane(paths)
        case "information plane":
            limits = {"input_limit": 10.34, "label_limit": 3.32}
            return information_plane(paths, nulls=paths, **limits, estimator="noisy (relative_noise=0.5)")
        case "noise scale":
            return noise_scale(_rows(epochs, 50.0, 10.0), _rows(epochs, 64.0), groups=lines)
        case "noise scale with curvature":
            return noise_scale(_rows(epochs, 50.0, 10.0), _rows(epochs, 64.0), lines, _rows(epochs[::4], 30.0, 40.0))
    raise ValueError(name)


FIGURES = ("curves", "causal plane", "information plane", "noise scale", "noise scale with curvature")


def _shown(figure):
    """Every text of a figure with its box in pixels, tick labels outside of the view left out."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    found = []
    for axes in figure.axes:
        outside = {
            id(label)
            for axis in (axes.xaxis, axes.yaxis)
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
            for label in (tick.label1, tick.label2)
            if not (min(axis.get_view_interval()) - 1e-9 <= tick.get_loc() <= max(axis.get_view_interval()) + 1e-9)
        }
        for text in axes.findobj(Text):
            if text.get_visible() and text.get_text().strip() and id(text) not in outside:
                found.append((text.get_text(), text.get_window_extent(renderer)))
    return found


def _ticks(axis):
    low, high = sorted(axis.get_view_interval())
    return [tick for tick in axis.get_majorticklocs() if low <= tick <= high]


@pytest.mark.parametrize("layers", [1, 13, 40])
@pytest.mark.parametrize("name", FIGURES)
def test_no_text_lies_over_another_or_leaves_the_figure(name, layers):
    figure = _figure(name, range(13), layers)
    texts = _shown(figure)
    width, height = figure.bbox.size
    for text, box in texts:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
    for (one, box), (other, another) in combinations(texts, 2):
        across = min(box.x1, another.x1) - max(box.x0, another.x0)
        up = min(box.y1, another.y1) - max(box.y0, another.y0)
        assert across < 1 or up < 1, f"{one!r} lies over {other!r}"


@pytest.mark.parametrize("name", FIGURES)
def test_no_legend_covers_the_axes(name):
    figure = _figure(name, range(3))
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    axes = figure.axes[0]
    assert axes.get_legend().get_window_extent(renderer).y1 < axes.get_window_extent(renderer).y0


@pytest.mark.parametrize("epochs", [[0], [0, 1, 2], range(9), [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]])
@pytest.mark.parametrize("name", FIGURES)
def test_epochs_have_whole_ticks(name, epochs):
    axes = _figure(name, epochs).axes
    # The colour bar comes last.
    panel = {"causal plane": 1, "information plane": None}.get(name, 0)
    bars = [axes[-1].yaxis] if name.endswith("plane") else []
    for axis in [*bars, *([] if panel is None else [axes[panel].xaxis])]:
        assert _ticks(axis)
        assert all(tick % 1 == 0 for tick in _ticks(axis))


def test_a_run_within_one_epoch_has_ticks_between():
    figure = _figure("curves", [0.0, 0.2, 0.4])
    assert any(tick % 1 for tick in _ticks(figure.axes[0].xaxis))


def test_a_long_run_names_its_epochs_in_plain_numbers():
    figure = information_plane({"fc": Path([0, 10, 1000], [1.0, 2.0, 3.0], [0.0, 0.5, 1.0])})
    figure.draw(FigureCanvasAgg(figure).get_renderer())
    labels = [label.get_text() for label in figure.axes[-1].yaxis.get_majorticklabels()]
    assert {"0", "1", "10", "100", "1000"} <= set(labels)


@pytest.mark.parametrize("layers", [4, 8, 9, 40])
def test_no_two_lines_look_the_same_and_the_first_are_for_the_colour_blind(layers):
    styles = [tuple(line_style(index, layers).values()) for index in range(layers)]
    assert len(set(styles)) == layers
    assert (styles[0][0] == COLORS[0]) == (layers <= len(COLORS))


@pytest.mark.parametrize("name", ["curves", "causal plane", "information plane"])
def test_of_forty_layers_the_legend_names_some_from_first_to_last(name):
    figure = _figure(name, range(3), 40)
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    layers = [int(name.split(".")[2]) for name in names if name.startswith("encoder")]
    assert (layers[0], layers[-1], len(layers)) == (0, 39, 15)
    assert layers == sorted(layers)
    assert "and 25 between, in order" in names


def test_an_arrow_out_of_the_plane_is_in_the_legend():
    inside, beyond = (
        information_plane({"fc": Path([0], [5.0], [1.0], ([4.0], [end]))}, input_limit=8.0) for end in (6.0, 30.0)
    )
    names = [[text.get_text() for text in one.axes[0].get_legend().get_texts()] for one in (inside, beyond)]
    assert "goes on to the right" not in names[0]
    assert "goes on to the right" in names[1]


def test_many_layers_make_the_figure_taller_and_leave_the_axes_their_size():
    heights = []
    for layers in (2, 20):
        figure = _figure("information plane", range(3), layers)
        figure.draw(FigureCanvasAgg(figure).get_renderer())
        heights.append(figure.axes[0].get_window_extent().height)
    assert heights[1] > 0.9 * heights[0]
