"""Sums over two centred kernel matrices that are never held: row sums and products in one pass over blocks."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._memory import MEMORY_BUDGET
from lightning_foresight.functional.dependence.kernels import Kernel

_CPU_BLOCK = 512


class KernelSums(NamedTuple):
    """Row sums of K, L and their products off the diagonal, and the diagonals; each ``(n,)`` in float64."""

    k: Tensor
    l: Tensor  # noqa: E741  the name in the literature
    kl: Tensor
    kk: Tensor  # zeros where not asked for
    ll: Tensor
    k_diagonal: Tensor
    l_diagonal: Tensor


def row_slices(n: int, device: torch.device, element_size: int) -> list[slice]:
    """Slices of rows whose kernel blocks stay in a CPU's cache, or in the budget of a device."""
    length = _CPU_BLOCK if device.type == "cpu" else max(1, math.isqrt(MEMORY_BUDGET // (8 * element_size)))
    return [slice(a, b) for a, b in itertools.pairwise([*range(0, n, length), n])]


def kernel_sums(x: Tensor, y: Tensor, kernel_x: Kernel, kernel_y: Kernel, squares: bool) -> KernelSums:
    """Sum both kernels over all pairs of rows; memory is one block of each. Gradients flow.

    Args:
        x: Rows of the first kernel.
        y: Rows of the second kernel.
        kernel_x: The first kernel.
        kernel_y: The second kernel.
        squares: Whether to sum K * K and L * L too.
    """
    blocks = row_slices(x.shape[0], x.device, x.element_size())
    totals: list[Tensor | float] = [0.0] * len(blocks)
    diagonals: list[tuple[Tensor, Tensor]] = []
    for i, first in enumerate(blocks):
        for j, second in enumerate(blocks[i:], i):
            k, l = kernel_x(x[first], x[second]), kernel_y(y[first], y[second])  # noqa: E741
            if i == j:
                diagonals.append((k.diagonal().double(), l.diagonal().double()))
                off = 1 - torch.eye(k.shape[0], dtype=k.dtype, device=k.device)
                k, l = k * off, l * off  # noqa: E741
            products = (k, l, k * l, k * k, l * l) if squares else (k, l, k * l)
            totals[i] = totals[i] + torch.stack([each.sum(1) for each in products]).double()
            if i != j:
                totals[j] = totals[j] + torch.stack([each.sum(0) for each in products]).double()
    k, l, kl, *rest = torch.cat([total for total in totals if isinstance(total, Tensor)], 1).unbind(0)  # noqa: E741
    kk, ll = rest if squares else (torch.zeros_like(k), torch.zeros_like(k))
    k_diagonal, l_diagonal = (torch.cat(each) for each in zip(*diagonals, strict=True))
    return KernelSums(k, l, kl, kk, ll, k_diagonal, l_diagonal)


def products_with_sums(
    x: Tensor, y: Tensor, kernel_x: Kernel, kernel_y: Kernel, sums: KernelSums
) -> tuple[Tensor, Tensor]:
    """Return K [k, l] and L [k, l], without the diagonals, each ``(n, 2)``."""
    vectors = torch.stack([sums.k, sums.l], 1)
    scale = vectors.abs().amax(0).clamp(min=1e-300)
    scaled = (vectors / scale).to(x.dtype)
    with_k = torch.zeros_like(vectors)
    with_l = torch.zeros_like(vectors)
    blocks = row_slices(x.shape[0], x.device, x.element_size())
    for i, first in enumerate(blocks):
        for j, second in enumerate(blocks[i:], i):
            for rows, kernel, total in ((x, kernel_x, with_k), (y, kernel_y, with_l)):
                block = kernel(rows[first], rows[second])
                total[first] += (block @ scaled[second]).double()
                if i != j:
                    total[second] += (block.T @ scaled[first]).double()
    with_k -= sums.k_diagonal.unsqueeze(1) * scaled
    with_l -= sums.l_diagonal.unsqueeze(1) * scaled
    return with_k * scale, with_l * scale


def biased(kl: Tensor, k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    """tr(K H L H) / (n - 1)^2 from row sums with the diagonal."""
    n = k.shape[0]
    return (kl.sum() - 2 / n * (k @ l) + k.sum() * l.sum() / n**2) / (n - 1) ** 2


def unbiased(kl: Tensor, k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    """Song et al. 2012, eq. 5, from row sums without the diagonal."""
    n = k.shape[0]
    total = kl.sum() + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ l)
    return total / (n * (n - 3))


def influence(kl: Tensor, k: Tensor, l: Tensor, k_of_l: Tensor, l_of_k: Tensor) -> Tensor:  # noqa: E741
    """How much each sample moves HSIC: four times its own term less the mean (Song et al. 2012, theorem 5)."""
    n = k.shape[0]
    own = (n - 2) ** 2 * kl - n * k * l + (n - 2) * (kl.sum() - k_of_l - l_of_k) + l.sum() * k + k.sum() * l - k @ l
    own = own / (2 * (n - 1) * (n - 2) * (n - 3))
    return 4 * (own - own.mean())
