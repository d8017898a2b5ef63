from __future__ import annotations

import io
import math

from matplotlib.backends.backend_agg import FigureCanvasAgg

from lightning_foresight.history import Row
from lightning_foresight.plotting._paths import Path, plane_paths
from lightning_foresight.plotting.causal_plane import causal_plane
from lightning_foresight.plotting.curves import curves
from lightning_foresight.plotting.information_plane import information_plane
from lightning_foresight.plotting.panels import panels

PATHS = {
    "fc1": Path([0, 1, 2], [1.0, 2.0, 3.0], [2.0, 4.0, 6.0], ([0.5, 1.5, 2.0], [1.5, 2.5, 4.0]), None),
    "fc2": Path([0, 1, 2], [0.5, 0.6, 0.7], [0.6, 0.8, 1.0]),
}


def _renders(figure) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert buffer.getbuffer().nbytes > 5000


def _legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_the_information_plane_has_a_path_a_layer_coloured_by_epoch():
    figure = information_plane(PATHS, input_limit=5.0, label_limit=1.0, estimator="kde")
    axes, colorbar = figure.axes
    assert _legend(axes) == ["fc1", "fc2", "H(Y) = 1.00"]
    assert axes.get_title() == "Information plane, kde"
    assert colorbar.get_ylabel() == "epochs completed"
    points = axes.collections[-1]
    assert points.get_offsets().tolist() == [[0.5, 0.6], [0.6, 0.8], [0.7, 1.0]]
    assert points.get_array().tolist() == [0, 1, 2]
    _renders(figure)


def test_the_null_is_dotted_and_named_once():
    figure = information_plane(PATHS, nulls={name: path._replace(y=[0.1] * 3) for name, path in PATHS.items()})
    assert _legend(figure.axes[0]) == ["fc1", "fc2", "shuffled labels"]
    _renders(figure)


def test_an_interval_beyond_what_samples_can_express_does_not_push_the_paths_aside():
    wide = Path([0, 1], [4.0, 5.0], [0.2, 0.9], ([4.0, 5.0], [80.0, 90.0]), None)
    left, right = information_plane({"fc1": wide}, input_limit=6.0).axes[0].get_xlim()
    assert 3.5 < left < 4
    assert 6 < right < 6.5


def test_an_error_that_is_not_known_draws_no_band():
    unknown = ([float("nan")] * 2, [float("nan")] * 2)
    path = Path([0, 1], [1.0, 2.0], [0.1, 0.2], unknown, unknown)
    assert not information_plane({"fc1": path}).axes[0].containers
    assert information_plane({"fc1": path._replace(x_interval=([0.5, 1.5], [1.5, 2.5]))}).axes[0].containers


def test_an_interval_that_runs_out_of_the_plane_ends_in_an_arrow():
    wide = Path([0, 1], [4.0, 5.0], [0.2, 0.9], ([4.0, 5.0], [80.0, 90.0]), None)
    narrow = wide._replace(x_interval=([3.9, 4.9], [4.1, 5.1]))
    axes = information_plane({"wide": wide, "narrow": narrow}, input_limit=6.0).axes[0]
    (arrow,) = [line for line in axes.lines if line.get_marker() == ">"]
    assert (arrow.get_xdata()[0], arrow.get_ydata()[0]) == (axes.get_xlim()[1], 0.9)
    assert _legend(axes)[-1] == "log$_2$ n = 6.00"


def test_saturated_layers_are_drawn_apart_as_far_as_noise_does_not_do_it():
    beyond = ([8.95, 8.95], [80.0, 90.0])
    for first, span in ((8.9, (0.06, 0.1)), (8.9659, (0.019, 0.03))):
        saturated = Path([0, 1], [first, 8.966], [2.0, 3.0], beyond)
        figure = information_plane({"fc1": saturated}, input_limit=8.966)
        axes = figure.axes[0]
        left, right = axes.get_xlim()
        assert left < first < 8.966 < right
        assert span[0] <= right - left < span[1]
        assert "log$_2$ n = 8.97, all saturated" in _legend(axes)
        figure.draw(FigureCanvasAgg(figure).get_renderer())
        assert all(label.get_text().startswith(("8.", "9.")) for label in axes.get_xticklabels())  # no offset apart
        assert not axes.xaxis.get_offset_text().get_text()


def test_bands_beyond_what_samples_can_express_leave_the_curves_where_they_are_read():
    def rows(values, upper):
        return [Row(i, float(i), "a", value, value - 0.1, upper, 9, "estimate") for i, value in enumerate(values)]

    lines = {"wide": rows([9.1, 8.0, 7.0], 115.0), "narrow": rows([3.0, 2.5, 2.0], 3.5)}
    figure = curves(lines, ylabel="bits", limit=9.22, bands="of the population")
    axes = figure.axes[0]
    bottom, top = axes.get_ylim()
    assert 1.4 < bottom < 1.9
    assert 9.22 < top < 10
    assert _legend(axes) == ["wide", "narrow", "of the population", "goes on above", "log$_2$ n = 9.22"]
    (arrow,) = [line for line in axes.lines if line.get_marker() == "^" and len(line.get_xdata()) == 1]
    assert (arrow.get_xdata()[0], arrow.get_ydata()[0]) == (2.0, top)
    _renders(figure)
    inside = curves({"narrow": lines["narrow"]}, ylabel="bits", limit=9.22).axes[0]
    assert inside.get_ylim()[1] < 4
    assert inside.get_legend() is None
    saturated = curves({"wide": rows([9.2199, 9.22], 115.0)}, ylabel="bits", limit=9.22).axes[0]
    assert _legend(saturated)[-1] == "log$_2$ n = 9.22, all saturated"


def test_the_causal_plane_shows_ei_beside_it():
    figure = causal_plane(PATHS)
    plane, over_time = figure.axes[:2]
    assert plane.get_xlabel() == "degeneracy in bits"
    assert over_time.lines[0].get_ydata().tolist() == [1.0, 2.0, 3.0]
    labels = [text.get_text() for text in plane.texts]
    assert labels
    assert all(label.startswith("EI_parts ") for label in labels)
    _renders(figure)


def test_paths_along_the_diagonal_have_no_levels_beside_them():
    wide = Path([0, 1], [1000.0, 2000.0], [1005.0, 2004.0])
    plane, over_time = causal_plane({"fc1": wide}).axes[:2]
    assert not plane.texts
    assert over_time.lines[0].get_ydata().tolist() == [5.0, 4.0]


def test_ei_of_layers_of_unlike_size_is_on_a_logarithmic_axis_and_of_like_ones_on_one_that_fits():
    def heights(*values):
        paths = {f"fc{n}": Path([0, 1], [9.0, 9.0], [9.0 + v, 9.0 + 1.1 * v]) for n, v in enumerate(values)}
        figure = causal_plane(paths)
        figure.draw(FigureCanvasAgg(figure).get_renderer())
        return figure.axes[1]

    unlike = heights(2.0, 20.0)
    assert unlike.get_yscale() == "log"
    assert {"2", "5", "10", "20"} <= {label.get_text() for label in unlike.get_yticklabels()}
    assert heights(20.0, 21.0).get_yscale() == "linear"
    assert heights(20.0, 21.0).get_ylim()[0] > 19
    assert heights(0.0, 20.0).get_yscale() == "linear"  # nothing, which has no logarithm


def test_panels_have_an_axis_each_that_fits_and_one_of_time():
    def rows(*values):
        return [Row(i, float(i), "a", value, value, value, 0, "exact") for i, value in enumerate(values)]

    figure = panels({"low": rows(2.96, 3.0), "high": rows(10.0, 11.0), "flat": rows(5.0, 5.0000001)}, ylabel="bits")
    low, high, flat = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["low", "high", "flat"]
    assert low.get_ylim()[0] > 2.9
    assert low.get_ylim()[1] < 3.1
    assert high.get_ylim()[0] > 9
    assert flat.get_ylim()[1] - flat.get_ylim()[0] >= 0.01
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "epochs completed"]
    assert low.get_xlim() == flat.get_xlim()
    _renders(figure)


def test_a_plane_of_one_moment_and_a_long_run_can_be_drawn():
    _renders(causal_plane({"fc": Path([0], [1.0], [2.0])}))
    _renders(information_plane({"fc": Path([0, 10, 1000], [1.0, 2.0, 3.0], [0.0, 0.5, 1.0])}))


def test_curves_have_a_band_where_there_is_an_interval():
    exact = [Row(i, float(i), "a", float(i), float(i), float(i), 0, "exact") for i in range(3)]
    sampled = [Row(i, float(i), "b", float(i), i - 1.0, i + 1.0, 5, "estimate") for i in range(3)]
    axes = curves({"exact": exact, "sampled": sampled}, ylabel="bits").axes[0]
    assert len(axes.collections) == 1
    assert _legend(axes) == ["exact", "sampled"]


def test_a_single_measurement_has_a_bar_for_its_interval():
    rows = [Row(0, 1.0, "a", 6.5, 6.2, 6.9, 10, "estimate")]
    axes = curves({"a": rows}, ylabel="bits", bands="of the population").axes[0]
    assert axes.collections[0].get_segments()[0].tolist() == [[1.0, 6.2], [1.0, 6.9]]


def test_an_infinite_end_is_drawn_as_one_that_is_far_away():
    def drawn(end):
        path = Path([0, 1], [6.5, 6.9], [0.4, 0.6], ([6.0, 6.2], [end, end]), ([0.3, 0.5], [0.5, 0.7]))
        plane = information_plane({"a": path}, input_limit=7.0).axes[0]
        rows = [Row(i, float(i), "a", 6.5 + 0.1 * i, 6.0, end, 10, "estimate") for i in range(3)]
        lines = curves({"a": rows}, ylabel="bits", limit=7.0).axes[0]
        (bars,) = plane.containers
        arrows = [
            line.get_xydata().tolist() for axes in (plane, lines) for line in axes.lines if line.get_marker() in "^>"
        ]
        (band,) = lines.collections
        inside = band.get_paths()[0].contains_points([(0.5, 6.1), (0.5, lines.get_ylim()[1]), (0.5, 5.9)]).tolist()
        right = max(bars[2][0].get_segments()[0][:, 0]) > plane.get_xlim()[1]
        return plane.get_xlim(), lines.get_ylim(), arrows, inside, right

    assert drawn(math.inf) == drawn(115.0)
    assert drawn(math.inf)[3:] == ([True, True, False], True)


def test_paths_join_what_was_measured_at_the_same_moment():
    def columns(*moments):
        return {
            "step": [step for step, _ in moments],
            "epoch": [float(epoch) for _, epoch in moments],
            "value": [10.0 * epoch for _, epoch in moments],
            "lower": [10.0 * epoch - 1 for _, epoch in moments],
            "upper": [10.0 * epoch + 1 for _, epoch in moments],
        }

    table = {
        "p/a.b/X": columns((0, 0), (5, 1), (9, 2)),
        "p/a.b/Y": columns((0, 0), (9, 2)),
        "p/lonely/X": columns((0, 0)),
    }
    paths = plane_paths(table, "p", x="X", y="Y")
    assert list(paths) == ["a.b"]
    assert paths["a.b"].epochs == [0.0, 2.0]
    assert paths["a.b"].steps == [0, 9]
    assert paths["a.b"].x == [0.0, 20.0]
    assert paths["a.b"].y_interval == ([-1.0, 19.0], [1.0, 21.0])
