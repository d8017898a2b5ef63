"""The three sums over a layer from which determinism and degeneracy follow, without its connectivity matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._memory import MEMORY_BUDGET, chunk_length, chunks
from lightning_foresight.functional.effective_information._geometry import Geometry
from lightning_foresight.functional.effective_information.operators import KernelOperator, constant, sum_dtype

# On a CPU, what fits the second-level cache is fetched from memory once instead of once per operation.
CPU_BLOCK_BYTES = 2**20


class Absent(NamedTuple):
    """Share ``f`` of an absent connection, a weight of 0, and ``f log f``: per input node, or the same for all.

    Attributes:
        share: ``(groups, inputs, 1)`` or a number.
        log: Likewise.
    """

    share: Tensor | float
    log: Tensor | float


def _floor(dtype: torch.dtype) -> float:
    """Return what stands for 0, around 1e-30 in float32.

    Its logarithm is finite, where the vectorised one is slow on zeros; its products are not denormal, where they would
    double the time of the matrix product.
    """
    return torch.finfo(dtype).tiny * 2**27


def _lin_shares(kernel: Tensor, shift: Tensor | None, shares: Tensor, logs: Tensor) -> None:
    torch.clamp_min(kernel, _floor(kernel.dtype), out=shares)
    torch.log(shares, out=logs)
    logs.mul_(shares)


def _soft_shares(kernel: Tensor, shift: Tensor | None, shares: Tensor, logs: Tensor) -> None:
    assert shift is not None
    torch.add(kernel, shift, out=logs)
    torch.exp(logs, out=shares)
    logs.mul_(shares)


def _sig_shares(kernel: Tensor, shift: Tensor | None, shares: Tensor, logs: Tensor) -> None:
    torch.sigmoid(kernel, out=shares).clamp_min_(_floor(kernel.dtype))
    torch.log(shares, out=logs)
    logs.mul_(shares)


# Each writes the shares f(w) of connections and f log f.
SHARES = {"lin": _lin_shares, "soft": _soft_shares, "sig": _sig_shares}


def _soft_shift(kernel: Tensor, fully_connected: bool) -> Tensor:
    """Return what softmax adds to the weights of each input node, ``(groups, 1, inputs, taps)``: minus the largest."""
    axis = _outer_axis(kernel)
    parts = [block.amax(1).amax(-1) for block in kernel.split(_block_length(kernel, axis), axis)]
    largest = (_join(parts, 1) if axis == 2 else reduce(torch.maximum, parts))[:, None, :, None]
    # One shift for all positions: in float32, a border position whose taps lie 60 below the largest counts as empty.
    # Written out over the taps: broadcast along a short last axis, the sum would take twice as long.
    return (largest if fully_connected else largest.clamp_min(0)).neg().repeat(1, 1, 1, kernel.shape[3])


def _absent(norm: str, shift: Tensor | None, fully_connected: bool) -> Absent | None:
    """Return the shares of absent connections; ``None`` where there are none, or they have no share."""
    if norm == "lin" or fully_connected:
        return None
    if shift is None:
        return Absent(0.5, 0.5 * math.log(0.5))
    log = shift[:, 0, :, :1]
    return Absent(log.exp(), log.exp() * log)


class LayerParts(NamedTuple):
    """What one layer adds to the sums of the network.

    Attributes:
        row_sums: Sums of the shares of each row, by class of input position, ``(groups, inputs, classes)``; 0 if empty.
        mean_logs: Sum of ``f log f`` over the row's sum, likewise; 0 if empty. Row entropy = log row_sums - mean_logs.
        columns: Sums of the columns of the normalised matrix, ``(groups, outputs, classes)``.
    """

    row_sums: Tensor
    mean_logs: Tensor
    columns: Tensor


def network_sums(operators: Sequence[KernelOperator], norm: str, device: torch.device) -> Tensor:
    r"""Sums over the rows and columns of the normalised connectivity matrices :math:`P` of layers.

    Row sums of the shares :math:`f(W)` are the kernel, summed over outputs, times how often a position uses each tap;
    row entropies follow from the same sums of :math:`f \log f`; column sums are the kernel times the reciprocal row
    sums behind each tap. Absent connections add a constant to every row.

    Returns:
        In nats, :math:`\sum_i H(P_{i\cdot})`, :math:`\sum_j c_j` and :math:`\sum_j c_j \log c_j` with the column sums
        :math:`c_j = \sum_i P_{ij}`; shape ``(3, layers)``.
    """
    workspace = _workspace_for(operators)
    parts = [_layer_parts(operator, norm, workspace) for operator in operators]
    dtype = sum_dtype(device)

    # The tails of all layers in one go: on their own, they would cost small networks more than the kernels do.
    def flat(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([tensor.reshape(-1).to(device, non_blocking=True) for tensor in tensors]).to(dtype)

    row_sums, mean_logs, columns = (flat(tensors) for tensors in zip(*parts, strict=True))
    # An empty row has the logarithm -inf: clamped, its entropy is 0.
    rows = torch.stack([(row_sums.log() - mean_logs).clamp_min_(0), (row_sums > 0).to(dtype)])
    columns = torch.stack([columns, columns.clamp_min(torch.finfo(dtype).tiny).log_().mul_(columns)])
    layer_rows = rows.split([part.row_sums.numel() for part in parts], dim=1)
    layer_columns = columns.split([part.columns.numel() for part in parts], dim=1)
    sums = []
    for operator, of_rows, of_columns in zip(operators, layer_rows, layer_columns, strict=True):
        sources = operator.geometry.source_sizes.to(device, dtype, non_blocking=True)
        targets = operator.geometry.target_sizes.to(device, dtype, non_blocking=True)
        sums.append(of_rows.view(2, -1, sources.numel()).sum(1) @ sources)
        sums.append(of_columns.view(2, -1, targets.numel()).sum(1) @ targets)
    copies = constant(tuple(operator.copies for operator in operators), device, dtype)
    layer_entropies, totals, column_totals, column_logs = copies * torch.stack(sums).view(-1, 4).T
    # The columns sum to the number of rows that are not empty: what the product of kernels rounds alike is taken out.
    scale = torch.where(column_totals == 0, 1.0, totals / column_totals)
    return torch.stack([layer_entropies, totals, scale * column_logs + totals * scale.log()])


def _workspace_for(operators: Sequence[KernelOperator]) -> Tensor:
    """Bytes for the shares of the largest layer: pages that are new for every layer cost as much as the logarithms."""
    largest = max(operators, key=lambda operator: operator.kernel.nbytes).kernel
    return torch.empty(min(largest.nbytes, MEMORY_BUDGET), dtype=torch.uint8, device=largest.device)


def _like(kernel: Tensor, workspace: Tensor) -> Tensor:
    """Return a tensor with the shape, and where it can be the layout, of ``kernel``; in the workspace if it fits."""
    if workspace.device != kernel.device or workspace.nbytes < kernel.nbytes:
        return torch.empty_like(kernel)
    flat = workspace[: kernel.nbytes].view(kernel.dtype)
    if kernel.is_contiguous() or kernel.stride(1) >= kernel.stride(2):
        return flat.view(kernel.shape)
    return flat.view(kernel.transpose(1, 2).shape).transpose(1, 2)


def _layer_parts(operator: KernelOperator, norm: str, workspace: Tensor) -> LayerParts:
    kernel, geometry, copies = operator
    groups, outputs, inputs, taps = kernel.shape
    classes = geometry.target_sizes.numel()
    by_group = groups > 1
    bytes_per_item = kernel.element_size() * taps * (outputs + 2 * classes) * (inputs if by_group else 1)
    rows: list[tuple[Tensor, Tensor]] = []
    columns: list[Tensor] = []
    absent_sum: Tensor | float = 0.0
    for part in chunks(groups if by_group else inputs, bytes_per_item, MEMORY_BUDGET):
        block = kernel.narrow(0 if by_group else 2, part.start, part.stop - part.start)
        shift = _soft_shift(block, operator.fully_connected) if norm == "soft" else None
        absent = _absent(norm, shift, operator.fully_connected)
        shares, share_sums, log_sums = _share_sums(block, norm, shift, _like(block, workspace))
        row_sums, mean_logs, inverse_sums = _rows(share_sums, log_sums, absent, operator)
        behind = _behind_taps(inverse_sums.to(kernel.dtype), geometry)
        rows.append((row_sums, mean_logs))
        columns.append(shares.flatten(2) @ behind.flatten(1, 2))
        if absent is not None:
            # Every row gives an absent share to every column but those that it is connected to.
            columns[-1] -= (absent.share * behind.sum(2)).sum(1, keepdim=True)
            absent_sum = absent_sum + ((absent.share * inverse_sums) @ geometry.source_sizes).sum()
    row_sums, mean_logs = (_join(tensors, 0 if by_group else 1) for tensors in zip(*rows, strict=True))
    whole = _join(columns, 0) if by_group else reduce(torch.add, columns)
    return LayerParts(row_sums, mean_logs, whole if norm == "lin" else whole + copies * absent_sum)


def _join(tensors: Sequence[Tensor], dim: int) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim)


def _share_sums(kernel: Tensor, norm: str, shift: Tensor | None, shares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Write the shares ``f`` of the kernel; return them with the sums over outputs of ``f`` and ``f log f``."""
    axis = _outer_axis(kernel)
    length = _block_length(kernel, axis)
    share_sums, log_sums = [], []
    for start in range(0, kernel.shape[axis], length):
        size = min(length, kernel.shape[axis] - start)
        block, block_shares = kernel.narrow(axis, start, size), shares.narrow(axis, start, size)
        block_shift = shift if shift is None or axis == 1 else shift.narrow(2, start, size)
        logs = torch.empty_like(block)
        SHARES[norm](block, block_shift, block_shares, logs)
        share_sums.append(block_shares.sum(1))
        log_sums.append(logs.sum(1))
    if axis == 2:
        return shares, _join(share_sums, 1), _join(log_sums, 1)
    return shares, reduce(torch.add, share_sums), reduce(torch.add, log_sums)


def _outer_axis(kernel: Tensor) -> int:
    """Outputs or inputs, whichever is outermost in memory: blocks along it are read in one go."""
    return 1 if kernel.stride(1) >= kernel.stride(2) else 2


def _block_length(kernel: Tensor, axis: int) -> int:
    """How many outputs or inputs to take at once."""
    length = kernel.shape[axis]
    budget = CPU_BLOCK_BYTES if kernel.device.type == "cpu" else MEMORY_BUDGET
    return chunk_length(length, 2 * kernel.nbytes // length, budget)


def _rows(
    share_sums: Tensor, log_sums: Tensor, absent: Absent | None, operator: KernelOperator
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums, mean logarithms and reciprocal sums of the rows, by class of input position."""
    geometry = operator.geometry
    # float64: the sums are few, absent connections many, and a float32 product may be a TF32 one.
    dtype = geometry.fan_out.dtype
    sums, logs = share_sums.to(dtype) @ geometry.fan_out, log_sums.to(dtype) @ geometry.fan_out
    if absent is not None:
        missing = operator.num_outputs - operator.kernel.shape[1] * geometry.total_fan_out
        sums, logs = sums + absent.share * missing, logs + absent.log * missing
    # A row without a connection feeds nothing. NaN compares false, so that it stays NaN.
    empty = sums <= 2 * operator.num_outputs * _floor(share_sums.dtype)
    inverse = sums.reciprocal().masked_fill_(empty, 0)
    return sums.masked_fill_(empty, 0), logs.mul_(inverse), inverse


def _behind_taps(inverse_sums: Tensor, geometry: Geometry) -> Tensor:
    """Sum the reciprocal row sums behind each tap of each output: ``(groups, inputs, taps, classes)``."""
    behind = None
    for feeders, counts in zip(geometry.feeders, geometry.feeder_counts, strict=True):
        alternative = inverse_sums.index_select(2, feeders).mul_(counts)
        behind = alternative if behind is None else behind.add_(alternative)
    assert behind is not None
    return behind.unflatten(2, (-1, geometry.target_sizes.numel()))
