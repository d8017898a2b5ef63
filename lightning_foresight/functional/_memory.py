"""Chunk sizes under a memory budget."""

from __future__ import annotations

import os
from collections.abc import Iterator

# Scratch memory that one call may use, in bytes. Larger chunks gain little once a chunk fills the caches of a device.
MEMORY_BUDGET = int(os.environ.get("LIGHTNING_FORESIGHT_MEMORY_MIB", "256")) * 2**20


def chunk_length(total: int, bytes_per_item: int, budget: int | None = None) -> int:
    """Return how many of ``total`` items fit into the budget at once, at least 1."""
    fits = (MEMORY_BUDGET if budget is None else budget) // max(1, bytes_per_item)
    return max(1, min(total, fits))


def chunks(total: int, bytes_per_item: int, budget: int | None = None) -> Iterator[slice]:
    """Yield slices that cover ``range(total)``, each within the memory budget.

    Example:
        >>> from lightning_foresight.functional._memory import chunks
        >>> list(chunks(5, bytes_per_item=100, budget=200))
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    length = chunk_length(total, bytes_per_item, budget)
    for start in range(0, total, length):
        yield slice(start, min(start + length, total))
