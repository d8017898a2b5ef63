"""The cases of layers with noise."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

from scipy import stats
from torch import Tensor

from benchmarks._coverage import Case
from benchmarks._coverage_labels import classes_in
from benchmarks._known_labels import labelled_information
from lightning_foresight.functional import Estimate, plane_information


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
            draw, truths = classes_in(width, shares, gap), _noisy_truths(width, shares, gap, std)
            sets = {300: 100, 1000: 50, **({5000: 20} if place == 1 else {})}
            for index, question in enumerate(("I(X;T)", "I(T;Y)")):
                measure = functools.partial(noisy, index, std)
                yield Case(f"noisy {question}", name, group, draw, truths[index], measure, sets)
            yield Case("kde I(T;Y), a bracket", name, group, draw, truths[1], functools.partial(kde, std), sets)
