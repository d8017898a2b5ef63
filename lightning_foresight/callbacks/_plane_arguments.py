"""What InfoPlaneCallback takes, checked before a run so that a mistake is named where it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_foresight.callbacks._plane_presets import PRESETS, Settings
from lightning_foresight.functional._checks import check_choice, fail
from lightning_foresight.functional.mutual_information import check_plane_estimator
from lightning_foresight.metrics.dependence import DependenceMetric


def resolve_estimator(owner: str, estimator: Any, options: Any, preset: Any) -> Settings:
    """Return the estimator and its options, those of a preset where one is named.

    Raises:
        ValueError: For a preset, estimator or option that there is not, or a preset beside one of the others.
        TypeError: If one of them is of a type that none can have.
    """
    if options is not None and not (isinstance(options, Mapping) and all(isinstance(key, str) for key in options)):
        fail(owner, "options", options, "expected a mapping of names to values, such as {'bins': 30}.", TypeError)
    if preset is not None:
        check_choice(owner, "preset", preset, PRESETS)
        if options or estimator != "auto":
            fail(owner, "preset", preset, "expected neither estimator= nor options= beside it: it sets both.")
        return PRESETS[preset]()
    if isinstance(estimator, DependenceMetric):
        if options:
            fail(owner, "options", options, "expected none beside a metric, which has arguments of its own.")
        return estimator, {}
    if not isinstance(estimator, str):
        advice = "a callback with a prefix of its own for each estimator" if _is_several(estimator) else "an instance"
        expected = f"expected a name such as 'auto' or 'binned', or an instance of a DependenceMetric; pass {advice}."
        fail(owner, "estimator", estimator, expected, TypeError)
    check_plane_estimator(owner, estimator, dict(options or {}))
    return estimator, dict(options or {})


def check_targets(owner: str, targets: Any) -> None:
    """Require a function of the batch, or several by name.

    Raises:
        TypeError: If it is neither.
        ValueError: If there is none, or a name would break the keys.
    """
    if targets is None or (callable(targets) and not isinstance(targets, Mapping)):
        return
    if not isinstance(targets, Mapping) or not all(callable(rule) for rule in targets.values()):
        expected = "expected a function from a batch to labels, or several by name: {'class': lambda batch: batch[1]}."
        fail(owner, "targets", targets, expected, TypeError)
    if not targets or not all(isinstance(name, str) and name and "/" not in name for name in targets):
        fail(owner, "targets", list(targets), "expected at least one name, each a string without slashes.")


def check_switch(owner: str, argument: str, value: Any) -> None:
    """Require a truth value: a word such as ``"no"`` would count as yes.

    Raises:
        TypeError: If it is none.
    """
    if not isinstance(value, bool):
        fail(owner, argument, value, "expected True or False.", TypeError)


def _is_several(estimator: Any) -> bool:
    return isinstance(estimator, (list, tuple, set, dict))
