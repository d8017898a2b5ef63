"""How often intervals hold the known value: cases, one estimator on one kind of data each, and their counts."""

from __future__ import annotations

import math
import statistics
import zlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import binom

from lightning_foresight.functional import Estimate
from lightning_foresight.functional.estimate import KINDS

Z = 1.959964
LIMIT = 1e-9  # nats, or without unit
BOUNDS = ("lower_bound", "upper_bound", "bracket")
# Of its data sets. Where fewer claim an interval, most say that there is none: such claims are counted together.
ENOUGH = 0.3


class Case(NamedTuple):
    """One estimator on one kind of data.

    ``seen`` data are those that anything about the intervals was chosen on; ``unseen`` were looked at only afterwards.
    """

    estimator: str
    data: str
    group: str
    draw: Callable[[int, np.random.Generator], tuple[np.ndarray, ...]]
    truth: float
    # Of the drawn arrays, as tensors with columns, and a seed of the estimator's own.
    measure: Callable[..., Estimate]
    sets: dict[int, int]  # data sets by number of samples
    largest: float = math.inf  # what the truth can be at most

    @property
    def at_limit(self) -> bool:
        """Whether the truth is 0 or the largest possible: an interval that ends there can miss on one side only."""
        return self.truth < LIMIT or self.truth > self.largest - LIMIT


def count(cases: Iterable[Case]) -> dict[str, Any]:
    """Count all cases; a summary for each estimator and group comes first."""
    cells: dict[str, dict[str, dict]] = {"seen": {}, "unseen": {}}
    for case in cases:
        for n, sets in case.sets.items():
            cells[case.group][f"{case.estimator} {case.data} n={n}"] = {
                "estimator": case.estimator,
                **cell(case, n, sets),
            }
    summary = {
        group: {
            name: summarised([row for row in rows.values() if row["estimator"] == name])
            for name in dict.fromkeys(row["estimator"] for row in rows.values())
        }
        for group, rows in cells.items()
    }
    return {"summary": summary, **cells}


def cell(case: Case, n: int, sets: int) -> dict[str, Any]:
    """Claims of one case at one number of samples, and how they held; nats."""
    held: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    values, errors, widths = [], [], []
    for seed in range(sets):
        # Data of their own for each kind, so that cells miss by chance independently of each other.
        drawn = case.draw(n, np.random.default_rng([seed, n, zlib.crc32(case.data.encode())]))
        tensors = [torch.from_numpy(np.asarray(each)) for each in drawn]
        columns = [each.unsqueeze(1) if each.is_floating_point() and each.ndim == 1 else each for each in tensors]
        estimate = case.measure(*columns, seed)
        low, high = (float(end) for end in estimate.interval())
        above, below = low <= case.truth + 1e-9, case.truth <= high + 1e-9
        holds = {"lower_bound": above, "upper_bound": below}.get(estimate.kind, above and below)
        held[estimate.kind].append(holds)
        values.append(float(estimate.value))
        errors.append(float(estimate.std_error))
        if estimate.kind in ("estimate", "bracket"):
            widths.append(high - low)
    spread = statistics.stdev(values)
    claims = held["estimate"]
    return {
        "data_sets": sets,
        "claimed": len(claims),
        "covered_of_claimed": statistics.mean(claims) if claims else None,
        **{
            f"{kind}s": {"data_sets": len(held[kind]), "hold": statistics.mean(held[kind])}
            for kind in BOUNDS
            if held[kind]
        },
        "truth": case.truth,
        "at_limit": case.at_limit,
        "bias": statistics.mean(values) - case.truth,
        "spread": spread,
        "std_error_over_spread": statistics.mean(errors) / spread if spread else None,
        "width_over_that_of_the_spread": statistics.mean(widths) / (2 * Z * spread) if widths and spread else None,
    }


def summarised(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Claims of all cells together, what claims no interval, and the cells; those at a limit are counted apart.

    An interval that ends at a limit of what is measured, as at no information, misses a truth there on one side only:
    of 95% intervals 97.5% hold it.
    """
    claimed, bounds = _claims(rows), [row[f"{kind}s"] for row in rows for kind in BOUNDS if f"{kind}s" in row]
    in_bounds = sum(each["data_sets"] for each in bounds)
    full = [row for row in rows if row["claimed"] >= ENOUGH * row["data_sets"]]
    few = [row for row in rows if row not in full]
    widths = [row["width_over_that_of_the_spread"] for row in full if row["width_over_that_of_the_spread"] is not None]
    biases = [abs(row["bias"]) for row in rows]
    return {
        **claimed,
        "bounds": in_bounds,
        "bounds_hold": sum(each["data_sets"] * each["hold"] for each in bounds) / in_bounds if in_bounds else None,
        **_cells([row for row in full if not row["at_limit"]]),
        "at_a_limit": _claims([row for row in full if row["at_limit"]])
        | _cells([row for row in full if row["at_limit"]]),
        "where_few_claim": {**_claims(few), "cells": sum(row["claimed"] > 0 for row in few)},
        "median_width_over_that_of_the_spread": statistics.median(widths) if widths else None,
        "median_bias": statistics.median(biases),
        "largest_bias": max(biases),
    }


def _claims(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How many intervals were claimed, and the share that held."""
    claims = sum(row["claimed"] for row in rows)
    covered = sum(row["claimed"] * (row["covered_of_claimed"] or 0) for row in rows)
    return {"claims": claims, "covered": covered / claims if claims else None}


def _cells(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Cells outside 90 to 98%, and how many of these chance makes at exactly 95%."""
    full = [(row["claimed"], round(row["claimed"] * row["covered_of_claimed"])) for row in rows]
    return {
        "cells": len(full),
        "least": min((held / claims for claims, held in full), default=None),
        "most": max((held / claims for claims, held in full), default=None),
        "cells_below_90": sum(held < 0.9 * claims for claims, held in full),
        "cells_below_90_by_chance": sum(float(binom.cdf(math.ceil(0.9 * c) - 1, c, 0.95)) for c, _ in full),
        # So few held that one in a hundred cells of 90% would show it.
        "cells_surely_below_90": sum(bool(binom.cdf(held, claims, 0.9) < 0.01) for claims, held in full),
        "cells_above_98": sum(held > 0.98 * claims for claims, held in full),
        "cells_above_98_by_chance": sum(float(binom.sf(math.floor(0.98 * c), c, 0.95)) for c, _ in full),
        # So many held that one in a hundred cells of 98% would show it.
        "cells_surely_above_98": sum(bool(binom.sf(held - 1, claims, 0.98) < 0.01) for claims, held in full),
    }
