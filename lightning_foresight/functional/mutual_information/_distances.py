"""Squared distances between rows, a block of rows at a time, with exact zeros between equal rows."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunk_length


class SquaredDistances:
    """Squared Euclidean distances from some rows to all, by one matrix product.

    Args:
        rows: Floating point, shape ``(n, features)``.
        spread_out: Whether the rows fill all their dimensions, as normal scores do, so that neighbours are not much
            nearer than chance brings them; then fewer features do for single precision.
    """

    def __init__(self, rows: Tensor, spread_out: bool = False) -> None:
        self.rows = rows - rows.mean(0)
        self.width = rows.shape[1]
        if self.width == 1:
            return
        # The product cancels: in float32 that is harmless only where many features keep rows far apart.
        dtype = rows.dtype if self.width > (4 if spread_out else 64) else torch.float64
        wide = self.rows.to(dtype)
        sq = wide.square().sum(1, keepdim=True)
        # What rounding leaves between equal rows; taken off everywhere, so that equal rows are at distance 0.
        rounding = 16 * torch.finfo(dtype).eps * sq.max()
        one = torch.ones_like(sq)
        self.left = torch.cat([-2 * wide, sq - rounding, one], 1)
        self.right = torch.cat([wide, one, sq], 1).T.contiguous()

    def block(self, first: slice, second: slice = slice(None)) -> Tensor:
        """Return distances from the rows ``first`` to the rows ``second``."""
        if self.width == 1:
            return (self.rows[first] - self.rows[second].T).square_()
        return (self.left[first] @ self.right[:, second]).to(self.rows.dtype).clamp_(min=0)


def row_blocks(n: int, device: torch.device, columns: int | None = None) -> list[slice]:
    """Slices of rows whose distances to all others take little memory on a CPU, or the budget of a device."""
    columns = n if columns is None else columns
    length = chunk_length(n, 64 * columns, 2**26 if device.type == "cpu" else None)
    return [slice(start, min(n, start + length)) for start in range(0, n, length)]


def smallest(values: Tensor, k: int) -> Tensor:
    """The k smallest entries of each row, in order.

    They lie in the k groups of smallest minimum: one pass finds the minima, and only those groups are looked at.
    """
    rows, n = values.shape
    groups = n // 32
    if groups <= 4 * k:
        return values.topk(k, 1, largest=False).values
    strided = values[:, : 32 * groups].view(rows, 32, groups)
    nearest = strided.amin(1).topk(k, 1, largest=False).indices
    candidates = strided.gather(2, nearest.unsqueeze(1).expand(-1, 32, -1)).flatten(1)
    return torch.cat([candidates, values[:, 32 * groups :]], 1).topk(k, 1, largest=False).values


def count_below(values: Tensor, limit: Tensor, closed: bool = False) -> Tensor:
    """How many entries of each row are below (or at) the row's limit, as float64."""
    # Written as floats, the comparison is summed four times as fast as a mask is counted.
    compare = torch.le if closed else torch.lt
    return compare(values, limit.unsqueeze(1), out=torch.empty_like(values)).sum(1).double()
