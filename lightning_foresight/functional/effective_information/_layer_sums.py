"""The three sums over a layer from which determinism and degeneracy follow, without its connectivity matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._memory import MEMORY_BUDGET, chunks
from lightning_foresight.functional.effective_information._geometry import Geometry
from lightning_foresight.functional.effective_information.operators import KernelOperator, constant, sum_dtype

# On a CPU, what fits the second-level cache is fetched from memory once instead of once per operation.
CPU_BLOCK_BYTES = 2**20


class Absent(NamedTuple):
    """Share ``f`` of an absent connection, a weight of 0, and ``f log f``: per input node, or the same for all.

    Attributes:
        share: ``(groups, inputs, 1)`` or a number; 0 where no input node lacks a connection.
        log: Likewise.
    """

    share: Tensor | float
    log: Tensor | float


NO_ABSENT = Absent(0.0, 0.0)


def _floor(dtype: torch.dtype) -> float:
    """Return what stands for 0, around 1e-30 in float32.

    Its logarithm is finite, where the vectorised one is slow on zeros; its products are not denormal, where they would
    double the time of the matrix product.
    """
    return torch.finfo(dtype).tiny * 2**27


def _lin_shares(kernel: Tensor, shares: Tensor, logs: Tensor, log_absent: Tensor | None) -> None:
    torch.clamp_min(kernel, _floor(kernel.dtype), out=shares)
    torch.log(shares, out=logs)
    logs.mul_(shares)


def _soft_shares(kernel: Tensor, shares: Tensor, logs: Tensor, log_absent: Tensor | None) -> None:
    assert log_absent is not None
    torch.add(kernel, log_absent[:, None, :, None], out=logs)
    torch.exp(logs, out=shares)
    logs.mul_(shares)


def _sig_shares(kernel: Tensor, shares: Tensor, logs: Tensor, log_absent: Tensor | None) -> None:
    torch.sigmoid(kernel, out=shares).clamp_min_(_floor(kernel.dtype))
    torch.log(shares, out=logs)
    logs.mul_(shares)


SHARES = {"lin": _lin_shares, "soft": _soft_shares, "sig": _sig_shares}


def _absent(kernel: Tensor, norm: str, fully_connected: bool) -> tuple[Absent, Tensor | None]:
    """Return the shares of absent connections, and for ``soft`` what is added to the weights of each input node."""
    if norm == "soft":
        # As softmax does, subtract the largest weight of each input node, to which the 0 of an absent one belongs.
        largest = kernel.amax(1).amax(-1)
        if fully_connected:
            return NO_ABSENT, -largest
        log_absent = -largest.clamp_min(0)
        share = log_absent.exp()[..., None]
        return Absent(share, share * log_absent[..., None]), log_absent
    if norm == "sig" and not fully_connected:
        return Absent(0.5, 0.5 * math.log(0.5)), None
    return NO_ABSENT, None


class LayerParts(NamedTuple):
    """What one layer adds to the sums of the network.

    Attributes:
        row_sums: Sums of the shares of each row, by class of input position, ``(groups, inputs, classes)``.
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
    sums behind each tap. Shares are kept as excess over that of an absent connection.

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
    # An empty row has a sum next to 0 and no logarithms: clamped, its entropy is 0.
    entropies = (row_sums.log_() - mean_logs).clamp_min_(0)
    columns = torch.stack([columns, torch.special.xlogy(columns, columns)])
    layer_entropies = entropies.split([part.row_sums.numel() for part in parts])
    layer_columns = columns.split([part.columns.numel() for part in parts], dim=1)
    rows, both = [], []
    for operator, of_rows, of_columns in zip(operators, layer_entropies, layer_columns, strict=True):
        sources = operator.geometry.source_sizes.to(device, dtype, non_blocking=True)
        targets = operator.geometry.target_sizes.to(device, dtype, non_blocking=True)
        rows.append((of_rows.view(-1, sources.numel()) @ sources).sum())
        both.append(of_columns.view(2, -1, targets.numel()).sum(1) @ targets)
    copies = constant(tuple(operator.copies for operator in operators), device, dtype)
    return copies * torch.cat([torch.stack(rows)[None], torch.stack(both, 1)])


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
    absent_column: Tensor | float = 0.0
    for part in chunks(groups if by_group else inputs, bytes_per_item, MEMORY_BUDGET):
        block = kernel.narrow(0 if by_group else 2, part.start, part.stop - part.start)
        absent, log_absent = _absent(block, norm, operator.fully_connected)
        excess, sums, logs = _share_sums(block, norm, absent, log_absent, _like(block, workspace))
        row_sums, mean_logs, inverse_sums = _rows(sums, logs, absent, operator)
        rows.append((row_sums, mean_logs))
        columns.append(excess.flatten(2) @ _behind_taps(inverse_sums.to(kernel.dtype), geometry))
        if absent is not NO_ABSENT:
            absent_column = absent_column + ((absent.share * inverse_sums) @ geometry.source_sizes).sum()
    row_sums, mean_logs = (_join(tensors, 0 if by_group else 1) for tensors in zip(*rows, strict=True))
    whole = _join(columns, 0) if by_group else sum(columns[1:], columns[0])
    return LayerParts(row_sums, mean_logs, whole + copies * absent_column if norm != "lin" else whole)


def _join(tensors: Sequence[Tensor], dim: int) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim)


def _share_sums(
    kernel: Tensor, norm: str, absent: Absent, log_absent: Tensor | None, excess: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Shares of the kernel, written into ``excess``, and sums over outputs of ``f`` and ``f log f``.

    All in excess over absent connections; the sums are ``(groups, inputs, taps)``.
    """
    # Along the axis that is outermost in memory, so that blocks are read in one go.
    split = 1 if kernel.stride(1) >= kernel.stride(2) else 2
    length = kernel.shape[split]
    budget = CPU_BLOCK_BYTES if kernel.device.type == "cpu" else MEMORY_BUDGET
    all_sums, all_logs = [], []
    for part in chunks(length, 2 * kernel.nbytes // length, budget):
        size = part.stop - part.start
        block, shares = kernel.narrow(split, part.start, size), excess.narrow(split, part.start, size)
        logs = torch.empty_like(block)
        inputs = slice(None) if split == 1 else part
        SHARES[norm](block, shares, logs, None if log_absent is None else log_absent[:, inputs])
        if absent is not NO_ABSENT:
            share, log = (a[:, None, inputs] if isinstance(a, Tensor) else a for a in absent)
            shares.sub_(share)
            logs.sub_(log)
        all_sums.append(shares.sum(1))
        all_logs.append(logs.sum(1))
    if split == 2:
        return excess, _join(all_sums, 1), _join(all_logs, 1)
    return excess, sum(all_sums[1:], all_sums[0]), sum(all_logs[1:], all_logs[0])


def _rows(sums: Tensor, logs: Tensor, absent: Absent, operator: KernelOperator) -> tuple[Tensor, Tensor, Tensor]:
    """Sums, mean logarithms and reciprocal sums of the rows, by class of input position."""
    geometry = operator.geometry
    sums, logs = sums @ geometry.fan_out, logs @ geometry.fan_out
    if absent is not NO_ABSENT:
        # Beside the many absent connections, the kernel's are beyond float32.
        dtype = geometry.source_sizes.dtype
        sums = sums.to(dtype) + operator.num_outputs * absent.share
        logs = logs.to(dtype) + operator.num_outputs * absent.log
        inverse = sums.reciprocal()
    else:
        # A row without a connection feeds nothing. NaN compares false, so that it stays NaN.
        empty = sums <= 2 * operator.num_outputs * _floor(sums.dtype)
        inverse = sums.reciprocal().masked_fill_(empty, 0)
    return sums, logs.mul_(inverse), inverse


def _behind_taps(inverse_sums: Tensor, geometry: Geometry) -> Tensor:
    """Sum the reciprocal row sums behind each tap of each output: ``(groups, inputs * taps, classes)``."""
    behind = None
    for feeders, counts in zip(geometry.feeders, geometry.feeder_counts, strict=True):
        alternative = inverse_sums.index_select(2, feeders).mul_(counts)
        behind = alternative if behind is None else behind.add_(alternative)
    assert behind is not None
    return behind.view(len(behind), -1, geometry.target_sizes.numel())
