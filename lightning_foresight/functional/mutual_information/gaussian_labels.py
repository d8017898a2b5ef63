"""Mutual information of a Gaussian copula with class labels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.mutual_information._arguments import as_labels, as_rows
from lightning_foresight.functional.mutual_information._constant import zero_of_constants
from lightning_foresight.functional.mutual_information.gaussian import log_det_bias, normal_scores, whiten

_OWNER = "gaussian_copula"
# Variance within a class, as a share of the whole, that counts as none.
_FLOOR = 1e-12


@zero_of_constants(_OWNER)
def gaussian_copula_label(activations: Tensor, labels: Tensor, *, base: float = 2) -> Estimate:
    r"""I(T;Y) that the ranks of the units would have if they were Gaussian, in all classes together and in each.

    .. math:: I = \frac12 \Big( \log |C| - \sum_y p_y \log |C_y| \Big) - \mathrm{bias}

    with :math:`C` the covariance of the units' normal scores and :math:`C_y` that within a class. It sees what classes
    do to means and covariances of ranks. Neither is Gaussian in truth where classes lie apart, so that the value may be
    too low or too high: no interval is claimed. It is at most the entropy of the given labels.

    Args:
        activations: Shape ``(n, ...)``.
        labels: Integer classes, shape ``(n,)``, each with more samples than units.
        base: Base of the logarithm; 2 gives bits.

    Returns:
        The estimate, a scalar in float64, without ``std_error``.

    Raises:
        ValueError: If activations are not finite, or a class has no more samples than units.

    Source: Ince et al. 2017, doi 10.1002/hbm.23471; Miller 2003 for the bias.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import label_information
        >>> generator = torch.Generator().manual_seed(0)
        >>> labels = torch.randint(0, 2, (2000,), generator=generator)
        >>> activations = labels + torch.randn(2000, generator=generator)  # 0.16 bits
        >>> estimate = label_information(activations, labels, estimator="gaussian_copula")
        >>> abs(estimate.value.item() - 0.16) < 0.03
        True
    """
    check_base(_OWNER, base)
    rows = as_rows(_OWNER, "activations", activations)
    n, units = rows.shape
    codes, _ = as_labels(_OWNER, "labels", labels, n)
    counts = codes.bincount()
    counts = counts[counts > 0]
    if int(counts.min()) <= units + 2:
        raise ValueError(
            f"{_OWNER}(activations, labels): got a class of {int(counts.min())} samples of {units} units; expected "
            "more samples in each class than units. Reduce the units (pool, project), or use estimator='ksg' or "
            "'sliced'."
        )
    white, _ = whiten(normal_scores(rows))
    white = white[codes.argsort(stable=True)]
    shares = counts.double() / n
    within = white.new_zeros(())
    for share, part in zip(shares, white.split(counts.tolist()), strict=True):
        part = part - part.mean(0)
        size, width = part.shape
        # A direction in which a class has no variance tells it for certain; the entropy of the labels ends that.
        spread = torch.linalg.eigvalsh(part.T @ part / (size - 1)).clamp(min=_FLOOR)
        within = within + share * (spread.log().sum() - log_det_bias(size, width, white.device))
    value = -0.5 * (within + log_det_bias(n, white.shape[1], white.device))
    value = torch.minimum(value, -torch.special.xlogy(shares, shares).sum()) / math.log(base)
    return make_estimate(value, std_error=float("nan"), num_samples=n, method="Gaussian copula, by class")
