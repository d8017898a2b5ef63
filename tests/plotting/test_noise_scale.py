"""What the figure of the noise scale does with ends of intervals that are far away."""

from __future__ import annotations

import math

import pytest

from lightning_foresight.history import Row
from lightning_foresight.plotting.noise_scale import NEGATIVE, NO_LOWER, NO_UPPER, noise_scale


def _drawn(*uppers, value=50.0, lower=20.0):
    """The axes for noise scales of 50 examples with these upper ends, beside batches of 32."""
    rows = [Row(i, float(i), "b", value, lower, upper, 9, "estimate") for i, upper in enumerate(uppers)]
    sizes = [Row(i, float(i), "size", 32.0, 32.0, 32.0, 1, "exact") for i in range(len(uppers))]
    return noise_scale(rows, sizes).axes[0]


def _marked(axes, label=NO_UPPER):
    """The epochs under (or over) a hatched strip, of which there is one a row."""
    strips = [collection for collection in axes.collections if collection.get_label() == label]
    spans = [path.get_extents() for strip in strips for path in strip.get_paths()]
    return [epoch for epoch in map(float, range(10)) for span in spans if span.x0 <= epoch <= span.x1]


def _legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize("far", [3e6, math.inf])
def test_an_end_that_is_far_away_is_marked_and_leaves_the_axis_alone(far):
    near, with_far = _drawn(200.0, 300.0), _drawn(200.0, far, 300.0)
    assert with_far.get_ylim() == pytest.approx(near.get_ylim())
    assert _marked(with_far) == [1.0]


def test_an_end_within_reach_is_drawn_and_not_marked():
    axes = _drawn(200.0, 4000.0)  # 80 times the largest value
    assert axes.get_ylim()[1] > 4000
    assert _marked(axes) == []


def test_a_figure_can_hold_nothing_but_far_ends():
    axes = _drawn(math.inf, 1e9)
    assert axes.get_ylim()[1] < 1000
    assert _marked(axes) == [0.0, 1.0]


def test_what_is_not_seen_in_the_picture_is_said_in_it():
    assert not {NO_UPPER, NO_LOWER, NEGATIVE} & set(_legend(_drawn(200.0, 300.0)))
    axes = _drawn(math.inf, 1e9, value=-50.0, lower=0.1)
    assert {NO_UPPER, NO_LOWER, NEGATIVE} <= set(_legend(axes))
    assert _marked(axes, NO_LOWER) == [0.0, 1.0]
    (crosses,) = [line for line in axes.get_lines() if line.get_label() == NEGATIVE]
    assert crosses.get_xdata().tolist() == [0.0, 1.0]
    # In the strip, whatever the values are.
    assert all(0.95 < height < 1 for height in crosses.get_ydata())
    assert axes.get_ylim()[0] > 5


@pytest.mark.parametrize(("upper", "end"), [(90.0, 90.0), (math.inf, 200.0)])
def test_a_single_measurement_has_a_bar_and_a_batch_size_that_can_be_seen(upper, end):
    axes = _drawn(upper)
    (bar,) = [collection for collection in axes.collections if collection.get_label() == "confidence interval"]
    assert bar.get_segments()[0].tolist() == [[0.0, 20.0], [0.0, end]]
    (size,) = [line for line in axes.get_lines() if line.get_label() == "batch size"]
    assert list(size.get_ydata()) == [32.0, 32.0]
    assert list(size.get_xdata()) == [0, 1]  # of the width of the axes


def test_ticks_are_those_of_all_that_is_drawn():
    sizes = [Row(i, float(i), "size", 32.0, 32.0, 32.0, 1, "exact") for i in range(6)]
    axes = noise_scale([Row(5, 5.0, "b", 50.0, 20.0, 90.0, 9, "estimate")], sizes).axes[0]
    assert {0.0, 1.0, 5.0} <= set(axes.get_xticks())


def test_an_interval_below_0_as_a_whole_is_noise_that_hides_the_gradient_and_no_small_noise_scale():
    axes = _drawn(-20.0, -20.0, value=-50.0, lower=-200.0)
    assert _marked(axes) == [0.0, 1.0]
    assert _marked(axes, NO_LOWER) == []
    (band,) = [collection for collection in axes.collections if collection.get_label() == "confidence interval"]
    assert not [vertex for path in band.get_paths() for vertex in path.vertices if math.isfinite(vertex[1])]
