"""What every figure owes its reader: whole epochs, and no text over another one, a line, or the edge."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from lightning_foresight.history import Row
from lightning_foresight.plotting._paths import Path
from lightning_foresight.plotting._style import COLORS, NAMED, epoch_colors, line_style
from lightning_foresight.plotting.causal_plane import causal_plane
from lightning_foresight.plotting.curves import curves
from lightning_foresight.plotting.information_plane import information_plane
from lightning_foresight.plotting.noise_scale import noise_scale
from lightning_foresight.plotting.panels import panels


def _rows(epochs, value, half_width=0.0, every=1):
    kind = "estimate" if half_width else "exact"
    return [Row(every * i, float(e), "key", value + i, value + i - half_width, value + i + half_width, 9, kind)
            for i, e in enumerate(epochs)]  # fmt: skip


def _paths(epochs, layers=4, every=1):
    return {
        f"encoder.layers.{n}.linear": Path(
            list(epochs),
            [5.0 + n + 0.1 * e for e in epochs],
            [n + 0.2 * e + 3 for e in epochs],
            ([4.0] * len(epochs), [30.0] * len(epochs)),
            steps=[every * i for i in range(len(epochs))],
        )
        for n in range(layers)
    }


def _figure(name, epochs, layers=4, every=1):
    names = [f"encoder.layers.{n}.linear" for n in range(layers)]
    lines = {name: _rows(epochs, n + 1.0, 0.5, every) for n, name in enumerate(names)}
    paths = _paths(epochs, layers, every)
    scale, size, curvature = (_rows(epochs, *of, every) for of in ((50.0, 10.0), (64.0, 0.0), (30.0, 40.0)))
    match name:
        case "curves":
            return curves(lines, ylabel="I(S;T) in bits", title="Mutual information", nulls=lines)
        case "causal plane":
            return causal_plane(paths)
        case "information plane":
            limits = {"input_limit": 10.34, "label_limit": 3.32}
            return information_plane(paths, nulls=paths, **limits, estimator="noisy (relative_noise=0.5)")
        case "noise scale":
            return noise_scale(scale, size, groups=lines)
        case "noise scale with curvature":
            return noise_scale(scale, size, lines, curvature[::4])
        case "noise scale without ends":
            hidden = [row._replace(value=-9.0, lower=-math.inf, upper=math.inf) for row in scale]
            return noise_scale(hidden[:1] + scale[1:], size)
        case "panels":
            return panels(dict(list(lines.items())[:3]), ylabel="bits", title="Effective information of the weights")
    raise ValueError(name)


FIGURES = (
    "curves",
    "causal plane",
    "information plane",
    "noise scale",
    "noise scale with curvature",
    "noise scale without ends",
    "panels",
)


def _legend(figure):
    """The legend of the first panel, or the one of all panels."""
    return figure.legends[0] if figure.legends else figure.axes[0].get_legend()


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


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "panels"])
def test_no_legend_covers_the_axes(name):
    figure = _figure(name, range(3))
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    top = _legend(figure).get_window_extent(renderer).y1
    assert all(top < axes.get_window_extent(renderer).y0 for axes in figure.axes)


@pytest.mark.parametrize("epochs", [[0], [0, 1, 2], range(9), [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]])
@pytest.mark.parametrize("name", FIGURES)
def test_epochs_have_whole_ticks(name, epochs):
    axes = _figure(name, epochs).axes
    for axis in _times(name, axes):
        assert _ticks(axis)
        assert all(tick % 1 == 0 for tick in _ticks(axis))


def _times(name, axes):
    """The axes that count epochs or steps; the colour bar comes last."""
    panel = {"causal plane": 1, "information plane": None, "panels": -1}.get(name, 0)
    bars = [axes[-1].yaxis] if name.endswith("plane") else []
    return [*bars, *([] if panel is None else [axes[panel].xaxis])]


@pytest.mark.parametrize(
    ("epochs", "label", "ends"),
    [
        ([0.0] * 5, "step", (0, 80)),
        ([0.0, 0.0, 1.0, 1.0, 2.0], "step", (0, 80)),
        ([0.0, 0.5, 1.0, 1.5, 2.0], "epochs completed", (0, 2)),
        ([3.0], "epochs completed", (3, 3)),
    ],
    ids=["an endless epoch", "epochs of unknown length", "fractions", "one moment"],
)
@pytest.mark.parametrize("name", FIGURES)
def test_where_epochs_stand_still_figures_count_steps(name, epochs, label, ends):
    axes = _figure(name, epochs, every=20).axes
    for axis in _times(name, axes):
        assert axis.get_label_text() == label
        low, high = sorted(axis.get_view_interval())
        slack = 0.1 * (ends[1] - ends[0]) + 0.2
        assert ends[0] - slack <= low <= ends[0]
        assert ends[1] <= high <= ends[1] + slack


def test_a_run_within_one_epoch_has_ticks_between():
    figure = _figure("curves", [0.0, 0.2, 0.4])
    assert any(tick % 1 for tick in _ticks(figure.axes[0].xaxis))


def test_a_long_run_names_its_epochs_in_plain_numbers():
    figure = information_plane({"fc": Path([0, 1, 10, 1000], [1.0, 1.5, 2.0, 3.0], [0.0, 0.2, 0.5, 1.0])})
    figure.draw(FigureCanvasAgg(figure).get_renderer())
    labels = [label.get_text() for label in figure.axes[-1].yaxis.get_majorticklabels()]
    assert {"0", "1", "10", "100", "1000"} <= set(labels)


def test_steps_are_coloured_by_their_logarithm_only_where_the_run_is_long_beside_the_first():
    def colors(steps):
        path = Path([0.0] * len(steps), [1.0] * len(steps), [1.0] * len(steps), steps=steps)
        return information_plane({"fc": path}).axes[0].collections[-1].norm(steps)

    assert colors([19, 69, 119]).tolist() == pytest.approx([0, 0.5, 1])
    assert colors([0, 100, 1000, 10_000]).tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1], abs=0.1)


@pytest.mark.parametrize("layers", [4, 8, 9, 16, 40])
def test_no_two_lines_look_the_same_and_those_that_are_named_are_for_the_colour_blind(layers):
    styles = [tuple(line_style(index, layers).values()) for index in range(layers)]
    assert len(set(styles)) == layers
    assert {color for color, _ in styles} <= set(COLORS) or layers > NAMED


def test_markers_of_many_layers_are_filled_with_no_colour_of_a_layer():
    assert epoch_colors(9) == "viridis"
    assert epoch_colors(40) == "Greys"
    points = _figure("causal plane", range(3), 40).axes[0].collections[-1]
    red, green, blue, _ = points.get_cmap()(0.4)
    assert max(red, green, blue) - min(red, green, blue) < 0.01


@pytest.mark.parametrize("name", ["curves", "causal plane", "information plane"])
def test_of_forty_layers_the_legend_names_some_from_first_to_last(name):
    figure = _figure(name, range(3), 40)
    names = [text.get_text() for text in _legend(figure).get_texts()]
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
