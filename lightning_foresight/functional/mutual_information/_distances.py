"""Squared distances between rows, a block of rows at a time, never above zero between equal rows."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunk_length


class SquaredDistances:
    """Squared Euclidean distances from some rows to all, by one matrix product.

    Args:
        rows: Floating point, shape ``(n, features)``.
        spread_out: Whether the rows fill all their dimensions, as normal scores do, so that neighbours are not much
            nearer than chance brings them; then single precision does for few features too.
    """

    def __init__(self, rows: Tensor, spread_out: bool = False) -> None:
        self.rows = rows - rows.mean(0)
        self.width = rows.shape[1]
        self.wide_buffer: Tensor | None = None
        if self.width == 1:
            return
        # The product cancels: in float32 that is harmless only where many features keep rows far apart.
        dtype = rows.dtype if spread_out or self.width > 64 else torch.float64
        wide = self.rows.to(dtype)
        sq = wide.square().sum(1, keepdim=True)
        # What rounding leaves between equal rows; taken off everywhere, so that equal rows are at most at distance 0.
        rounding = 16 * torch.finfo(dtype).eps * sq.max()
        one = torch.ones_like(sq)
        self.left = torch.cat([-2 * wide, sq - rounding, one], 1)
        self.right = torch.cat([wide, one, sq], 1).T.contiguous()

    def buffer(self, rows: int) -> Tensor:
        """Memory for :meth:`block` that is written again and again: new memory would cost more than the product."""
        shape = rows, self.rows.shape[0]
        if self.width > 1 and self.left.dtype != self.rows.dtype:
            self.wide_buffer = self.left.new_empty(shape)
        return self.rows.new_empty(shape)

    def block(self, first: slice, out: Tensor) -> Tensor:
        """Write distances from the rows ``first`` to all into the head of ``out``; at most 0 between equal rows."""
        out = out[: first.stop - first.start]
        if self.width == 1:
            return torch.sub(self.rows[first], self.rows.T, out=out).square_()
        if self.wide_buffer is None:
            return torch.mm(self.left[first], self.right, out=out)
        return out.copy_(torch.mm(self.left[first], self.right, out=self.wide_buffer[: out.shape[0]]))


def row_blocks(n: int, device: torch.device, columns: int | None = None, width: int = 1) -> list[slice]:
    """Slices of rows whose distances to ``columns`` others stay in a CPU's cache, or in the budget of a device.

    Args:
        n: Rows to cut.
        device: Where they are.
        columns: How many others each is compared with; n when not given.
        width: Features of a row: the more, the more rows it takes to make a matrix product worth its reading.
    """
    per_row = 64 * (n if columns is None else columns)
    length = max(16 + width // 2, chunk_length(n, per_row, 2**23)) if device.type == "cpu" else chunk_length(n, per_row)
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


def count_below(values: Tensor, limit: Tensor, scratch: Tensor, closed: bool = False) -> Tensor:
    """How many entries of each row are below (or at) the row's limit, as float64; ``scratch`` is as ``values``."""
    # Written as floats, the comparison is summed four times as fast as a mask is counted.
    compare = torch.le if closed else torch.lt
    return compare(values, limit.unsqueeze(1), out=scratch).sum(1).double()
