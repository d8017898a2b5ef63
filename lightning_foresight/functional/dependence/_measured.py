"""HSIC, plain or normalised, with the ends of its interval: what all kernel measures are made of."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_finite, check_same_length, check_samples
from lightning_foresight.functional._noncentral import distance_interval, skewness_shift
from lightning_foresight.functional._rare_labels import ENOUGH_FOR_KERNELS, has_rare_labels
from lightning_foresight.functional.dependence._centred import (
    biased,
    influence,
    kernel_sums,
    products_with_sums,
    unbiased,
)
from lightning_foresight.functional.dependence._spectrum import third_moment
from lightning_foresight.functional.dependence.kernels import check_kernel, make_kernel


def _claim(*sides: Tensor) -> str:
    """What an interval is, of sides that may be labels: those of which too few were seen put it below the truth."""
    labels = [side for side in sides if not side.is_floating_point() and side.numel() == side.shape[0]]
    counts = [torch.unique(side, return_counts=True)[1] for side in labels]
    return "lower_bound" if any(has_rare_labels(each, ENOUGH_FOR_KERNELS) for each in counts) else "estimate"


def _rows(owner: str, argument: str, samples: Tensor) -> Tensor:
    check_samples(owner, argument, samples, minimum=4)
    rows = samples.reshape(samples.shape[0], -1)
    if not rows.is_floating_point():
        if rows.shape[1] == 1:
            # The kernel of class numbers would depend on how classes are numbered.
            rows = torch.nn.functional.one_hot(torch.unique(rows.flatten(), return_inverse=True)[1])
        rows = rows.float()
    if rows.dtype not in (torch.float32, torch.float64):
        rows = rows.float()
    check_finite(owner, argument, rows.detach())
    return rows


def _in_single_range(rows: Tensor) -> Tensor:
    """Whether single precision holds the fourth powers of differences that products of linear kernels are made of."""
    low, high = torch.aminmax(rows.detach(), dim=0)
    span = (high - low).max()
    return (span == 0) | (span > 2**-24) & (span < 2**24)


def prepare_kernels(owner: str, x: Tensor, y: Tensor, kernel: str, bandwidth: Any) -> tuple[Any, Any, Any, Any]:
    """Check both sets of samples; return their rows and kernels."""
    check_kernel(owner, kernel, bandwidth)
    x_rows, y_rows = _rows(owner, "x", x), _rows(owner, "y", y)
    check_same_length(owner, "x", x_rows, "y", y_rows)
    widths = bandwidth if isinstance(bandwidth, (tuple, list)) else (bandwidth, bandwidth)
    dtype = torch.promote_types(x_rows.dtype, y_rows.dtype)
    if dtype == torch.float32 and not bool(_in_single_range(x_rows) & _in_single_range(y_rows)):
        dtype = torch.float64
    x_rows, kernel_x = make_kernel(x_rows.to(dtype), kernel, widths[0])
    y_rows, kernel_y = make_kernel(y_rows.to(dtype), kernel, widths[1])
    return x_rows, y_rows, kernel_x, kernel_y


class Measured(NamedTuple):
    """A value, its standard error, the ends of its 95% interval (NaN without an error), and what it claims."""

    value: Tensor
    std_error: Tensor
    lower: Tensor
    upper: Tensor
    kind: str


def measure_kernels(
    owner: str, x: Tensor, y: Tensor, kernel: str, bandwidth: Any, debiased: bool, normalised: bool, std_error: bool
) -> Measured:
    """Measure HSIC, or HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y)).

    Where dependence is weak both forms are skewed, and their error is small where they happen to be low. Constant
    samples share 0. Where a side's own unbiased HSIC is lost in rounding, as of labels that each occur once, the form
    that divides by it is NaN.
    """
    args = prepare_kernels(owner, x, y, kernel, bandwidth)
    sums = kernel_sums(*args, squares=normalised or std_error)
    kl, kk, ll, k, l = sums.kl, sums.kk, sums.ll, sums.k, sums.l  # noqa: E741
    dk, dl = sums.k_diagonal, sums.l_diagonal
    k_full, l_full = k + dk, l + dl
    pairs = [(kl, k, l), (kk, k, k), (ll, l, l)]
    full = [(kl + dk * dl, k_full, l_full), (kk + dk * dk, k_full, k_full), (ll + dl * dl, l_full, l_full)]
    needed = 3 if normalised or std_error else 1
    of_unbiased, of_biased = [unbiased(*pair) for pair in pairs[:needed]], [biased(*pair) for pair in full[:needed]]
    values = of_unbiased if debiased else of_biased
    value, known = values[0], True
    if needed > 1 and not bool((kk.detach().sum() > 0) & (ll.detach().sum() > 0)):
        zero = torch.zeros_like(value)
        return Measured(value, zero, zero.clone(), zero.clone(), "estimate")
    if normalised:
        known = own_is_known(of_unbiased[1:], [kk, ll], args[0].dtype)
        value = _normalised(values) if known or not debiased else value * math.nan
    unknown = torch.full_like(value, math.nan).detach()
    if not (std_error and known):
        return Measured(value, unknown, unknown.clone(), unknown.clone(), "estimate" if known else "not_valid")
    with torch.no_grad():
        with_k, with_l = products_with_sums(*args, sums)
        moves = influence(kl, k, l, with_k[:, 1], with_l[:, 0])
        if normalised:
            moves = moves / values[0] - 0.5 * influence(kk, k, k, with_k[:, 0], with_k[:, 0]) / values[1]
            moves = value * (moves - 0.5 * influence(ll, l, l, with_l[:, 1], with_l[:, 1]) / values[2])
        n = k.shape[0]
        error = moves.std(correction=0) / math.sqrt(n)
        third = third_moment(args[0], args[2]) * third_moment(args[1], args[3])
        if normalised:
            lower, upper = _ends_below_one(_normalised(of_biased), _normalised(of_unbiased), error, third, n)
        else:
            unit = _unit(of_biased)
            shift = skewness_shift(moves.pow(3).mean(), moves.square().mean(), error.new_tensor(float(n)))
            ends = _ends(of_biased[0] / unit, of_unbiased[0] / unit, error / unit, third, n, shift / unit)
            lower, upper = (end * unit for end in ends)
        return Measured(value, error, torch.minimum(lower, value), torch.maximum(upper, value), _claim(x, y))


def _ends(
    with_bias: Tensor, without: Tensor, error: Tensor, third: Tensor, n: int, shift: Tensor | float = 0.0
) -> tuple[Tensor, Tensor]:
    r"""95% interval of HSIC in units of the root of both sides' own, from its biased and unbiased forms.

    Of independent samples n times the biased form is :math:`\sum_i w_i \chi^2_1` with :math:`\sum_i w_i^2 = 1` in these
    units (Gretton et al. 2007). With :math:`1/b = \sum_i w_i^3` the unbiased form and :math:`b / n` have its mean,
    variance and third moment (Pearson's approximation, Imhof 1961): :math:`n b` times their sum is chi-square with
    :math:`b^2` degrees of freedom, noncentral under dependence.
    """
    # Equal weights have the largest b, n times the bias.
    bias = torch.where(third > 0, 1 / third, n * (with_bias - without)).clamp(1, n)
    half = n * bias / 2
    return distance_interval((without + bias / n).clamp(min=0), error.square() * half, bias.square(), half, shift)


def _ends_below_one(with_bias: Tensor, without: Tensor, error: Tensor, third: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The same of CKA, whose error shrinks towards 1 as that of a correlation does.

    The ends are those of -log(1 - CKA): of one normal column a side twice the information, which is noncentral
    chi-square near 0 and of even error elsewhere.
    """
    left = (1 - without).clamp(min=1e-6)
    unbiased_log = -left.log()
    with_bias_log = unbiased_log + (with_bias - without).clamp(min=0) / left
    lower, upper = _ends(with_bias_log, unbiased_log, error / left, third, n)
    return -torch.expm1(-lower), -torch.expm1(-upper)


def own_is_known(owns: list[Tensor], squares: list[Tensor], dtype: torch.dtype) -> bool:
    """Whether both sides' own unbiased HSIC is more than what rounding leaves of the sums that it is made of.

    Args:
        owns: Unbiased HSIC(x, x) and HSIC(y, y).
        squares: Row sums of K * K and L * L without the diagonals.
        dtype: Of the kernels' values.
    """
    rounding = 100 * torch.finfo(dtype).eps / squares[0].shape[0] ** 2
    return bool(torch.stack([own > rounding * sums.sum() for own, sums in zip(owns, squares, strict=True)]).all())


def _normalised(values: list[Tensor]) -> Tensor:
    """HSIC(x, y) over the root of both sides' own, which rounding may put above 1."""
    return (values[0] / (values[1] * values[2]).sqrt()).clamp(max=1)


def _unit(values: list[Tensor]) -> Tensor:
    floor = torch.finfo(torch.float64).tiny
    return (values[1].clamp(min=floor) * values[2].clamp(min=floor)).sqrt()
