"""The cases of single columns and of slices, whose intervals rest on nearest neighbours."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks._coverage import Case
from benchmarks._coverage_labels import classes_in, labels
from benchmarks._known_labels import sliced_gaussian, sliced_labels
from benchmarks._known_pairs import known_pairs, normal, student, uniform_sum, unseen_pairs
from lightning_foresight.functional import Estimate, label_information, mutual_information


def pair_of(estimator: str, x: Tensor, y: Tensor, seed: int, **options: Any) -> Estimate:
    return mutual_information(x, y, estimator=estimator, base=math.e, **options)


def columns() -> Iterator[Case]:
    """Single columns by nearest neighbours, and by EDGE, which claims nothing but has an error."""
    for group, name, draw, truth in _pairs():
        for estimator, few, many in (("auto", 1000, 1000), ("ksg", 1000, 1000), ("edge", 20, 20)):
            sets = {300: few, 1000: many}
            yield Case(estimator, name, group, draw, truth, functools.partial(pair_of, estimator), sets)


def _pairs() -> Iterator[tuple[str, str, Any, float]]:
    more = {"normal 0.75": normal(0.75), "normal 0": normal(0.0), "normal 0.99": normal(0.99), "student 1": student(1)}
    more |= {"cubes 0.75": normal(0.75, lambda t: t**3), "uniform sum 0.1": uniform_sum(0.1)}
    for group, pairs in (("seen", {**known_pairs(), **more}), ("unseen", unseen_pairs())):
        for name, (draw, truth) in pairs.items():
            yield group, name, draw, truth


def large() -> Iterator[Case]:
    """Every fourth kind of single columns, and of those with labels, at 5,000 samples."""
    for group, name, draw, truth in list(_pairs())[::4]:
        yield Case("auto", name, group, draw, truth, functools.partial(pair_of, "auto"), {5000: 200})
    for case in list(labels())[::4]:
        yield case._replace(sets={5000: 100})


def slices() -> Iterator[Case]:
    """Sliced information: 20 new directions in each data set, against the mean over all directions."""

    def sliced(question: Any, x: Tensor, y: Tensor, seed: int) -> Estimate:
        return question(x, y, estimator="sliced", base=math.e, seed=10_000 + seed)

    def draw_pair(rho: float, width: int, n: int, generator: np.random.Generator) -> tuple[np.ndarray, ...]:
        x, noise = generator.standard_normal((2, n, width))
        return x, rho * x + math.sqrt(1 - rho**2) * noise

    seen = [(0.8, 2), (0.0, 2), (0.9, 5), (0.6, 3), (0.95, 10)]
    unseen = [(0.7, 4), (0.99, 2), (0.9, 50)]
    for group, rho, width in [("seen", *each) for each in seen] + [("unseen", *each) for each in unseen]:
        draw = functools.partial(draw_pair, rho, width)
        sets = {300: 400, 1000: 200, **({5000: 60} if width == 2 and rho else {})}
        measure = functools.partial(sliced, mutual_information)
        yield Case(
            "sliced", f"normal {rho:g}, {width} columns", group, draw, sliced_gaussian(rho, width), measure, sets
        )
    seen, unseen = [(4.0, 2), (0.0, 10), (3.0, 5)], [(2.0, 3), (6.0, 20)]
    for group, gap, width in [("seen", *each) for each in seen] + [("unseen", *each) for each in unseen]:
        draw, truth = classes_in(width, (0.5, 0.5), gap), sliced_labels(gap, width)
        measure = functools.partial(sliced, label_information)
        name = f"classes {gap:g} apart, {width} columns"
        yield Case("sliced with labels", name, group, draw, truth, measure, {300: 400, 1000: 200})
