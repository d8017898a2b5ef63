"""Effective information of weights the slow, obvious way: dense float64 matrices, one row at a time."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import nn


def dense_matrix(module: nn.Module, in_shape: tuple[int, ...]) -> np.ndarray:
    """Jacobian of the layer at zero, ``(inputs, outputs)``, by autograd; a layer is affine, so that is its weights."""
    module = copy.deepcopy(module).double().eval()
    if isinstance(module, nn.Embedding):
        return np.kron(np.eye(math.prod(in_shape)), module.weight.detach().numpy())
    zero = torch.zeros(1, *in_shape, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(module, zero, vectorize=True)
    return jacobian.reshape(-1, math.prod(in_shape)).T.numpy()


def normalise_row(row: np.ndarray, norm: str) -> np.ndarray:
    if norm == "lin":
        row = np.maximum(row, 0)
        return row / row.sum() if row.sum() > 0 else row
    if norm == "soft":
        row = np.exp(row - row.max())
        return row / row.sum()
    row = 1 / (1 + np.exp(-row))
    return row / row.sum()


def entropy_of(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def dense_weight_ei(matrices: list[np.ndarray], norm: str) -> dict[str, float]:
    """Determinism, degeneracy, ei and effectiveness in bits, of layers given as matrices ``(inputs, outputs)``."""
    entropies, columns = [], []
    for matrix in matrices:
        normalised = np.stack([normalise_row(row, norm) for row in matrix])
        entropies += [entropy_of(row) for row in normalised]
        columns.append(normalised.sum(0))
    in_weights = np.concatenate(columns)
    determinism = sum(entropies) / len(entropies)
    degeneracy = entropy_of(in_weights / in_weights.sum()) if in_weights.sum() > 0 else 0.0
    ei = degeneracy - determinism
    return {
        "ei": ei,
        "determinism": determinism,
        "degeneracy": degeneracy,
        "effectiveness": ei / math.log2(len(entropies)) if len(entropies) > 1 else 0.0,
    }
