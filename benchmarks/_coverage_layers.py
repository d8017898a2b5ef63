"""The cases of layers with noise."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import stats
from torch import Tensor

from benchmarks._coverage import Case
from lightning_foresight.functional import Estimate, plane_information


class _Layer(NamedTuple):
    """Normal classes: their first columns are ``gap`` apart, all others unit normals that are independent of them."""

    width: int
    shares: tuple[float, ...]
    gap: float
    noise: float
    scales: tuple[float, ...] = ()  # of the first column; 1 if not given
    wrong: float = 0.0  # share of labels that are another one
    draws: int = 1

    @property
    def name(self) -> str:
        count = len(set(self.shares))
        shares = "" if count == 1 else " of " + "/".join(f"{share:g}" for share in self.shares)
        parts = [f"{len(self.shares)} classes{shares} {self.gap:g} apart, {self.width} columns, noise {self.noise:g}"]
        parts += [f"scales {', '.join(f'{scale:g}' for scale in self.scales)}"] if self.scales else []
        parts += [f"{self.wrong:.1%} wrong"] if self.wrong else []
        return ", ".join(parts + ([f"{self.draws} draws"] if self.draws > 1 else []))

    def draw(self, n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        of_class = generator.choice(len(self.shares), n, p=self.shares)
        rows = generator.standard_normal((n, self.width))
        if self.scales:
            rows[:, 0] *= np.array(self.scales)[of_class]
        rows[:, 0] += self.gap * of_class
        if not self.wrong:
            return rows, of_class
        other = generator.integers(1, len(self.shares), n) * (generator.random(n) < self.wrong)
        return rows, (of_class + other) % len(self.shares)

    def truths(self) -> tuple[float, float]:
        """I(X;T+N) and I(T+N;Y), by quadrature: at each quantile of each class, on average."""
        shares, count = np.array(self.shares), len(self.shares)
        sizes = np.hypot(np.array(self.scales or (1.0,) * count), self.noise)
        classes = [stats.norm(self.gap * place, size) for place, size in enumerate(sizes)]
        off = self.wrong / (count - 1)
        of_label = np.full((count, count), off) + (1 - self.wrong - off) * np.eye(count)
        quantiles = (np.arange(200_000) + 0.5) / 200_000
        about_class = about_label = 0.0
        for place, own in enumerate(classes):
            t = own.ppf(quantiles)
            joint = np.stack([share * each.pdf(t) for share, each in zip(shares, classes, strict=True)])
            posterior = (joint / joint.sum(0)).clip(1e-300)  # whose logarithms others' shares of 0 do not make finite
            about_class += shares[place] * float(np.mean(np.log(posterior[place] / shares[place])))
            gains = (np.log(of_label.T @ posterior) - np.log(of_label.T @ shares)[:, None]).mean(1)
            about_label += shares[place] * float(of_label[place] @ gains)
        within = float(shares @ np.log(sizes / self.noise)) + (self.width - 1) * math.log(math.hypot(1, 1 / self.noise))
        return float(about_class + within), float(about_label)


_EVEN, _THREE = (0.5, 0.5), (0.2, 0.3, 0.5)

_SEEN = (
    _Layer(1, _EVEN, 0.0, 0.3),
    _Layer(1, _EVEN, 2.0, 0.3),
    _Layer(1, _EVEN, 6.0, 0.3),
    _Layer(2, _EVEN, 2.0, 1.0),
    _Layer(2, _EVEN, 6.0, 0.05),
    _Layer(5, _EVEN, 0.0, 1.0),
    _Layer(5, _EVEN, 4.0, 1.0),
    _Layer(5, _EVEN, 2.0, 0.05),
    _Layer(1, _THREE, 2.0, 0.5),
    _Layer(3, _EVEN, 3.0, 0.5),
    _Layer(1, (0.1, 0.9), 1.0, 0.2),
    _Layer(2, _THREE, 4.0, 0.2),
    _Layer(8, _THREE, 0.0, 0.1),
    _Layer(1, (0.4, 0.6), 3.0, 0.4),
    _Layer(4, _EVEN, 1.5, 0.8),
    _Layer(2, _THREE, 1.5, 0.5),
    _Layer(6, _THREE, 3.0, 1.5),
    _Layer(1, _EVEN, 0.0, 1.0),
    _Layer(3, (0.25,) * 4, 2.0, 0.3),
    _Layer(1, _EVEN, 0.5, 0.5),
    _Layer(1, _EVEN, 4.0, 0.3),
    _Layer(1, _EVEN, 5.0, 0.5),
    _Layer(1, _EVEN, 7.0, 0.3),
    _Layer(1, _EVEN, 10.0, 0.3),
    _Layer(2, _EVEN, 5.0, 0.7),
    _Layer(1, (0.1, 0.9), 5.0, 0.5),
    _Layer(1, _THREE, 6.0, 0.5),
    _Layer(1, (0.1,) * 10, 1.5, 0.5),
    _Layer(1, (0.1,) * 10, 5.0, 0.5),
    _Layer(1, (0.25,) * 4, 5.0, 0.5),
    _Layer(1, _EVEN, 0.0, 0.3, scales=(1.0, 3.0)),
    _Layer(1, _EVEN, 6.0, 1.0, wrong=0.005),
    _Layer(1, _EVEN, 12.0, 2.0, wrong=0.005),
    _Layer(1, _EVEN, 8.0, 0.5, wrong=0.02),
    _Layer(2, _THREE, 1.5, 0.5, draws=5),
)
# Looked at only after everything about the intervals was fixed.
_UNSEEN = (
    _Layer(1, (0.3, 0.3, 0.4), 2.5, 0.6),
    _Layer(2, (0.15, 0.85), 3.0, 0.7),
    _Layer(1, _EVEN, 5.2, 0.4),
    _Layer(3, _EVEN, 1.0, 1.2),
    _Layer(1, _EVEN, 1.0, 0.5, scales=(1.0, 2.5)),
    _Layer(1, (0.25,) * 4, 3.5, 0.4, wrong=0.01),
    _Layer(1, _EVEN, 7.0, 0.6, wrong=0.004),
    _Layer(1, (0.4, 0.6), 8.0, 0.8),
    _Layer(2, (0.2,) * 5, 2.0, 0.6),
    _Layer(1, _EVEN, 0.7, 0.4),
    _Layer(2, (0.35, 0.65), 2.5, 0.5, draws=4),
)
# Also at 5,000 samples.
_LARGE = (_SEEN[1], _SEEN[22], _UNSEEN[2])


def layers() -> Iterator[Case]:
    """Layers with noise: both coordinates for the population of inputs, by Monte Carlo; I(T;Y) by bounds."""
    both: dict[tuple[_Layer, int, int], tuple[Estimate, Estimate]] = {}

    def noisy(index: int, layer: _Layer, rows: Tensor, labels: Tensor, seed: int) -> Estimate:
        # Both come at once: the case that asks first leaves the other its own.
        drawn = layer, rows.shape[0], seed
        if drawn in both:
            return both.pop(drawn)[index]
        # Noise of other seeds than the rows'.
        options = {"noise_std": layer.noise, "num_draws": layer.draws, "seed": 10_000 + seed}
        both[drawn] = plane_information(rows, labels, estimator="noisy", base=math.e, **options)
        return both[drawn][index]

    def kde(layer: _Layer, rows: Tensor, labels: Tensor, seed: int) -> Estimate:
        return plane_information(rows, labels, estimator="kde", base=math.e, noise_variance=layer.noise**2)[1]

    for group, settings in (("seen", _SEEN), ("unseen", _UNSEEN)):
        for layer in settings:
            truths = layer.truths()
            sets = {300: 1000, 1000: 500, **({5000: 300} if layer in _LARGE else {})}
            for index, question in enumerate(("I(X;T)", "I(T;Y)")):
                measure = functools.partial(noisy, index, layer)
                yield Case(f"noisy {question}", layer.name, group, layer.draw, truths[index], measure, sets)
            name, measure = "kde I(T;Y), a bracket", functools.partial(kde, layer)
            yield Case(name, layer.name, group, layer.draw, truths[1], measure, {300: 50, 1000: 20})
