"""When to measure: schedules over epochs or optimizer steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from lightning_foresight.functional._checks import check_choice, check_int, fail
from lightning_foresight.functional._repr import ShowsArguments

Unit = Literal["epochs", "steps"]


class Every(ShowsArguments):
    """Every ``n``-th epoch or step.

    Args:
        n: The period, at least 1.
        unit: What is counted, ``"epochs"`` or ``"steps"`` (optimizer steps).

    Example:
        >>> from lightning_foresight.schedule import Every
        >>> [count for count in range(1, 11) if Every(3)(count)]
        [3, 6, 9]
    """

    def __init__(self, n: int, unit: Unit = "epochs") -> None:
        check_int("Every", "n", n, minimum=1)
        check_choice("Every", "unit", unit, ("epochs", "steps"))
        self.n = n
        self.unit = unit

    def __call__(self, count: int) -> bool:
        """Say whether to measure once ``count`` epochs or steps are complete."""
        return count % self.n == 0


class LogSchedule(ShowsArguments):
    """Points spaced evenly in the logarithm: dense at first, when a network changes fast, then rarer.

    Args:
        max_epochs: The last point, in ``unit``.
        num: How many points, from 1 to ``max_epochs``; all distinct, so at most ``max_epochs``.
        unit: What is counted, ``"epochs"`` or ``"steps"`` (optimizer steps).

    Raises:
        ValueError: If ``num`` distinct points do not fit.

    Example:
        >>> from lightning_foresight.schedule import LogSchedule
        >>> LogSchedule(1000, 10).points
        (1, 2, 5, 10, 22, 46, 100, 215, 464, 1000)
    """

    def __init__(self, max_epochs: int, num: int, unit: Unit = "epochs") -> None:
        check_int("LogSchedule", "max_epochs", max_epochs, minimum=1)
        check_int("LogSchedule", "num", num, minimum=1)
        check_choice("LogSchedule", "unit", unit, ("epochs", "steps"))
        if num > max_epochs:
            fail("LogSchedule", "num", num, f"expected at most max_epochs={max_epochs}: that many distinct points fit.")
        self.unit = unit
        self.points = _log_spaced(max_epochs, num)
        self._points = frozenset(self.points)

    def __call__(self, count: int) -> bool:
        """Say whether to measure once ``count`` epochs or steps are complete."""
        return count in self._points


def _log_spaced(last: int, num: int) -> tuple[int, ...]:
    if num == 1:
        return (last,)
    points = [max(1, round(last ** (i / (num - 1)))) for i in range(num)]
    # Rounding makes the first points coincide: push each above the one before, then each below the one after.
    for i in range(1, num):
        points[i] = max(points[i], points[i - 1] + 1)
    points[-1] = last
    for i in range(num - 2, -1, -1):
        points[i] = min(points[i], points[i + 1] - 1)
    return tuple(points)


def resolve_schedule(
    owner: str, every_n_epochs: int | None, every_n_steps: int | None, schedule: Callable[[int], bool] | None
) -> Callable[[int], bool]:
    """Return the one schedule that a callback's three arguments ask for; steps and ``schedule`` win over epochs."""
    if schedule is not None:
        if every_n_steps is not None:
            fail(owner, "every_n_steps", every_n_steps, "expected None when schedule= is given: pass one of them.")
        if not callable(schedule):
            fail(owner, "schedule", schedule, "expected LogSchedule(...) or a callable from a count to a bool.")
        if schedule_unit(schedule) not in get_args(Unit):
            unit = schedule_unit(schedule)
            fail(owner, "schedule", schedule, f"expected a unit of 'epochs' or 'steps', got {unit!r}.")
        return schedule
    if every_n_steps is not None:
        check_int(owner, "every_n_steps", every_n_steps, minimum=1)
        return Every(every_n_steps, "steps")
    if every_n_epochs is None:
        fail(owner, "every_n_epochs", None, "expected an integer, or one of every_n_steps= and schedule= instead.")
    check_int(owner, "every_n_epochs", every_n_epochs, minimum=1)
    assert every_n_epochs is not None
    return Every(every_n_epochs, "epochs")


def schedule_unit(schedule: Any) -> Unit:
    """Return what a schedule counts; plain callables count epochs."""
    return getattr(schedule, "unit", "epochs")
