"""How few directions a kernel sees: what the law of HSIC of independent samples depends on besides its variance."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_foresight.functional.dependence.kernels import Kernel

# Rows that give the moments of a spectrum; more would change the ends by less than their own error.
_ROWS = 256


def third_moment(rows: Tensor, kernel: Kernel) -> Tensor:
    r"""Of the eigenvalues of the centred kernel, :math:`\sum \lambda^3 / (\sum \lambda^2)^{3/2}`, at most 1.

    From at most 256 evenly spaced rows, by sums over different ones (Székely & Rizzo 2014), so that the diagonal of
    wide rows, which are all equally far from each other, does not pass for their spectrum. NaN where these rows are
    equal or only four, or noise is larger than the moment.

    Args:
        rows: Of the kernel.
        kernel: Of two blocks of rows.
    """
    few = rows.detach()[:: -(-rows.shape[0] // _ROWS)]
    m = few.shape[0]
    k = kernel(few, few).double()
    k = k.fill_diagonal_(0)
    sums = k.sum(1) / (m - 2)
    k = k - sums - sums.unsqueeze(1) + k.sum() / ((m - 1) * (m - 2))
    k = k.fill_diagonal_(0)
    squares = k.square().sum() / (m * (m - 3))
    cubes = ((k @ k) * k).sum() / (m * (m - 3) * (m - 4))  # centring has taken four degrees more than two
    moment = cubes / squares.pow(1.5)
    return torch.where((moment > 0) & moment.isfinite(), moment, torch.nan).clamp(max=1)
