"""What values counted in cells claim, in Python's numbers: each operation on a tensor costs as much as all of this."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

from lightning_foresight.functional._noncentral import (
    Z,
    debiased_variance,
    distance_interval,
    entropy_interval,
    skewness_shift,
)
from lightning_foresight.functional.mutual_information._label_entropy import largest_of_seen
from lightning_foresight.functional.mutual_information._plug_in import ENOUGH_IN_CELLS, PlugIn

_EVEN = 1e-12  # nats^2: below it terms differ by rounding only


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
    cells, labels, shape = counted.cells, counted.labels, counted.shape
    possible = counted.joint_cells + (shape.gaps if shape else 0)
    freedom = possible - cells - labels + 1  # below 0 where T decides Y
    third = shape.h_t_third if shape else 0.0
    of_h = entropy_interval(counted.h_t, counted.h_t_variance, float(cells), float(n), third)
    of_i = _information_interval(counted, freedom, n)
    # The delta method's is 0 where all terms are equal, as of a layer that decides even labels.
    h_error = math.sqrt(debiased_variance(counted.h_t_variance, float(cells - 1), float(n)))
    i_error = math.sqrt(debiased_variance(counted.i_ty_variance, float(abs(freedom)), float(n)))
    if corrected is None:
        h_t, i_ty = max(counted.h_t, 0.0), max(counted.i_ty, 0.0)  # rounding may put them below
        h_kind, i_kind = "lower_bound", "upper_bound"
    else:
        h_t, i_ty = corrected
        i_ty = min(i_ty, largest_of_seen((cells, labels), n, ENOUGH_IN_CELLS))
        h_kind = i_kind = "not_valid"
    if cells * ENOUGH_IN_CELLS <= n:
        h_kind = "estimate"
    if shape and possible * ENOUGH_IN_CELLS <= n:
        i_kind = "not_valid" if counted.rare_labels or shape.rare_cells else "estimate"
    # A plug-in value may be off by more than its error: the interval is for the truth, and reaches to the value.
    return (
        Claim(h_t, h_error, min(of_h[0], h_t), max(of_h[1], h_t), h_kind),
        Claim(i_ty, i_error, min(of_i[0], i_ty), max(of_i[1], i_ty), i_kind),
    )


def _information_interval(counted: PlugIn, freedom: int, n: int) -> tuple[float, float]:
    """95% interval of I(T;Y), within 0 and the interval of H(Y).

    Chance raises the information of samples by ``freedom / 2n``; where T decides Y, chance lowers it as it does H(Y).
    To second order both ends move by :math:`c z^2 / 2n` with the curvature :math:`c` of I(T;Y) and by the skewness of
    the terms (DiCiccio & Efron 1992); a noncentral chi-square knows the first of these as it is at its limit, c = 1.
    """
    i_ty, variance, most = counted.i_ty, counted.i_ty_variance, math.log(counted.labels)
    label_end = _label_end(counted.h_y, counted.h_y_variance, counted.h_y_third, counted.labels, n)
    if counted.labels == 1 or counted.cells == 1:
        return 0.0, min(label_end, _label_end(counted.h_t, counted.h_t_variance, 0.0, counted.cells, n))
    at_limit = float((freedom > 0) - (freedom < 0))
    curvature, skewness = at_limit, 0.0
    if counted.shape and variance > _EVEN:
        curvature = counted.shape.i_ty_curvature / variance
        skewness = skewness_shift(counted.shape.i_ty_third, variance, float(n))
    shift = (curvature - at_limit) * Z * Z / (2 * n) + skewness
    if freedom > 0:
        low, high = distance_interval(max(i_ty, 0.0), variance, float(freedom), float(n), shift)
    elif freedom < 0:
        near, far = distance_interval(max(most - i_ty, 0.0), variance, float(-freedom), float(n), -shift)
        low, high = most - far, most - near
    else:
        half = Z * math.sqrt(variance / n)
        low, high = i_ty - half + shift, i_ty + half + shift
    if counted.shape and freedom >= 0 and variance > _EVEN:
        # As Wilson's of a count: one more sample may be told of another label.
        low = i_ty - (i_ty - low) * math.sqrt(1 + counted.shape.largest_loss**2 / (n * variance))
    return max(low, 0.0), min(high, label_end)


@functools.lru_cache(maxsize=4)
def _label_end(h_y: float, variance: float, third: float, labels: int, n: int) -> float:
    """Upper end of H(Y)'s own interval, which all layers share."""
    return entropy_interval(h_y, variance, float(labels), float(n), third)[1]
