"""Entropies and mutual information the slow, obvious way: Python counting, float64, one pair at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable
from pathlib import Path

import numpy as np
from scipy.special import psi

TISHBY = Path(__file__).parents[1] / "data" / "tishby_tanh_plane.npz"


def counted_entropy(values: Iterable[Hashable], base: float = 2) -> float:
    counts = Counter(values)
    n = sum(counts.values())
    return -sum(c / n * math.log(c / n, base) for c in counts.values())


def counted_plane(cells: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """H(T) and H(T) - sum_y p(y) H(T|y) in bits, for integer cells ``(n, units)``."""
    rows = [tuple(row) for row in cells.tolist()]
    h_t = counted_entropy(rows)
    h_t_given_y = sum(
        np.mean(labels == y) * counted_entropy(row for row, label in zip(rows, labels, strict=True) if label == y)
        for y in np.unique(labels)
    )
    return h_t, h_t - h_t_given_y


def mixture_entropy_bound(rows: np.ndarray, noise_variance: float, scale: float) -> float:
    """-1/n sum_i log2 1/n sum_j exp(-d_ij^2 / (scale * variance)): the entropy bound less that of the noise."""
    rows = rows.astype(np.float64)
    total = 0.0
    for row in rows:
        sq_distance = ((rows - row) ** 2).sum(1)
        total -= math.log2(np.exp(-sq_distance / (scale * noise_variance)).mean())
    return total / len(rows)


def kde_plane(rows: np.ndarray, labels: np.ndarray, noise_variance: float, scale: float) -> tuple[float, float]:
    h_t = mixture_entropy_bound(rows, noise_variance, scale)
    h_t_given_y = sum(
        np.mean(labels == y) * mixture_entropy_bound(rows[labels == y], noise_variance, scale)
        for y in np.unique(labels)
    )
    return h_t, h_t - h_t_given_y


class TishbyPlane:
    """A 12-10-7-5-4-3-2 tanh net trained on the 12-bit task of Shwartz-Ziv & Tishby 2017, at 21 epochs.

    The file holds its weights, all 4,096 inputs, the labels, and the planes that IDNNs' and ibsgd's own code computed
    (binning: floor(T / 0.07) and np.digitize over linspace(-1, 1, 30); KDE: noise variance 1e-3, in float64).
    """

    def __init__(self) -> None:
        self.file = np.load(TISHBY)
        self.inputs = np.unpackbits(self.file["X_bits"], axis=1)[:, :12].astype(np.float64)
        self.labels = np.unpackbits(self.file["y_bits"])[:4096].astype(np.int64)

    def activations(self, snapshot: int) -> list[np.ndarray]:
        hidden, layers = self.inputs, []
        for layer in range(6):
            hidden = hidden @ self.file[f"W{layer}"][snapshot].astype(np.float64)
            hidden = hidden + self.file[f"b{layer}"][snapshot].astype(np.float64)
            if layer < 5:
                hidden = np.tanh(hidden)
            else:
                hidden = np.exp(hidden - hidden.max(1, keepdims=True))
                hidden = hidden / hidden.sum(1, keepdims=True)
            layers.append(hidden.astype(np.float32))
        return layers

    def reference(self, name: str) -> np.ndarray:
        """I(X;T) and I(T;Y) in bits, shape ``(21, 6, 2)``."""
        return np.stack([self.file[f"ref_{name}_IXT"], self.file[f"ref_{name}_ITY"]], -1)


def ksg(x: np.ndarray, y: np.ndarray, k: int, variant: int) -> float:
    """Kraskov et al. 2004 in nats, one sample at a time; columns in units of their standard deviation."""
    x, y = (rows / rows.std(0, ddof=1) for rows in (x, y))
    n, total = len(x), 0.0
    for i in range(n):
        dx, dy = (np.delete(np.sqrt(((rows - rows[i]) ** 2).sum(1)), i) for rows in (x, y))
        nearest = np.argsort(np.maximum(dx, dy))[:k]
        if variant == 1:
            radius = np.maximum(dx, dy)[nearest[-1]]
            total -= psi((dx < radius).sum() + 1) + psi((dy < radius).sum() + 1)
        else:
            total -= 1 / k + psi((dx <= dx[nearest].max()).sum()) + psi((dy <= dy[nearest].max()).sum())
    return float(psi(k) + psi(n) + total / n)


def ross(x: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Ross 2014 in nats for samples without ties, one sample at a time."""
    x = x / x.std(0, ddof=1)
    n, total = len(x), 0.0
    for i in range(n):
        distance = np.sqrt(((x - x[i]) ** 2).sum(1))
        distance[i] = np.inf
        radius = np.sort(distance[labels == labels[i]])[k - 1]
        total += psi(k) - psi((labels == labels[i]).sum()) - psi((distance <= radius).sum())
    return float(psi(n) + total / n)


def leave_one_out_log_likelihood(rows: np.ndarray, variance: float) -> float:
    """Mean log density of each row under Gaussian kernels on the others, in nats, one row at a time."""
    n, width = rows.shape
    total = 0.0
    for i in range(n):
        sq_distance = ((np.delete(rows, i, 0) - rows[i]) ** 2).sum(1)
        total += math.log(np.exp(-sq_distance / (2 * variance)).mean()) - width / 2 * math.log(2 * math.pi * variance)
    return total / n
