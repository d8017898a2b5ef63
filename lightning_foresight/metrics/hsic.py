"""Kernel dependence and similarity of representations as torchmetrics metrics."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lightning_foresight.functional import dependence
from lightning_foresight.functional.dependence.kernels import check_kernel
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.metrics.dependence import DependenceMetric


class HSIC(DependenceMetric):
    """Hilbert-Schmidt independence criterion of two sets of samples; see :func:`~lightning_foresight.functional.hsic`.

    Args:
        kernel: ``"gaussian"``, ``"linear"`` or ``"distance"``.
        bandwidth: Width of the Gaussian: a number, ``"median"``, or a pair of these for both sides.
        unbiased: Whether to use the unbiased estimate.
        kwargs: Passed on to :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If the kernel or the bandwidth is not known.

    Example:
        >>> import torch
        >>> from lightning_foresight.metrics import HSIC
        >>> metric = HSIC(kernel="linear", unbiased=False)
        >>> x = torch.tensor([[-1.0], [0.0], [1.0], [2.0]])
        >>> metric.update(x, -x)
        >>> round(metric.compute().value.item(), 4)
        2.7778
    """

    def __init__(
        self, *, kernel: str = "gaussian", bandwidth: Any = "median", unbiased: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_kernel(type(self).__name__, kernel, bandwidth)
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.unbiased = unbiased

    def dependence(self, a: Tensor, b: Tensor) -> Estimate:
        """Compare two sets of samples; integer ``b`` of shape (n,) are classes."""
        return dependence.hsic(a, b, kernel=self.kernel, bandwidth=self.bandwidth, unbiased=self.unbiased)


class CKA(HSIC):
    """Centred kernel alignment of two sets of samples; see :func:`~lightning_foresight.functional.cka`.

    Args:
        kernel: ``"linear"``, ``"gaussian"`` or ``"distance"``.
        bandwidth: Width of the Gaussian: a number, ``"median"``, or a pair of these for both sides.
        unbiased: Whether to use the unbiased estimates of HSIC.
        kwargs: Passed on to :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If the kernel or the bandwidth is not known.

    Example:
        >>> import torch
        >>> from lightning_foresight.metrics import CKA
        >>> metric = CKA()
        >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
        >>> metric.update(x, 3 * x.flip(1))
        >>> round(metric.compute().value.item(), 4)
        1.0
    """

    def __init__(
        self, *, kernel: str = "linear", bandwidth: Any = "median", unbiased: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(kernel=kernel, bandwidth=bandwidth, unbiased=unbiased, **kwargs)

    def dependence(self, a: Tensor, b: Tensor) -> Estimate:
        """Compare two sets of samples; integer ``b`` of shape (n,) are classes."""
        return dependence.cka(a, b, kernel=self.kernel, bandwidth=self.bandwidth, unbiased=self.unbiased)
