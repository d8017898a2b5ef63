"""Columns with labels, and tables, whose information and dependence in nats are known by quadrature or enumeration."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

Drawn = tuple[np.ndarray, np.ndarray]
Labelled = tuple[Callable[[int, np.random.Generator], Drawn], float]


def classes(shares: Sequence[float], *densities: Any) -> Labelled:
    """Labels of these shares, and a column drawn from the density of its label (frozen distributions of scipy)."""
    shares_of = np.array(shares)

    def sample(n: int, generator: np.random.Generator) -> Drawn:
        labels = generator.choice(len(shares_of), n, p=shares_of)
        columns = np.stack([each.rvs(n, random_state=generator) for each in densities])
        return columns[labels, np.arange(n)], labels

    return sample, labelled_information(shares, *densities)


def labelled_information(shares: Sequence[float], *densities: Any) -> float:
    """I(T;Y) by quadrature: what is left of H(Y) at each quantile of each class, on average."""
    quantiles = (np.arange(200_000) + 0.5) / 200_000
    total = 0.0
    for share, own in zip(shares, densities, strict=True):
        t = own.ppf(quantiles)
        density = sum(s * each.pdf(t) for s, each in zip(shares, densities, strict=True))
        total += share * float(np.mean(np.log(own.pdf(t) / density)))
    return total


def known_labels() -> dict[str, Labelled]:
    """Return the columns by name."""
    normal, even = stats.norm, (0.5, 0.5)
    return {
        "normal 1": classes(even, normal(-1), normal(1)),
        "normal 2": classes(even, normal(-2), normal(2)),
        "normal 3, uneven": classes((0.2, 0.8), normal(-3), normal(3)),
        "normal 0.3": classes(even, normal(-0.3), normal(0.3)),
        "independent, uneven": classes((0.3, 0.7), normal(), normal()),
        "scales 1 and 3": classes(even, normal(0, 1), normal(0, 3)),
        "four normals": classes((0.25,) * 4, *(normal(2 * place) for place in range(4))),
        "gamma 2 and 5": classes((0.4, 0.6), stats.gamma(2), stats.gamma(5)),
        "exponential 1 and 3": classes(even, stats.expon(scale=1), stats.expon(scale=3)),
        "laplace 1": classes(even, stats.laplace(-1), stats.laplace(1)),
        "uniform, half shared": classes(even, stats.uniform(0, 1), stats.uniform(0.5, 1)),
        "log-normal": classes((0.3, 0.7), stats.lognorm(0.8), stats.lognorm(0.8, scale=4)),
        "ten normals": classes((0.1,) * 10, *(normal(1.5 * place) for place in range(10))),
        "logistic 1.5, uneven": classes((0.25, 0.75), stats.logistic(-1.5), stats.logistic(1.5)),
        "gamma 0.75 and 1.5": classes(even, stats.gamma(0.75), stats.gamma(1.5)),
        "student 3": classes(even, stats.t(3, -1), stats.t(3, 1)),
        "triangles": classes(even, stats.triang(0.5), stats.triang(0.5, loc=0.4)),
        "weibull": classes((0.6, 0.4), stats.weibull_min(1.5), stats.weibull_min(3, scale=2)),
        "three normals, uneven": classes((0.1, 0.3, 0.6), stats.norm(-2.5), stats.norm(0, 0.5), stats.norm(2.5, 1.5)),
        "beta": classes(even, stats.beta(2, 5), stats.beta(5, 2)),
        "independent, three": classes((0.2, 0.3, 0.5), *(stats.expon(),) * 3),
        "normal 1.5, uneven": classes((0.35, 0.65), stats.norm(-1.5), stats.norm(1.5)),
        "gamma 3 and 6": classes(even, stats.gamma(3), stats.gamma(6)),
        "five normals": classes((0.2,) * 5, *(stats.norm(1.2 * place) for place in range(5))),
        "cauchy": classes(even, stats.cauchy(-2), stats.cauchy(2)),
        "rayleigh": classes((0.3, 0.7), stats.rayleigh(scale=1), stats.rayleigh(scale=2)),
        "gumbel": classes((0.25, 0.25, 0.5), stats.gumbel_r(-2), stats.gumbel_r(0), stats.gumbel_r(3)),
    }


def rare_labels() -> dict[str, tuple[Labelled, tuple[int, ...]]]:
    """Return columns with a rare label, by name, with the numbers of samples in which it is seen often enough."""
    normal, found = stats.norm, {}
    for share, numbers in ((0.025, (1000,)), (0.04, (1000,)), (0.06, (1000,)), (0.1, (300, 1000)), (0.2, (300,))):
        rest = 1 - share
        kinds = {
            "weak": classes((share, rest), normal(0.6), normal()),
            "apart": classes((share, rest), normal(2), normal()),
            "decided": classes((share, rest), normal(6), normal()),
            "inside": classes((share, rest), normal(0, 0.3), normal()),
            "of three": classes((share, 0.4 * rest, 0.6 * rest), normal(0), normal(2), normal(4)),
        }
        found |= {f"a label of {share:g}, {name}": (kind, numbers) for name, kind in kinds.items()}
    return found


def unseen_labels() -> dict[str, Labelled]:
    """Return columns that were looked at only after everything about the intervals was fixed."""
    even = (0.5, 0.5)
    return {
        "normal 0.7, uneven": classes((0.15, 0.85), stats.norm(-0.7), stats.norm(0.7)),
        "maxwell": classes((0.45, 0.55), stats.maxwell(scale=1), stats.maxwell(scale=1.6)),
        "six laplace": classes((1 / 6,) * 6, *(stats.laplace(1.8 * place) for place in range(6))),
        "skewed normal": classes(even, stats.skewnorm(4), stats.skewnorm(-4)),
        "chi-square and exponential": classes((0.3, 0.7), stats.chi2(4), stats.expon(scale=2)),
        "independent, even": classes(even, stats.logistic(), stats.logistic()),
        "arcsine in uniform": classes((0.4, 0.6), stats.beta(0.5, 0.5), stats.uniform()),
    }


def unseen_rare_labels() -> dict[str, tuple[Labelled, tuple[int, ...]]]:
    """The same of columns with a rare label."""
    return {
        "a label of 0.05, logistic": (classes((0.05, 0.95), stats.logistic(2), stats.logistic()), (1000,)),
        "a label of 0.08, gamma": (classes((0.08, 0.92), stats.gamma(6), stats.gamma(2)), (1000,)),
        "a label of 0.12, uniform": (classes((0.12, 0.88), stats.uniform(0.2, 0.3), stats.uniform()), (300, 1000)),
        "two labels of 0.06": (
            classes((0.06, 0.06, 0.88), stats.norm(-2), stats.norm(2), stats.norm(0, 0.8)),
            (1000,),
        ),
    }


def sliced_gaussian(rho: float, width: int) -> float:
    """Sliced information of two standard normal sets, each column of correlation ``rho`` with its own."""
    # The cosine of two random directions is that of the first coordinate.
    cosine = 2 * stats.beta((width - 1) / 2, (width - 1) / 2).ppf((np.arange(200_000) + 0.5) / 200_000) - 1
    return float(np.mean(-0.5 * np.log1p(-((rho * cosine) ** 2))))


def sliced_labels(gap: float, width: int) -> float:
    """Sliced information of two even unit normal classes, apart in their first column."""
    cosine = 2 * stats.beta((width - 1) / 2, (width - 1) / 2).ppf((np.arange(100_000) + 0.5) / 100_000) - 1
    gaps = np.linspace(0, gap, 41)
    values = [labelled_information((0.5, 0.5), stats.norm(0), stats.norm(each)) for each in gaps]
    return float(np.interp(gap * np.abs(cosine), gaps, values).mean())


def information_of_table(table: np.ndarray) -> tuple[float, float]:
    """H(T) of the rows and I(T;Y)."""

    def entropy(p: np.ndarray) -> float:
        return float(-(p[p > 0] * np.log(p[p > 0])).sum())

    of_t, of_y = entropy(table.sum(1)), entropy(table.sum(0))
    return of_t, of_t + of_y - entropy(table.ravel())


def dependence_of_table(table: np.ndarray, kernel: str, normalised: bool, labels: bool = False) -> float:
    """HSIC of places 0, 1, 2, ..., or of those and labels; or over the root of both sides' own."""

    def matrix(size: int, as_labels: bool) -> np.ndarray:
        places = np.eye(size) if as_labels else np.arange(size, dtype=float)[:, None]
        if kernel == "linear":
            return places @ places.T
        apart = np.sqrt(((places[:, None] - places) ** 2).sum(-1))
        return -apart if kernel == "distance" else np.exp(-(apart**2) / 2)

    sides = matrix(table.shape[0], False), matrix(table.shape[1], labels)

    def of(joint: np.ndarray, k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
        x, y = joint.sum(1), joint.sum(0)
        alone = (x @ k @ x) * (y @ l @ y)
        return float((joint * (k @ joint @ l)).sum() + alone - 2 * (k @ x) @ joint @ (l @ y))

    value = of(table, *sides)
    if not normalised:
        return value
    own = [of(np.diag(table.sum(1 - side)), kernel_of, kernel_of) for side, kernel_of in enumerate(sides)]
    return value / math.sqrt(own[0] * own[1])


def known_tables() -> dict[str, np.ndarray]:
    """Joint probabilities of T and Y, by name."""
    thirty = np.arange(1, 31) / 465
    falling = 0.7 ** np.arange(12)
    falling /= falling.sum()
    six = np.array([0.25, 0.25, 0.2, 0.15, 0.1, 0.05])
    leans = np.stack([np.roll([0.4, 0.3, 0.2, 0.1], place) for place in range(6)])
    twenty = 1 + 0.05 * np.sin(np.arange(20))
    return {
        "2 x 2, independent": np.outer([0.5, 0.5], [0.3, 0.7]),
        "2 x 2": np.array([[0.4, 0.1], [0.15, 0.35]]),
        "5 x 2, decides": np.stack([np.array([0.1, 0.0])] * 3 + [np.array([0.0, 0.35])] * 2),
        "10 x 2": np.stack([np.linspace(0.01, 0.09, 10), np.linspace(0.09, 0.01, 10)], 1),
        "30 x 3, independent": np.outer(thirty, [0.2, 0.3, 0.5]),
        "30 x 3": np.stack([thirty[::-1] * 0.4, thirty * 0.4, np.full(30, 0.2 / 30)], 1),
        "3 x 3": np.array([[0.2, 0.05, 0.05], [0.05, 0.2, 0.1], [0.02, 0.08, 0.25]]),
        "12 x 2, falling": np.stack([falling * np.linspace(0.1, 0.9, 12), falling * np.linspace(0.9, 0.1, 12)], 1),
        "4 x 4, independent": np.outer([0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]),
        "6 x 4": six[:, None] * leans,
        "20 x 2, nearly even": np.stack([twenty * np.linspace(0.3, 0.7, 20), twenty * np.linspace(0.7, 0.3, 20)], 1)
        / twenty.sum(),
        "4 x 2, decides": np.array([[0.3, 0.0], [0.1, 0.0], [0.0, 0.35], [0.0, 0.25]]),
        "3 x 3, even and decides": np.eye(3) / 3,
        "4 x 3, half decides": np.array([[0.25, 0.0, 0.0], [0.0, 0.15, 0.1], [0.0, 0.1, 0.15], [0.0, 0.15, 0.1]]),
        "5 x 3, independent": np.outer([0.1, 0.15, 0.2, 0.25, 0.3], [0.25, 0.35, 0.4]),
    }


def leaning(cells: int, share: float, slope: float) -> np.ndarray:
    """A label of this share, whose samples lean to one end of even cells."""
    leans = np.exp(slope * np.linspace(-1, 1, cells))
    return np.stack([np.full(cells, (1 - share) / cells), share * leans / leans.sum()], 1)


def rare_tables() -> dict[str, tuple[np.ndarray, tuple[int, ...]]]:
    """Return tables with a rare label or value of T, with the numbers of samples in which it is seen often enough."""
    found = {}
    for share, numbers in ((0.008, (5000,)), (0.025, (1000,)), (0.04, (1000,)), (0.06, (1000,)), (0.2, (300,))):
        tables = {
            "2 x 2, weak": leaning(2, share, 0.4),
            "5 x 2, weak": leaning(5, share, 0.6),
            "5 x 2, strong": leaning(5, share, 2.5),
            "2 x 2, decides": np.diag([1 - share, share]),
            "2 x 5, a value of T": leaning(5, share, 0.8).T,
        }
        found |= {f"a label of {share:g}, {name}": (table, numbers) for name, table in tables.items()}
    return found


def unseen_tables() -> dict[str, np.ndarray]:
    """Tables that were looked at only after everything about the intervals was fixed."""
    seven = np.arange(3, 10) / 42
    return {
        "7 x 3": np.stack(
            [seven * lean for lean in (np.linspace(0.5, 0.1, 7), np.full(7, 0.3), np.linspace(0.2, 0.6, 7))], 1
        ),
        "2 x 2, weak": np.array([[0.3, 0.25], [0.2, 0.25]]),
        "8 x 2, half decides": np.array([[0.125, 0.0]] * 3 + [[0.1, 0.025]] * 2 + [[0.03, 0.095]] * 2 + [[0.0, 0.125]]),
        "4 x 4, half on the diagonal": 0.5 * np.diag([0.4, 0.3, 0.2, 0.1])
        + 0.5 * np.outer([0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]),
        "12 x 2, independent": np.outer(np.arange(4, 16) / 114, [0.35, 0.65]),
        "6 x 2, decides": np.array([[0.2, 0.0], [0.15, 0.0], [0.05, 0.0], [0.0, 0.3], [0.0, 0.2], [0.0, 0.1]]),
    }


def unseen_rare_tables() -> dict[str, tuple[np.ndarray, tuple[int, ...]]]:
    """The same of tables with a rare label."""
    third = np.stack([leaning(4, 0.05, 1.2)[:, 1], *(np.outer([0.3, 0.45, 0.2, 0.05], [0.5, 0.45]).T)], 1)
    return {
        "a label of 0.05, 3 x 2": (leaning(3, 0.05, 0.9), (1000,)),
        "a label of 0.05, 4 x 3": (third, (1000,)),
        "a label of 0.1, 8 x 2": (leaning(8, 0.1, 1.0), (1000,)),
        "a label of 0.012, 6 x 2": (leaning(6, 0.012, 1.5), (5000,)),
    }
