"""Bounds on mutual information for a layer with Gaussian noise added, from pairwise distances."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_choice, fail
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.mutual_information._arguments import as_labels, as_rows
from lightning_foresight.functional.mutual_information._fitted_noise import fitted_variance
from lightning_foresight.functional.mutual_information._label_entropy import (
    Z,
    label_entropy_end,
    most_lost,
    standard_error,
)
from lightning_foresight.functional.mutual_information._pairs import gaussian_sums

_OWNER = "kde"
# Entries from which on squared distances in units of the noise may overflow in single precision.
_LARGEST = 2.0**40


def check_kde(noise_variance: float | str = 1e-3, bound: str = "upper") -> None:
    """Check the options of ``"kde"`` without data, as a callback does when it is made."""
    check_choice(_OWNER, "bound", bound, ("upper", "lower"))
    if noise_variance == "fitted":
        return
    if not isinstance(noise_variance, (int, float, Tensor)) or not 0 < noise_variance < math.inf:
        fail(
            _OWNER,
            "noise_variance",
            noise_variance,
            "expected a positive number, the variance added to every unit, or 'fitted'.",
        )


def kde_information(
    activations: Tensor,
    labels: Tensor | None = None,
    *,
    base: float = 2,
    noise_variance: float | str = 1e-3,
    bound: str = "upper",
) -> tuple[Estimate, Estimate]:
    r"""Both coordinates of the information plane of a layer with Gaussian noise, bounded from pairwise distances.

    .. math::
        I(X; T + N) \le -\frac1n \sum_i \log \frac1n \sum_j e^{-\|t_i - t_j\|^2 / 2 \sigma^2}, \qquad
        I(X; T + N) \ge -\frac1n \sum_i \log \frac1n \sum_j e^{-\|t_i - t_j\|^2 / 8 \sigma^2}

    with X uniform on the given samples and :math:`N \sim \mathcal N(0, \sigma^2 1)`: the Kullback-Leibler and the
    Bhattacharyya bound. I(T;Y) is the same bound of H(T) minus that of H(T|Y), as in the literature; a difference of
    bounds is not a bound, so its ``kind`` is ``"bracket"``: ``lower`` and ``upper`` are bounds, H(T) from one minus
    H(T|Y) from the other. They are no confidence interval, and stay apart however many samples there are.

    The noise is part of the definition: a deterministic layer has none, and the value depends on the variance. The
    value of I(T;Y) is that of the given samples, near H(Y) whatever the labels are once no two samples overlap
    (``saturation`` near 1). Its ``lower`` and ``upper`` are for all that these are samples of: upper bounds leave out
    the sample's own overlap, each end is 1.96 standard errors further out, and they are kept within 0 and the upper end
    of H(Y)'s own.

    Args:
        activations: Shape ``(n, ...)``, one row for each of n distinct inputs.
        labels: Integer classes, shape ``(n,)``; without them the second estimate is 0.
        base: Base of the logarithm; 2 gives bits.
        noise_variance: Variance of the noise on every unit; ``"fitted"`` takes the one under which each sample is most
            probable given the others (leave-one-out likelihood of a Gaussian kernel density, as in the nonlinear
            information bottleneck). It adapts to the scale of a layer, and values of
            different layers are then at different noise; ``method`` says how much.
        bound: Which bound ``value`` is: ``"upper"`` or ``"lower"``.

    Returns:
        Estimates of I(X;T+N), of the given samples with both bounds in ``lower`` and ``upper``, and of I(T+N;Y),
        scalars in float64.
        ``std_error`` is the standard deviation of the samples' terms of ``value`` over :math:`\sqrt n`; ``saturation``
        is the upper bound of I(X;T+N) over :math:`\log n`.

    Raises:
        ValueError: If activations are not finite, samples are fewer than 2, labels are not integers or do not match, or
            an option is out of range.

    Sources: Kolchinsky & Tracey 2017 (arXiv 1706.02419); Saxe et al. 2018; Kolchinsky, Tracey & Wolpert 2019
    (arXiv 1705.02436).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional.mutual_information import kde_information
        >>> activations = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
        >>> i_xt, i_ty = kde_information(activations, torch.tensor([0, 0, 1, 1]))
        >>> i_xt.value.item(), i_xt.kind, i_ty.value.item()
        (1.0, 'upper_bound', 1.0)
    """
    check_base(_OWNER, base)
    check_kde(noise_variance, bound)
    rows = as_rows(_OWNER, "activations", activations)
    if not rows.is_floating_point():
        rows = rows.float()
    if rows.dtype == torch.float32 and not bool(rows.abs().max() < _LARGEST):
        rows = rows.double()
    n, nats = rows.shape[0], math.log(base)
    if labels is None:
        sizes = torch.tensor([n])
    else:
        labels, order = as_labels(_OWNER, "labels", labels, n)[0].to(rows.device).sort()
        rows, sizes = rows[order], torch.bincount(labels)
    variance = float(fitted_variance(rows)) if isinstance(noise_variance, str) else noise_variance
    sums = gaussian_sums(rows, variance, [size for size in sizes.tolist() if size])

    def terms(total: Tensor, size: Tensor | int) -> Tensor:
        return -(total.double() / size).log()

    # Entropies less that of the noise, one term for each sample.
    upper, lower = terms(sums.narrow, n), terms(sums.wide, n)
    upper_given_y, lower_given_y = terms(sums.label_narrow, sums.label_size), terms(sums.label_wide, sums.label_size)
    # A class or a layer of one sample leaves no others, and says nothing.
    smallest = torch.finfo(rows.dtype).eps
    upper_others = terms((sums.narrow - 1).clamp(min=smallest), n - 1)
    upper_others_given_y = terms((sums.label_narrow - 1).clamp(min=smallest), (sums.label_size - 1).clamp(min=1))
    saturation = (upper.mean() / math.log(n)).clamp(0, 1)
    fitted = "fitted " if noise_variance == "fitted" else ""
    method = f"kde ({bound}, {fitted}noise variance {variance:g})"

    def estimate(values: Tensor, low: Tensor, high: Tensor, kind: str) -> Estimate:
        return make_estimate(
            values.mean() / nats,
            std_error=standard_error(values) / nats,
            num_samples=n,
            saturation=saturation,
            lower=low / nats,
            upper=high / nats,
            kind=kind,
            method=method,
        )

    i_xt = estimate(upper if bound == "upper" else lower, lower.mean(), upper.mean(), f"{bound}_bound")
    surprisals = (n / sums.label_size.double()).log()
    low_terms, high_terms = lower - upper_others_given_y, upper_others - lower_given_y
    h_y = surprisals.mean()
    lost = most_lost(h_y - low_terms.mean(), standard_error(low_terms), surprisals - low_terms, math.log(n))
    high = torch.minimum(high_terms.mean() + Z * standard_error(high_terms), label_entropy_end(sizes.to(rows.device)))
    values = upper - upper_given_y if bound == "upper" else lower - lower_given_y
    high = high.maximum(values.mean())  # which rounding may put above H(Y)
    return i_xt, estimate(values, (h_y - lost).clamp(min=0), high, "bracket")
