from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_foresight.schedule import Every, LogSchedule, resolve_schedule, schedule_unit


@given(st.integers(1, 2000), st.data())
def test_log_schedule_has_exactly_num_distinct_points_up_to_the_last(last, data):
    num = data.draw(st.integers(1, last))
    points = LogSchedule(last, num).points
    assert len(points) == num
    assert all(a < b for a, b in pairwise(points))
    assert points[-1] == last
    assert points[0] >= 1


def test_log_schedule_is_dense_at_first():
    points = LogSchedule(10_000, 9).points
    assert points == (1, 3, 10, 32, 100, 316, 1000, 3162, 10_000)
    assert [count for count in range(50) if LogSchedule(10_000, 9)(count)] == [1, 3, 10, 32]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogSchedule(0, 1), r"LogSchedule\(max_epochs=0\): expected an integer of at least 1"),
        (lambda: LogSchedule(5, 6), r"LogSchedule\(num=6\): expected at most max_epochs=5"),
        (lambda: LogSchedule(5, 2, unit="hours"), r"LogSchedule\(unit='hours'\): expected one of 'epochs', 'steps'"),
        (lambda: Every(0), r"Every\(n=0\): expected an integer of at least 1"),
        (lambda: resolve_schedule("X", None, None, None), r"X\(every_n_epochs=None\)"),
        (lambda: resolve_schedule("X", 1, 2, Every(1)), r"X\(every_n_steps=2\): expected None when schedule= is given"),
        (lambda: resolve_schedule("X", 0, None, None), r"X\(every_n_epochs=0\)"),
        (lambda: resolve_schedule("X", 1, True, None), r"X\(every_n_steps=True\)"),
        (lambda: resolve_schedule("X", 1, None, 3), r"X\(schedule=3\): expected LogSchedule"),
    ],
)
def test_bad_schedules_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_steps_and_schedules_win_over_epochs():
    assert schedule_unit(resolve_schedule("X", 1, 3, None)) == "steps"
    assert schedule_unit(resolve_schedule("X", 2, None, None)) == "epochs"
    assert schedule_unit(resolve_schedule("X", 1, None, LogSchedule(9, 2, unit="steps"))) == "steps"
    assert schedule_unit(lambda count: True) == "epochs"
