"""The cases whose intervals are counted, by family; each family takes a few minutes at most."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import stats
from torch import Tensor

from benchmarks._coverage import Case
from benchmarks._known_labels import (
    dependence_of_table,
    information_of_table,
    known_labels,
    known_tables,
    labelled_information,
    sliced_gaussian,
    sliced_labels,
    unseen_labels,
    unseen_tables,
)
from benchmarks._known_pairs import known_pairs, normal, student, uniform_sum, unseen_pairs
from lightning_foresight.functional import (
    Estimate,
    cka,
    distance_correlation,
    hsic,
    label_information,
    mutual_information,
    plane_information,
)
from lightning_foresight.functional.mutual_information import binned_information


def pair_of(estimator: str, x: Tensor, y: Tensor, seed: int, **options: Any) -> Estimate:
    return mutual_information(x, y, estimator=estimator, base=math.e, **options)


def label_of(estimator: str, x: Tensor, y: Tensor, seed: int, **options: Any) -> Estimate:
    return label_information(x, y, estimator=estimator, base=math.e, **options)


def columns() -> Iterator[Case]:
    """Single columns by nearest neighbours, and by EDGE, which claims nothing but has an error."""
    for group, name, draw, truth in _pairs():
        for estimator, few, many in (("auto", 100, 100), ("ksg", 100, 50), ("edge", 20, 20)):
            sets = {300: few, 1000: many}
            yield Case(estimator, name, group, draw, truth, functools.partial(pair_of, estimator), sets)


def _pairs() -> Iterator[tuple[str, str, Any, float]]:
    more = {"normal 0.75": normal(0.75), "normal 0": normal(0.0), "normal 0.99": normal(0.99), "student 1": student(1)}
    more |= {"cubes 0.75": normal(0.75, lambda t: t**3), "uniform sum 0.1": uniform_sum(0.1)}
    for group, pairs in (("seen", {**known_pairs(), **more}), ("unseen", unseen_pairs())):
        for name, (draw, truth) in pairs.items():
            yield group, name, draw, truth


def labels() -> Iterator[Case]:
    """Single columns with labels."""
    for group, pairs in (("seen", known_labels()), ("unseen", unseen_labels())):
        for name, (draw, truth) in pairs.items():
            measure = functools.partial(label_of, "ksg")
            yield Case("ksg with labels", name, group, draw, truth, measure, {300: 200, 1000: 100})


def large() -> Iterator[Case]:
    """Every fourth kind of single columns, and of those with labels, at 5,000 samples."""
    for group, name, draw, truth in list(_pairs())[::4]:
        yield Case("auto", name, group, draw, truth, functools.partial(pair_of, "auto"), {5000: 50})
    for case in list(labels())[::4]:
        yield case._replace(sets={5000: 25})


def _classes_in(width: int, shares: tuple[float, ...], gap: float) -> Any:
    """Unit normal classes, their first columns ``gap`` apart, ``width`` columns in all."""

    def draw(n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        of_class = generator.choice(len(shares), n, p=shares)
        rows = generator.standard_normal((n, width))
        rows[:, 0] += gap * of_class
        return rows, of_class

    return draw


def _noisy_truths(width: int, shares: tuple[float, ...], gap: float, noise: float) -> tuple[float, float]:
    """I(X;T+N) and I(T+N;Y): all but the first column are normal, and independent of it."""
    size = math.sqrt(1 + noise**2)
    densities = [stats.norm(gap * place, size) for place in range(len(shares))]
    about_label = labelled_information(shares, *densities)
    return about_label + width * math.log(size / noise), about_label


def layers() -> Iterator[Case]:
    """Layers with noise: both coordinates for the population of inputs, by Monte Carlo; I(T;Y) by bounds."""
    even, three = (0.5, 0.5), (0.2, 0.3, 0.5)
    seen = [(1, even, 0.0, 0.3), (1, even, 2.0, 0.3), (1, even, 6.0, 0.3), (2, even, 2.0, 1.0), (2, even, 6.0, 0.05)]
    seen += [(5, even, 0.0, 1.0), (5, even, 4.0, 1.0), (5, even, 2.0, 0.05)]
    seen += [(1, three, 2.0, 0.5), (3, even, 3.0, 0.5), (1, (0.1, 0.9), 1.0, 0.2), (2, three, 4.0, 0.2)]
    seen += [(8, three, 0.0, 0.1)]
    unseen = [(1, (0.4, 0.6), 3.0, 0.4), (4, even, 1.5, 0.8), (2, three, 1.5, 0.5), (6, three, 3.0, 1.5)]
    unseen += [(1, even, 0.0, 1.0), (3, (0.25,) * 4, 2.0, 0.3)]

    def noisy(index: int, std: float, rows: Tensor, labels: Tensor, seed: int) -> Estimate:
        # Noise of other seeds than the rows'.
        options = {"estimator": "noisy", "noise_std": std, "seed": 10_000 + seed}
        return plane_information(rows, labels, base=math.e, **options)[index]

    def kde(std: float, rows: Tensor, labels: Tensor, seed: int) -> Estimate:
        return plane_information(rows, labels, estimator="kde", base=math.e, noise_variance=std**2)[1]

    for group, settings in (("seen", seen), ("unseen", unseen)):
        for place, (width, shares, gap, std) in enumerate(settings):
            name = f"{len(shares)} classes {gap:g} apart, {width} columns, noise {std:g}"
            draw, truths = _classes_in(width, shares, gap), _noisy_truths(width, shares, gap, std)
            sets = {300: 100, 1000: 50, **({5000: 20} if place == 1 else {})}
            for index, question in enumerate(("I(X;T)", "I(T;Y)")):
                measure = functools.partial(noisy, index, std)
                yield Case(f"noisy {question}", name, group, draw, truths[index], measure, sets)
            yield Case("kde I(T;Y), a bracket", name, group, draw, truths[1], functools.partial(kde, std), sets)


def slices() -> Iterator[Case]:
    """Sliced information: 20 new directions in each data set, against the mean over all directions."""

    def sliced(question: Any, x: Tensor, y: Tensor, seed: int) -> Estimate:
        return question(x, y, estimator="sliced", base=math.e, seed=10_000 + seed)

    def draw_pair(rho: float, width: int, n: int, generator: np.random.Generator) -> tuple[np.ndarray, ...]:
        x, noise = generator.standard_normal((2, n, width))
        return x, rho * x + math.sqrt(1 - rho**2) * noise

    for group, rho, width in (
        ("seen", 0.8, 2),
        ("seen", 0.0, 2),
        ("seen", 0.9, 5),
        ("unseen", 0.6, 3),
        ("unseen", 0.95, 10),
    ):
        draw = functools.partial(draw_pair, rho, width)
        sets = {300: 60, 1000: 40, **({5000: 20} if width == 2 and rho else {})}
        measure = functools.partial(sliced, mutual_information)
        yield Case(
            "sliced", f"normal {rho:g}, {width} columns", group, draw, sliced_gaussian(rho, width), measure, sets
        )
    for group, gap, width in (("seen", 4.0, 2), ("seen", 0.0, 10), ("unseen", 3.0, 5)):
        draw, truth = _classes_in(width, (0.5, 0.5), gap), sliced_labels(gap, width)
        measure = functools.partial(sliced, label_information)
        name = f"classes {gap:g} apart, {width} columns"
        yield Case("sliced with labels", name, group, draw, truth, measure, {300: 60, 1000: 20})


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


FAMILIES = {
    f"coverage_{family.__name__}": family for family in (columns, labels, large, layers, slices, tables, dependence)
}
