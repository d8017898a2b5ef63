"""What values counted in cells claim, in Python's numbers: each operation on a tensor costs as much as all of this."""

from __future__ import annotations

import math
from typing import NamedTuple

from lightning_foresight.functional.mutual_information._label_entropy import Z, end_of_entropy, largest_of_seen
from lightning_foresight.functional.mutual_information._plug_in import PlugIn

# Samples to an occupied cell, on average, from which on 95% intervals covered 89 to 100% on eleven tables.
_ENOUGH = 16


class Claim(NamedTuple):
    """A value in nats with its standard error, the ends of its 95% interval, and what it claims to be."""

    value: float
    std_error: float
    lower: float
    upper: float
    kind: str


def claims_of(counted: PlugIn, n: int, corrected: tuple[float, float] | None = None) -> tuple[Claim, Claim]:
    """Say what H(T) and I(T;Y) claim.

    Args:
        counted: Of n samples.
        n: How many.
        corrected: The two values in nats after a correction for small samples, if one was asked for.
    """
    cells, joint_cells, labels = counted.cells, counted.joint_cells, counted.labels
    freedom = joint_cells - cells - labels + 1  # below 0 where T decides Y
    h_error, h_half, h_bias = _spread(counted.h_t_variance, cells - 1, n)
    i_error, i_half, i_bias = _spread(counted.i_ty_variance, freedom, n)
    # The delta method's is 0 where all terms are equal, as of a layer that decides even labels.
    i_error = max(i_error, math.sqrt(abs(freedom) / 2) / n)
    enough, joint_enough = cells * _ENOUGH <= n, joint_cells * _ENOUGH <= n
    if corrected is not None:
        h_t, i_ty = corrected
        largest = largest_of_seen((cells, labels), n, _ENOUGH)
        i_ty = min(i_ty, largest)
        return (
            Claim(h_t, h_error, h_t - h_half, h_t + h_half, "estimate" if enough else "not_valid"),
            Claim(
                i_ty, i_error, i_ty - i_half, min(i_ty + i_half, largest), "estimate" if joint_enough else "not_valid"
            ),
        )
    h_t, i_ty = counted.h_t, counted.i_ty
    # Plug-in entropies read low, information reads high, or low where it is that of an entropy.
    h_end = min(h_t + h_half + h_bias, math.log(n))
    i_lower, i_upper = i_ty - i_half - max(i_bias, 0.0), i_ty + i_half - min(i_bias, 0.0)
    i_upper = min(i_upper, end_of_entropy(counted.h_y, counted.h_y_variance, labels, n), math.log(labels))
    return (
        Claim(h_t, h_error, max(h_t - h_half, 0.0), h_end, "estimate" if enough else "lower_bound"),
        Claim(i_ty, i_error, max(i_lower, 0.0), i_upper, "estimate" if joint_enough else "upper_bound"),
    )


def _spread(variance: float, freedom: int, n: int) -> tuple[float, float, float]:
    """Standard error by the delta method, half of the interval's width, and first-order bias of a plug-in value.

    Degrees of freedom k add a bias of k / 2n, and a spread of sqrt(k / 2) / n, all there is where T and Y are
    independent.
    """
    bias = freedom / (2 * n)
    return math.sqrt(variance / n), Z * math.sqrt((variance + abs(bias)) / n), bias
