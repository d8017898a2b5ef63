"""Mutual information of two layers of one network."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_same_length, data, takes
from lightning_foresight.functional._random import own_generator
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.mutual_information._arguments import as_rows, root_mean_square
from lightning_foresight.functional.mutual_information._constant import varying_columns
from lightning_foresight.functional.mutual_information._distances import row_blocks
from lightning_foresight.functional.mutual_information._fitted_noise import fitted_variance
from lightning_foresight.functional.mutual_information._label_entropy import Z, standard_error
from lightning_foresight.functional.mutual_information.kde import kde_information
from lightning_foresight.functional.mutual_information.noisy import bracket
from lightning_foresight.functional.mutual_information.registry import find_estimator

_OWNER = "layer_pair_information"
# Those that declare noise, without which one layer determines the next.
_NOISY = ("auto", "noisy", "kde")


def check_layer_pair_estimator(owner: str, name: str, options: dict[str, Any] | None = None) -> None:
    """Require an estimator that :func:`layer_pair_information` takes, measures of dependence among them.

    Args:
        owner: Who asks, for error texts.
        name: A name in :data:`ESTIMATORS`.
        options: The estimator's own options.

    Raises:
        ValueError: As :func:`find_estimator`.
    """
    find_estimator(owner, name, "input" if name in _NOISY else "pair", options)


@takes(first=data, second=data)
def layer_pair_information(
    first: Tensor, second: Tensor, *, estimator: str = "auto", base: float = 2, **options: Any
) -> Estimate:
    r"""I(T_1;T_2) of two layers that see the same inputs.

    One layer determines the next, so without a declared resolution this is infinite, and an estimator for samples with
    a density reads anything. ``"noisy"`` and ``"auto"`` therefore put noise on both layers, as for I(X;T). Given the
    input the two are then independent, hence exactly

    .. math:: I(T_1 + N_1; T_2 + N_2) = I(X; T_1 + N_1) + I(X; T_2 + N_2) - I(X; T_1 + N_1, T_2 + N_2),

    at most the smaller of I(X;T_1 + N_1) and I(X;T_2 + N_2). ``"kde"`` bounds each of the three by pairwise distances.
    All other estimators compare the two sets of samples; those of dependence, such as ``"cka"``, in no unit.

    Args:
        first: Activations of one layer, shape ``(n, ...)``, one row for each of n distinct inputs.
        second: Activations of the other for the same inputs, shape ``(n, ...)``.
        estimator: A name in :data:`ESTIMATORS` that compares two sets of samples, ``"noisy"`` or ``"kde"``.
        base: Base of the logarithm; 2 gives bits.
        **options: The estimator's own.

    Returns:
        The estimate, a scalar. With ``"noisy"`` ``std_error`` is that of the draws and the samples' terms, the interval
        is for all inputs, as that of I(X;T), and ``kind`` is ``"not_valid"`` where half of what the samples' own terms
        make out is more than 1.3 standard errors: the value is then one of these samples, at most :math:`\log n`.
        With ``"kde"`` ``std_error`` is NaN and ``kind`` ``"bracket"``: a difference of bounds is no bound, and
        ``lower`` and ``upper`` hold what is certain.

    Raises:
        ValueError: If the estimator or an option is not known, or the samples are not what it needs.

    Sources: Goldfeld et al. 2019 (arXiv 1810.05728) for the noise; Kolchinsky & Tracey 2017 (arXiv 1706.02419)
    for the bounds; Cover & Thomas 2006, chapter 2, for the identity.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import layer_pair_information
        >>> first = torch.arange(4.0).unsqueeze(1)
        >>> second = (first > 1).float()  # keeps one bit of the two
        >>> round(layer_pair_information(first, second, estimator="noisy", noise_std=1e-3).value.item(), 6)
        1.0
    """
    check_layer_pair_estimator(_OWNER, estimator, options)
    if estimator not in _NOISY:
        compare = find_estimator(_OWNER, estimator, "pair", options).pair
        assert compare is not None  # it was checked
        return compare(first, second, base=base, **options)
    if estimator == "kde":
        return _kde_pair(first, second, base, **options)
    # `k` is auto's, of its other questions.
    estimate = _noisy_pair(first, second, base, **{key: value for key, value in options.items() if key != "k"})
    return estimate._replace(method=f"auto: {estimate.method}") if estimator == "auto" else estimate


def _noisy_pair(
    first: Tensor,
    second: Tensor,
    base: float,
    noise_std: float | None = None,
    relative_noise: float = 0.05,
    num_draws: int = 1,
    seed: int = 0,
) -> Estimate:
    check_base(_OWNER, base)
    layers = [as_rows(_OWNER, name, rows) for name, rows in (("first", first), ("second", second))]
    check_same_length(_OWNER, "first", layers[0], "second", layers[1])
    layers = [_in_units_of_the_noise(rows, noise_std, relative_noise) for rows in layers]
    n, nats = layers[0].shape[0], math.log(base)
    generator = own_generator(first.device, seed)
    terms, left_out = [], []
    for _ in range(num_draws):
        noise = [torch.randn(rows.shape, generator=generator, dtype=rows.dtype, device=rows.device) for rows in layers]
        for block in row_blocks(n, first.device):
            # One draw for all three densities: what depends on the noise alone cancels.
            one, two = (_log_densities(rows, draw, block) for rows, draw in zip(layers, noise, strict=True))
            sums = [each.logsumexp(1).double() for each in (one, two)]
            sums.append(one.add_(two).logsumexp(1).double())
            # The own term of each mixture is 1.
            with_own = [each.logaddexp(torch.zeros_like(each)) for each in sums]
            terms.append(with_own[2] - with_own[0] - with_own[1] + math.log(n))
            left_out.append(sums[2] - sums[0] - sums[1] + math.log(n - 1))
    per_sample, without = (torch.cat(each).view(num_draws, n).mean(0) / nats for each in (terms, left_out))
    value = per_sample.mean()
    low, high, biased = bracket(per_sample, without)
    if bool(high.mean() < low.mean()):  # two layers share more or less without the own terms
        low, high = high, low
    lower, upper = low.mean() - Z * standard_error(low), high.mean() + Z * standard_error(high)
    return make_estimate(
        value,
        std_error=standard_error(per_sample),
        num_samples=n,
        saturation=(value * nats / math.log(n)).clamp(0, 1),
        lower=torch.minimum(lower, value).clamp(min=0),
        upper=torch.maximum(upper, value),
        kind="not_valid" if biased else "estimate",
        method=f"noisy (both layers, {num_draws} draws)",
    )


def _kde_pair(
    first: Tensor, second: Tensor, base: float, noise_variance: float | str = 1e-3, bound: str = "upper"
) -> Estimate:
    check_base(_OWNER, base)
    layers = [as_rows(_OWNER, name, rows) for name, rows in (("first", first), ("second", second))]
    check_same_length(_OWNER, "first", layers[0], "second", layers[1])
    layers = [rows if rows.is_floating_point() else rows.float() for rows in layers]
    fitted = isinstance(noise_variance, str)
    variances = [fitted_variance(rows) if isinstance(noise_variance, str) else noise_variance for rows in layers]
    dtype = torch.promote_types(layers[0].dtype, layers[1].dtype)
    layers = [(rows / variance**0.5).to(dtype) for rows, variance in zip(layers, variances, strict=True)]
    one, two, both = (
        kde_information(rows, base=base, noise_variance=1.0, bound=bound)[0] for rows in (*layers, torch.cat(layers, 1))
    )
    (low, high), (low_two, high_two), (low_both, high_both) = (each.interval() for each in (one, two, both))
    value = one.value + two.value - both.value
    return make_estimate(
        value,
        std_error=math.nan,
        num_samples=both.num_samples,
        saturation=both.saturation,
        lower=(low + low_two - high_both).clamp(min=0),
        upper=torch.minimum(high + high_two - low_both, torch.minimum(high, high_two)),
        kind="bracket",
        method=f"kde (both layers, {bound}, {'fitted noise' if fitted else f'noise variance {noise_variance:g}'})",
    )


def _in_units_of_the_noise(rows: Tensor, noise_std: float | None, relative_noise: float) -> Tensor:
    rows = rows if rows.is_floating_point() else rows.float()
    rows = (rows - rows.mean(0)) * varying_columns(rows)  # the mean of equal numbers is not always that number
    if noise_std is not None:
        return rows / noise_std
    size = root_mean_square(rows)
    return rows / (relative_noise * torch.where(size > 0, size, torch.ones_like(size)))


def _log_densities(rows: Tensor, noise: Tensor, block: slice) -> Tensor:
    """Log phi(z_i - t_j) of the samples of a block, less that of the own centre, which is left out itself."""
    half_sq = 0.5 * rows.square().sum(1)
    noisy = rows[block] + noise[block]
    own = (noisy * rows[block]).sum(1) - half_sq[block]
    density = (noisy @ rows.T - half_sq).sub_(own.unsqueeze(1))
    index = torch.arange(block.start, block.stop, device=rows.device).unsqueeze(1)
    return density.scatter_(1, index, -math.inf)
