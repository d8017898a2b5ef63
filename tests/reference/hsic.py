"""HSIC and its relatives the slow, obvious way: whole float64 matrices."""

from __future__ import annotations

import numpy as np


def distances(x: np.ndarray) -> np.ndarray:
    x = x.reshape(len(x), -1).astype(np.float64)
    return np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))


def gram(x: np.ndarray, kernel: str, sigma: float = 1.0) -> np.ndarray:
    if kernel == "linear":
        x = x.reshape(len(x), -1).astype(np.float64)
        return x @ x.T
    return -distances(x) if kernel == "distance" else np.exp(-(distances(x) ** 2) / (2 * sigma**2))


def biased_hsic(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
    n = len(k)
    h = np.eye(n) - 1 / n
    return float(np.trace(k @ h @ l @ h) / (n - 1) ** 2)


def unbiased_hsic(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
    """Through U-centred matrices (Székely & Rizzo 2014), another form than Song's."""
    n = len(k)

    def u_centre(m: np.ndarray) -> np.ndarray:
        m = m - np.diag(np.diag(m))
        rows = m.sum(1, keepdims=True) / (n - 2)
        centred = m - rows - rows.T + m.sum() / ((n - 1) * (n - 2))
        return centred - np.diag(np.diag(centred))

    return float((u_centre(k) * u_centre(l)).sum() / (n * (n - 3)))


def aligned(hsic, k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
    return hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))
