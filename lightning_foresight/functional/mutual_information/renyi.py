"""Matrix-based Rényi mutual information: entropies of the eigenvalues of kernel matrices."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_int, check_same_length, fail
from lightning_foresight.functional.dependence.kernels import median_distance
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.mutual_information._arguments import as_labels, as_rows
from lightning_foresight.functional.mutual_information._constant import zero_of_constants

_OWNER = "renyi"


def check_renyi(alpha: float = 1.01, bandwidth: Any = "median", max_samples: int = 1000) -> None:
    """Check the options of ``"renyi"`` without data."""
    if not 0 < alpha < math.inf or alpha == 1:
        fail(_OWNER, "alpha", alpha, "expected a positive number other than 1, such as 1.01 or 2.")
    if bandwidth != "median" and not (isinstance(bandwidth, (int, float)) and 0 < bandwidth < math.inf):
        fail(_OWNER, "bandwidth", bandwidth, "expected a positive number or 'median'.")
    check_int(_OWNER, "max_samples", max_samples, 2)


def _kernel(rows: Tensor, bandwidth: Any) -> Tensor:
    rows = rows.double()
    sigma = median_distance(rows) if bandwidth == "median" else bandwidth
    return torch.exp(-torch.cdist(rows, rows).square() / (2 * sigma**2))


def matrix_entropy(kernel: Tensor, alpha: float) -> Tensor:
    r"""Rényi entropy in nats of the eigenvalues of a kernel matrix over its trace."""
    values = torch.linalg.eigvalsh(kernel / kernel.trace()).clamp(min=0)
    return values.pow(alpha).sum().log() / (1 - alpha)


def _information(k: Tensor, l: Tensor, alpha: float, base: float, used: int) -> Estimate:  # noqa: E741
    h_k, h_l, h_kl = (matrix_entropy(each, alpha) for each in (k, l, k * l))
    value = (h_k + h_l - h_kl) / math.log(base)
    saturation = (h_kl / math.log(used)).clamp(0, 1)
    method = f"matrix-based Rényi (alpha {alpha:g}, {used} samples)"
    return make_estimate(value, std_error=math.nan, num_samples=used, saturation=saturation, method=method)


@zero_of_constants(_OWNER)
def renyi_pair(
    x: Tensor, y: Tensor, *, base: float = 2, alpha: float = 1.01, bandwidth: Any = "median", max_samples: int = 1000
) -> Estimate:
    r"""Matrix-based Rényi mutual information of two sets of samples.

    .. math:: I_\alpha = S_\alpha(A) + S_\alpha(B) - S_\alpha(A \circ B / \operatorname{tr} A \circ B), \qquad
        S_\alpha(A) = \frac{1}{1 - \alpha} \log \sum_i \lambda_i(A)^\alpha

    with A, B Gaussian kernel matrices of trace 1. It estimates no density, and is not Shannon's: it depends on the
    kernel width and on the number of samples. Compare values of one width and one n only.

    Args:
        x: Samples, shape ``(n, ...)``.
        y: Samples, shape ``(n, ...)``.
        base: Base of the logarithm; 2 gives bits.
        alpha: Order, near 1 for Shannon-like values.
        bandwidth: Kernel width: a number, or ``"median"`` for the median distance of each side.
        max_samples: Evenly spaced samples that are used at most; eigenvalues cost :math:`n^3`.

    Returns:
        The value, a scalar in float64; its standard error is not known (NaN). ``saturation`` is the joint entropy over
        :math:`\log n`.

    Raises:
        ValueError: If samples are not finite or differ in number, or an option is out of range.

    Sources: Sánchez Giraldo, Rao & Príncipe 2015 (arXiv 1211.2459); Yu et al. 2020 (arXiv 1804.06537).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import mutual_information
        >>> x = torch.linspace(-1, 1, 100)
        >>> bool(mutual_information(x, x, estimator="renyi").value > 1)
        True
    """
    check_base(_OWNER, base)
    check_renyi(alpha, bandwidth, max_samples)
    x_rows, y_rows = as_rows(_OWNER, "x", x), as_rows(_OWNER, "y", y)
    check_same_length(_OWNER, "x", x_rows, "y", y_rows)
    step = -(-x_rows.shape[0] // max_samples)
    x_rows, y_rows = x_rows[::step], y_rows[::step]
    return _information(_kernel(x_rows, bandwidth), _kernel(y_rows, bandwidth), alpha, base, x_rows.shape[0])


@zero_of_constants(_OWNER)
def renyi_label(
    activations: Tensor,
    labels: Tensor,
    *,
    base: float = 2,
    alpha: float = 1.01,
    bandwidth: Any = "median",
    max_samples: int = 1000,
) -> Estimate:
    """I(T;Y) as renyi_pair, with a kernel of the labels that is 1 for equal ones and 0 otherwise."""
    check_base(_OWNER, base)
    check_renyi(alpha, bandwidth, max_samples)
    rows = as_rows(_OWNER, "activations", activations)
    numbers = as_labels(_OWNER, "labels", labels, rows.shape[0])[0]
    step = -(-rows.shape[0] // max_samples)
    rows, numbers = rows[::step], numbers[::step]
    equal = (numbers.unsqueeze(1) == numbers).double()
    return _information(_kernel(rows, bandwidth), equal, alpha, base, rows.shape[0])
