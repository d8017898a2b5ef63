"""The Hilbert-Schmidt independence criterion and what is made of it: CKA, nHSIC, distance correlation."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lightning_foresight.functional._checks import data, fail, takes
from lightning_foresight.functional.dependence._measured import measure_kernels, prepare_kernels
from lightning_foresight.functional.estimate import Estimate, make_estimate


@takes(x=data, y=data)
def hsic(
    x: Tensor,
    y: Tensor,
    *,
    kernel: str = "gaussian",
    bandwidth: Any = "median",
    unbiased: bool = True,
    std_error: bool = True,
) -> Estimate:
    r"""Hilbert-Schmidt independence criterion, in memory linear in the number of samples.

    .. math:: \mathrm{HSIC} = \frac{\operatorname{tr} K H L H}{(n-1)^2}, \qquad
        k(a, b) = e^{-\|a - b\|^2 / 2 \sigma^2}, \qquad H = 1 - \tfrac1n \mathbf 1 \mathbf 1^\top

    The biased value is above zero for independent samples, by about as much as weak dependence adds (at 96 samples
    0.0063 for noise, 0.0066 for a layer); the unbiased one (Song et al. 2012) is zero on average. Other conventions:
    multiply the biased value by n - 1 for PyGlow's, by :math:`(n-1)^2/n^2` for the HSIC bottleneck's code. It has no
    unit and depends on the kernel: compare values of one kernel only.

    Args:
        x: Samples, shape ``(n, ...)``, at least 4; one column of integers is taken as classes.
        y: Samples, shape ``(n, ...)``, likewise.
        kernel: ``"gaussian"``, ``"linear"`` or ``"distance"`` (:math:`-\|a - b\|`, of distance covariance).
        bandwidth: :math:`\sigma` of the Gaussian: a number, ``"median"`` (the median distance between samples), or a
            pair of these for x and y.
        unbiased: Whether to use the unbiased estimate; it can be below zero.
        std_error: Whether to estimate the standard error, a second pass over the pairs. It is valid under dependence;
            for independent samples it is not: see :func:`independence_test`. The 95% interval, below 0 only where the
            value is, knows the bias of the biased form and the first three moments of its spread, and holds there too.

    Returns:
        The estimate, a scalar in float64 through which gradients flow. Its interval is a
        ``"lower_bound"`` where labels of fewer than 30 samples make a tenth of their entropy.

    Raises:
        ValueError: If samples are fewer than 4, not finite or of different number, or an option is not known.

    Sources: Gretton et al. 2005; Song et al. 2012; Gretton et al. 2007 for the spread of independent samples; Imhof
    1961 for its chi-square of three moments.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import hsic
        >>> x = torch.linspace(-1, 1, 200).unsqueeze(1)
        >>> estimate = hsic(x, x**2, bandwidth=0.5)
        >>> round(estimate.value.item(), 4)
        0.0282
    """
    measured = measure_kernels("hsic", x, y, kernel, bandwidth, unbiased, False, std_error)
    method = f"{'unbiased' if unbiased else 'biased'} HSIC ({kernel})"
    return make_estimate(**measured._asdict(), num_samples=x.shape[0], method=method)


@takes(x=data, y=data)
def cka(
    x: Tensor,
    y: Tensor,
    *,
    kernel: str = "linear",
    bandwidth: Any = "median",
    unbiased: bool = True,
    std_error: bool = True,
) -> Estimate:
    r"""Centred kernel alignment, a similarity of representations between 0 and 1.

    .. math:: \mathrm{CKA} = \frac{\mathrm{HSIC}(x, y)}{\sqrt{\mathrm{HSIC}(x, x)\, \mathrm{HSIC}(y, y)}}

    The linear one does not change under rotations and a common scale of either side. The biased value nears 1 for any
    two wide layers on few samples; the unbiased one does not.

    Args:
        x: Samples, shape ``(n, ...)``, at least 4; one column of integers is taken as classes.
        y: Samples, shape ``(n, ...)``, likewise.
        kernel: ``"linear"``, ``"gaussian"`` or ``"distance"``.
        bandwidth: As in :func:`hsic`.
        unbiased: Whether to use the unbiased estimates of HSIC; the value can be below zero.
        std_error: Whether to estimate the standard error by the delta method, a second pass over the pairs.

    Returns:
        The estimate, a scalar in float64 through which gradients flow: 0 of constant samples. Where a side's own
        unbiased HSIC is lost in rounding, as of labels that each occur once, the unbiased value is NaN and ``kind`` is
        ``"not_valid"``.

    Raises:
        ValueError: As :func:`hsic`.

    Sources: Cortes et al. 2012 (arXiv 1203.0550); Kornblith et al. 2019 (arXiv 1905.00414).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import cka
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> round(cka(x, -2 * x.flip(1)).value.item(), 6)
        1.0
    """
    measured = measure_kernels("cka", x, y, kernel, bandwidth, unbiased, True, std_error)
    method = f"{'unbiased' if unbiased else 'biased'} CKA ({kernel})"
    return make_estimate(**measured._asdict(), num_samples=x.shape[0], method=method)


@takes(x=data, y=data)
def distance_correlation(x: Tensor, y: Tensor, *, unbiased: bool = False, std_error: bool = True) -> Estimate:
    r"""Distance correlation: 0 only for independent variables, 1 only for linear images of each other.

    .. math:: \mathrm{dCor}^2 = \frac{\mathrm{dCov}^2(x, y)}{\sqrt{\mathrm{dVar}^2(x)\, \mathrm{dVar}^2(y)}}, \qquad
        \mathrm{dCov}^2 = \tfrac{1}{n^2} \operatorname{tr} (D_x H D_y H)

    Args:
        x: Samples, shape ``(n, ...)``, at least 4; one column of integers is taken as classes.
        y: Samples, shape ``(n, ...)``, likewise.
        unbiased: Return the bias-corrected :math:`\mathrm{dCor}^2` (a square, which can be below zero) in place of
            :math:`\mathrm{dCor}`.
        std_error: Whether to estimate the standard error by the delta method, a second pass over the pairs.

    Returns:
        The estimate, a scalar in float64 through which gradients flow, with the limits of :func:`cka`.

    Raises:
        ValueError: As :func:`hsic`.

    Sources: Székely, Rizzo & Bakirov 2007 (arXiv 0803.4101); Székely & Rizzo 2013.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import distance_correlation
        >>> x = torch.linspace(-1, 1, 200).unsqueeze(1)
        >>> round(distance_correlation(x, x**2).value.item(), 3)
        0.491
    """
    measured = measure_kernels("distance_correlation", x, y, "distance", 1.0, unbiased, True, std_error)
    value, error, lower, upper, kind = measured
    if not unbiased:
        # The root of 1 in place of that of 0, whose gradient is infinite.
        value = torch.where(value > 0, value, 1.0).sqrt() * (value > 0)
        lower, upper = lower.clamp(min=0).sqrt(), upper.clamp(min=0).sqrt()
        error = error / (2 * value.detach()).clamp(min=1e-12)
    method = "unbiased squared distance correlation" if unbiased else "distance correlation"
    return make_estimate(
        value, std_error=error, num_samples=x.shape[0], lower=lower, upper=upper, kind=kind, method=method
    )


@takes(x=data, y=data)
def nhsic(
    x: Tensor, y: Tensor, *, kernel: str = "gaussian", bandwidth: Any = "median", ridge: float = 1e-5
) -> Estimate:
    r"""Normalised HSIC of the HSIC bottleneck: the Hilbert-Schmidt norm of the cross-correlation operator.

    .. math:: \mathrm{nHSIC} = \operatorname{tr} R_x R_y, \qquad R = \bar K (\bar K + \epsilon n 1)^{-1},
        \qquad \bar K = H K H

    It depends on the kernel less than HSIC, and is not bounded by 1. The authors' code scales :math:`\sigma` by the
    root of the dimension; pass ``bandwidth=(sigma * d_x**0.5, sigma * d_y**0.5)`` for its values. Needs matrices of
    ``n * n`` and time of order :math:`n^3`.

    Args:
        x: Samples, shape ``(n, ...)``, at least 4; one column of integers is taken as classes.
        y: Samples, shape ``(n, ...)``, likewise.
        kernel: As in :func:`hsic`.
        bandwidth: As in :func:`hsic`.
        ridge: :math:`\epsilon`.

    Returns:
        The estimate, a scalar in float64 through which gradients flow; its standard error is not known (NaN).

    Raises:
        ValueError: As :func:`hsic`, or if ``ridge`` is not positive.

    Sources: Fukumizu et al. 2007; Ma, Lewis & Kleijn 2020 (arXiv 1908.01580).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import nhsic
        >>> x = torch.linspace(-1, 1, 50).unsqueeze(1)
        >>> bool(nhsic(x, x**2).value > nhsic(x, x.flip(0) ** 2 + x).value)
        False
    """
    if not 0 < ridge < math.inf:
        fail("nhsic", "ridge", ridge, "expected a positive number.")
    x_rows, y_rows, kernel_x, kernel_y = prepare_kernels("nhsic", x, y, kernel, bandwidth)
    n = x_rows.shape[0]

    def operator(rows: Tensor, of: Any) -> Tensor:
        k = of(rows, rows).double()
        k = k - k.mean(0) - k.mean(1, keepdim=True) + k.mean()
        return torch.linalg.solve(k + ridge * n * torch.eye(n, dtype=k.dtype, device=k.device), k)

    value = (operator(x_rows, kernel_x) * operator(y_rows, kernel_y).T).sum()
    return make_estimate(value, std_error=math.nan, num_samples=n, method=f"nHSIC ({kernel}, ridge {ridge:g})")
