"""The cases of columns that take few values: entropies of counts, and measures of dependence."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from benchmarks._coverage import Case
from benchmarks._known_labels import dependence_of_table, information_of_table, known_tables, unseen_tables
from lightning_foresight.functional import Estimate, cka, distance_correlation, hsic
from lightning_foresight.functional.mutual_information import binned_information


def tables() -> Iterator[Case]:
    """Entropy and information of counts, plug-in and corrected."""

    def counted(index: int, correction: str, x: Tensor, y: Tensor, seed: int) -> Estimate:
        return binned_information(x.unsqueeze(1), y, base=math.e, correction=correction)[index]

    for group, found in (("seen", known_tables()), ("unseen", unseen_tables())):
        for name, table in found.items():
            for correction in ("none", "miller_madow", "chao_wang_jost"):
                for index, question in enumerate(("H(T)", "I(T;Y)")):
                    measure = functools.partial(counted, index, correction)
                    truth = information_of_table(table)[index]
                    yield Case(
                        f"binned {question} ({correction})",
                        name,
                        group,
                        functools.partial(draw_table, table),
                        truth,
                        measure,
                        {300: 400, 1000: 400, 5000: 400},
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

    def draw(table: np.ndarray, n: int, generator: np.random.Generator) -> tuple[np.ndarray, ...]:
        return tuple(side.astype(float) for side in draw_table(table, n, generator))

    even, rising, falling = np.full(5, 1 / 5), np.arange(1, 8) / 28, np.array([0.35, 0.25, 0.2, 0.15, 0.05])
    settings = [("seen", even, (0.0, 0.15, 0.6)), ("seen", rising, (0.08, 0.3, 0.9))]
    settings += [("seen", falling, (0.0, 0.05, 0.2, 0.75))]
    settings += [("unseen", np.array([0.1, 0.2, 0.3, 0.4]), (0.0, 0.1, 0.35, 0.85))]
    for group, shares, weights in settings:
        for weight in weights:
            table = (1 - weight) * np.outer(shares, shares) + weight * np.diag(shares)
            for name, (kernel, normalised, measure) in measures.items():
                truth = dependence_of_table(table, kernel, normalised)
                truth = math.sqrt(max(truth, 0)) if name == "distance_correlation" else truth
                data = f"{len(shares)} places from {shares[0]:.2g}, diagonal {weight:g}"
                sets = {300: 200, 1000: 100}
                yield Case(name, data, group, functools.partial(draw, table), truth, measure, sets)
