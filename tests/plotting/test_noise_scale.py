"""What the figure of the noise scale does with ends of intervals that are far away."""

from __future__ import annotations

import math

import pytest

from lightning_foresight.history import Row
from lightning_foresight.plotting.noise_scale import noise_scale


def _drawn(*uppers):
    """The axes for noise scales of 50 examples with these upper ends, beside batches of 32."""
    rows = [Row(i, float(i), "b", 50.0, 20.0, upper, 9, "estimate") for i, upper in enumerate(uppers)]
    sizes = [Row(i, float(i), "size", 32.0, 32.0, 32.0, 1, "exact") for i in range(len(uppers))]
    return noise_scale(rows, sizes).axes[0]


def _marked(axes):
    return [x for line in axes.get_lines() if line.get_label() == "unbounded" for x in line.get_xdata()]


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
