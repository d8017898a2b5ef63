"""What both versions of Student's quantiles, of numbers and of tensors, integrate with, and up to which level."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from lightning_foresight.functional._checks import fail

NUM_NODES = 48
# Above it the iteration for few degrees of freedom ends in wrong quantiles.
MAX_LEVEL = 0.999


def check_level(owner: str, argument: str, level: Any) -> None:
    """Require a coverage that Student's quantiles are precise for.

    Raises:
        ValueError: With what was passed and what was expected.
    """
    if isinstance(level, bool) or not isinstance(level, (int, float)) or not 0 < level <= MAX_LEVEL:
        fail(owner, argument, level, f"expected a probability between 0 and 1, at most {MAX_LEVEL}, such as 0.95.")


@lru_cache
def legendre() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return nodes and weights of Gauss and Legendre on (0, 1)."""
    nodes, weights = np.polynomial.legendre.leggauss(NUM_NODES)  # on (-1, 1)
    return tuple(((nodes + 1) / 2).tolist()), tuple((weights / 2).tolist())
