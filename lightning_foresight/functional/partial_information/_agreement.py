"""For each row, how much weight agrees with it on exactly which sources."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_foresight.functional.partial_information._row_ids import group_sum, relabel


def subset_ids(columns: Tensor, given: Tensor | None = None) -> Iterator[tuple[int, Tensor, int]]:
    """Group rows by their codes on every set of columns, and by ``given`` codes besides.

    Yields:
        ``(mask, ids, size)`` for each of the ``2^n`` sets: ids below ``size`` that are equal for rows that agree on the
        columns of ``mask``. A parent's ids are refined by one column at a time, so only one path is held at once.
    """
    num_rows, num_columns = columns.shape
    # Ids may have gaps as long as a table indexed by them stays cheaper than the sort that would close the gaps.
    max_size = max(2**18, 8 * num_rows)
    relabelled = [relabel(column) for column in columns.unbind(1)]

    def refine(mask: int, ids: Tensor, size: int, start: int) -> Iterator[tuple[int, Tensor, int]]:
        yield mask, ids, size
        for column in range(start, num_columns):
            codes, levels = relabelled[column]
            finer, finer_size = ids * levels + codes, size * levels
            if finer_size > max_size:
                finer, finer_size = relabel(finer)
            yield from refine(mask | 1 << column, finer, finer_size, column + 1)

    if given is None:
        yield from refine(0, torch.zeros(num_rows, dtype=torch.long, device=columns.device), 1, 0)
    else:
        yield from refine(0, *relabel(given), 0)


def agreement_weights(
    columns: Tensor, weights: Tensor, given: Tensor | None = None, at: Tensor | None = None
) -> Tensor:
    r"""Weight of the rows that agree with each row on exactly the columns of each set.

    :math:`h_A = \sum_{B \supseteq A} (-1)^{|B \setminus A|} N_B`, where :math:`N_B` is the weight that agrees at
    least on :math:`B`.

    Args:
        columns: Codes, ``(m, n)``.
        weights: ``(m,)``, float; may require a gradient.
        given: Codes ``(m,)`` that have to agree besides.
        at: Which rows to return; all when ``None``.

    Returns:
        ``(2^n, rows)``, the first axis by the bit mask of the set.
    """
    num_columns, num_rows = columns.shape[1], len(columns) if at is None else len(at)
    track = weights.requires_grad
    at_least: list[Tensor] = [weights] * 2**num_columns
    exactly = weights.new_empty(0 if track else 2**num_columns, num_rows)
    for mask, ids, size in subset_ids(columns, given):
        summed = group_sum(ids, size, weights)[ids if at is None else ids[at]]
        if track:
            at_least[mask] = summed
        else:
            exactly[mask] = summed
    if track:
        exactly = torch.stack(at_least)
    for column in range(num_columns):
        pairs = exactly.view(-1, 2, 2**column, num_rows)
        if track:
            exactly = torch.stack([pairs[:, 0] - pairs[:, 1], pairs[:, 1]], 1).view(exactly.shape)
        else:
            pairs[:, 0] -= pairs[:, 1]
    return exactly
