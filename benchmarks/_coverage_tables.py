"""The cases of columns that take few values: entropies of counts, and measures of dependence."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from benchmarks._coverage import Case
from benchmarks._known_labels import (
    dependence_of_table,
    information_of_table,
    known_tables,
    leaning,
    rare_tables,
    unseen_rare_tables,
    unseen_tables,
)
from lightning_foresight.functional import Estimate, cka, distance_correlation, hsic
from lightning_foresight.functional.mutual_information import binned_information


def tables() -> Iterator[Case]:
    """Entropy and information of counts, plug-in and corrected."""

    def counted(index: int, correction: str, x: Tensor, y: Tensor, seed: int) -> Estimate:
        return binned_information(x.unsqueeze(1), y, base=math.e, correction=correction)[index]

    every = {300: 1000, 1000: 1000, 5000: 500}
    tables = [("seen", name, table, every) for name, table in known_tables().items()]
    tables += [("unseen", name, table, every) for name, table in unseen_tables().items()]
    for group, found in (("seen", rare_tables()), ("unseen", unseen_rare_tables())):
        tables += [(group, name, table, dict.fromkeys(numbers, 1000)) for name, (table, numbers) in found.items()]
    for group, name, table, sets in tables:
        for correction in ("none", "miller_madow", "chao_wang_jost"):
            for index, question in enumerate(("H(T)", "I(T;Y)")):
                yield Case(
                    f"binned {question} ({correction})",
                    name,
                    group,
                    functools.partial(draw_table, table),
                    information_of_table(table)[index],
                    functools.partial(counted, index, correction),
                    sets,
                    math.log(table.shape[0] if index == 0 else min(table.shape)),
                )


def draw_table(table: np.ndarray, n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    cells = generator.choice(table.size, n, p=table.ravel())
    return cells // table.shape[1], cells % table.shape[1]


def dependence() -> Iterator[Case]:
    """Kernel measures of columns that take few values, so that the truth can be enumerated."""
    measures = {
        "hsic": ("gaussian", False, lambda x, y, seed: hsic(x, y, bandwidth=1.0)),
        "cka": ("linear", True, lambda x, y, seed: cka(x, y)),
        "distance_correlation": ("distance", True, lambda x, y, seed: distance_correlation(x, y)),
    }
    for group, data, table, labels in _dependent():
        # Of 300 samples too few are of a rarer label to claim anything.
        sets = {300: 500, 1000: 150} if not labels or table.sum(0).min() > 0.12 else {1000: 150}
        for name, (kernel, normalised, measure) in measures.items():
            truth = dependence_of_table(table, kernel, normalised, labels)
            truth = math.sqrt(max(truth, 0)) if name == "distance_correlation" else truth
            yield Case(name, data, group, functools.partial(draw_places, table, labels), truth, measure, sets)


def draw_places(table: np.ndarray, labels: bool, n: int, generator: np.random.Generator) -> tuple[np.ndarray, ...]:
    place, other = draw_table(table, n, generator)
    return place.astype(float), other if labels else other.astype(float)


def _dependent() -> Iterator[tuple[str, str, np.ndarray, bool]]:
    """Group, name and table of places and places, or labels."""
    even, rising, falling = np.full(5, 1 / 5), np.arange(1, 8) / 28, np.array([0.35, 0.25, 0.2, 0.15, 0.05])
    settings = [("seen", even, (0.0, 0.15, 0.6)), ("seen", rising, (0.08, 0.3, 0.9))]
    settings += [
        ("seen", falling, (0.0, 0.05, 0.2, 0.75)),
        ("seen", np.array([0.1, 0.2, 0.3, 0.4]), (0.0, 0.1, 0.35, 0.85)),
    ]
    settings += [("unseen", np.array([0.15, 0.2, 0.3, 0.2, 0.1, 0.05]), (0.0, 0.12, 0.5))]
    for group, shares, weights in settings:
        for weight in weights:
            table = (1 - weight) * np.outer(shares, shares) + weight * np.diag(shares)
            yield group, f"{len(shares)} places from {shares[0]:.2g}, diagonal {weight:g}", table, False
    for group, cells, share, slope in (
        ("seen", 5, 0.1, 0.0),
        ("seen", 5, 0.06, 0.4),
        ("seen", 5, 0.2, 0.4),
        ("seen", 5, 0.06, 2.0),
        ("seen", 5, 0.2, 2.0),
        ("unseen", 4, 0.15, 0.0),
        ("unseen", 6, 0.05, 1.0),
        ("unseen", 3, 0.25, 0.7),
    ):
        yield group, f"{cells} places, a label of {share:g}, slope {slope:g}", leaning(cells, share, slope), True
