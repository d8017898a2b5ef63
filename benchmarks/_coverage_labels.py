"""The cases of single columns with labels."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks._coverage import Case
from benchmarks._known_labels import known_labels, rare_labels, unseen_labels, unseen_rare_labels
from lightning_foresight.functional import Estimate, label_information


def label_of(estimator: str, x: Tensor, y: Tensor, seed: int, **options: Any) -> Estimate:
    return label_information(x, y, estimator=estimator, base=math.e, **options)


def labels() -> Iterator[Case]:
    """Single columns with labels."""
    measure = functools.partial(label_of, "ksg")
    for group, pairs in (("seen", known_labels()), ("unseen", unseen_labels())):
        for name, (draw, truth) in pairs.items():
            yield Case("ksg with labels", name, group, draw, truth, measure, {300: 1000, 1000: 500})
    for group, rare in (("seen", rare_labels()), ("unseen", unseen_rare_labels())):
        for name, ((draw, truth), numbers) in rare.items():
            yield Case("ksg with labels", name, group, draw, truth, measure, dict.fromkeys(numbers, 500))


def classes_in(width: int, shares: tuple[float, ...], gap: float) -> Any:
    """Unit normal classes, their first columns ``gap`` apart, ``width`` columns in all."""

    def draw(n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        of_class = generator.choice(len(shares), n, p=shares)
        rows = generator.standard_normal((n, width))
        rows[:, 0] += gap * of_class
        return rows, of_class

    return draw
