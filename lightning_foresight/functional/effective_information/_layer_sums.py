"""The three sums over a layer from which determinism and degeneracy follow, without its connectivity matrix."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._memory import MEMORY_BUDGET, chunks
from lightning_foresight.functional.effective_information._geometry import Geometry
from lightning_foresight.functional.effective_information.operators import KernelOperator, sum_dtype

# On a CPU a block that stays in the second-level cache is read from memory once instead of once per operation.
CPU_BLOCK_BYTES = 2**19


class Shares(NamedTuple):
    """Unnormalised out-weights of a kernel under a norm, as the excess over an absent connection.

    Attributes:
        excess: ``f(w) - f(0)``, ``(groups, outputs, inputs, taps)``; plainly ``f(w)`` in a fully connected layer.
        excess_log: ``f log f`` less its absent value, summed over outputs: ``(groups, inputs, taps)``.
        absent: ``f(0)``, broadcastable to ``(groups, inputs)``; 0 in a fully connected layer.
        absent_log: ``f(0) log f(0)``, likewise.
    """

    excess: Tensor
    excess_log: Tensor
    absent: Tensor | float
    absent_log: Tensor | float


def _lin_shares(kernel: Tensor, fully_connected: bool) -> Shares:
    share = kernel.relu()
    # Clamping keeps the vectorised logarithm, where xlogy takes the scalar one; 0 * log(tiny) is 0 all the same.
    log = share.clamp_min(torch.finfo(share.dtype).tiny).log_()
    return Shares(share, log.mul_(share).sum(1), 0.0, 0.0)


def _soft_shares(kernel: Tensor, fully_connected: bool) -> Shares:
    # Subtract the largest weight of each input node, as softmax does; absent connections have weight 0.
    largest = kernel.amax((1, 3), keepdim=True)
    if fully_connected:
        log = kernel - largest
        share = log.exp()
        return Shares(share, log.mul_(share).sum(1), 0.0, 0.0)
    log_absent = -largest.clamp_min(0)
    log = kernel + log_absent
    share, absent = log.exp(), log_absent.exp()
    excess_log = log.mul_(share).sub_(log_absent * absent).sum(1)
    return Shares(share.sub_(absent), excess_log, absent[:, 0, :, 0], (log_absent * absent)[:, 0, :, 0])


def _sig_shares(kernel: Tensor, fully_connected: bool) -> Shares:
    log = torch.nn.functional.logsigmoid(kernel)
    if fully_connected:
        # As in soft: shares that are all tiny keep their ratios.
        log.sub_(log.amax((1, 3), keepdim=True))
        share = log.exp()
        return Shares(share, log.mul_(share).sum(1), 0.0, 0.0)
    share = kernel.sigmoid()
    absent_log = 0.5 * torch.tensor(0.5, dtype=torch.float64).log().item()
    return Shares(share - 0.5, log.mul_(share).sub_(absent_log).sum(1), 0.5, absent_log)


SHARES = {"lin": _lin_shares, "soft": _soft_shares, "sig": _sig_shares}


def layer_sums(operator: KernelOperator, norm: str) -> Tensor:
    r"""Sums over the rows and columns of a layer's normalised connectivity matrix :math:`P`.

    Returns:
        In nats, :math:`\sum_i H(P_{i\cdot})`, :math:`\sum_j c_j` and :math:`\sum_j c_j \log c_j` with the column sums
        :math:`c_j = \sum_i P_{ij}`; shape ``(3,)``.
    """
    kernel, geometry, copies = operator
    groups, outputs, inputs, taps = kernel.shape
    classes = geometry.target_sizes.numel()
    dtype = sum_dtype(kernel.device)
    by_group = groups > 1
    bytes_per_item = kernel.element_size() * taps * (3 * outputs + 2 * classes) * (inputs if by_group else 1)
    budget = CPU_BLOCK_BYTES if kernel.device.type == "cpu" else MEMORY_BUDGET

    entropies = absent = torch.zeros((), dtype=dtype, device=kernel.device)
    columns = kernel.new_zeros(groups, outputs, classes)
    for part in chunks(groups if by_group else inputs, bytes_per_item, budget):
        shares = SHARES[norm](kernel[part] if by_group else kernel[:, :, part], operator.fully_connected)
        row_entropies, inverse_sums = _rows(shares, operator, dtype)
        entropies = entropies + (row_entropies @ geometry.source_sizes).sum()
        if not operator.fully_connected and norm != "lin":
            absent = absent + (shares.absent * (inverse_sums @ geometry.source_sizes)).sum()
        block_columns = columns[part] if by_group else columns
        block_columns.baddbmm_(shares.excess.flatten(2), _behind_taps(inverse_sums, geometry, kernel.dtype))
    column_sums = columns.to(dtype) + copies * absent
    column_logs = torch.special.xlogy(column_sums, column_sums)
    both = torch.stack([column_sums, column_logs]).sum((1, 2)) @ geometry.target_sizes
    return copies * torch.cat([entropies[None], both])


def _rows(shares: Shares, operator: KernelOperator, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Entropies and reciprocal sums of the rows, by class of input position: ``(groups, inputs, classes)`` each."""
    geometry = operator.geometry
    excess = torch.stack([shares.excess.sum(1), shares.excess_log]).to(dtype) @ geometry.fan_out.T
    sums, logs = excess.unbind()
    if not operator.fully_connected:
        sums = sums + operator.num_outputs * _by_class(shares.absent)
        logs = logs + operator.num_outputs * _by_class(shares.absent_log)
    # Compared with 0, so that NaN stays NaN: a row without a connection has entropy 0 and feeds nothing.
    empty = sums == 0
    inverse = torch.where(empty, 0.0, sums.reciprocal())
    entropies = torch.where(empty, 0.0, sums.log() - logs * inverse).clamp_min(0)
    return entropies, inverse


def _by_class(absent: Tensor | float) -> Tensor | float:
    return absent[..., None] if isinstance(absent, Tensor) else absent


def _behind_taps(inverse_sums: Tensor, geometry: Geometry, dtype: torch.dtype) -> Tensor:
    """Sum the reciprocal row sums behind each tap of each output: ``(groups, inputs * taps, classes)``."""
    inverse_sums = inverse_sums.to(dtype)
    behind = sum(
        inverse_sums[..., feeders] * counts
        for feeders, counts in zip(geometry.feeders, geometry.feeder_counts, strict=True)
    )
    return behind.flatten(1, 2)
