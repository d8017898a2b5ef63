"""Which measure is taken of which sources of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lightning_foresight.callbacks._pid_sources import Sets, SourceRule, source_sets
from lightning_foresight.functional._checks import fail
from lightning_foresight.functional.partial_information.complexity import MAX_CLOCK_SOURCES
from lightning_foresight.metrics.joint_table import JointTable

_FEW = 6  # sources that the lattice can take
_RANDOM = "random:10x5"


class Plan(NamedTuple):
    """One measure (``"information"`` is that of the sources about the target) and the sets it is averaged over."""

    measure: str | JointTable
    sets: Sets


def plans_of(
    owner: str,
    measures: Sequence[str | JointTable],
    sources: SourceRule,
    layer: str,
    width: int,
    noisy: bool,
    seed: int,
) -> list[Plan]:
    """Sets of sources of the information and of every measure.

    Raises:
        ValueError: If the layer has too few neurons for the rule, or the rule gives the complexity too many sources.
    """
    wide = sources == "auto" and width > _FEW
    few = source_sets(owner, _RANDOM if wide else _all(sources), layer, width, seed)
    # Noisy bins are cells of a grid, and the grid of a wide layer has too many.
    whole = few if noisy else source_sets(owner, _all(sources), layer, width, seed)
    plans = [
        Plan(measure, few if isinstance(measure, str) and measure == "complexity" else whole) for measure in measures
    ]
    has_complexity = any(isinstance(measure, str) and measure == "complexity" for measure in measures)
    if has_complexity and len(few[0]) > MAX_CLOCK_SOURCES:
        fail(
            owner,
            "sources",
            sources,
            f"layer {layer!r} then has {len(few[0])} sources, and the complexity takes up to {MAX_CLOCK_SOURCES}. Take "
            "'groups:5', 'random:26x5', or measure='invariants'.",
        )
    return [Plan("information", few if all(plan.sets is few for plan in plans) else whole), *plans]


def _all(sources: SourceRule) -> SourceRule:
    return "neurons" if sources == "auto" else sources
