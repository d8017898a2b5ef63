"""The base of metrics that compare two sets of samples, for measures of one's own."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from lightning_foresight.functional._checks import check_same_length, check_samples, data, takes
from lightning_foresight.functional._repr import ShowsArguments
from lightning_foresight.functional.estimate import Estimate


class DependenceMetric(ShowsArguments, Metric):
    """Base of measures of how two sets of samples depend on each other: write :meth:`dependence`, the rest is here.

    Samples are collected over batches and ranks, and compared as a whole by ``compute``. An instance can be passed to
    :class:`~lightning_foresight.InfoPlaneCallback` as its estimator.

    Args:
        kwargs: Passed on to :class:`torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> from lightning_foresight.metrics import DependenceMetric
        >>> class LargestCorrelation(DependenceMetric):
        ...     def dependence(self, a, b):
        ...         a, b = a - a.mean(0), b - b.mean(0)
        ...         return ((a.T @ b).abs() / (a.norm(dim=0)[:, None] * b.norm(dim=0))).max()
        >>> metric = LargestCorrelation()
        >>> metric.update(torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [4.0]]))
        >>> metric.update(torch.tensor([[3.0]]), torch.tensor([[6.0]]))
        >>> round(float(metric.compute()), 4)
        1.0
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False
    # Whether `dependence` knows what to do with class numbers; otherwise a callback turns labels into one-hot rows.
    takes_classes: ClassVar[bool] = False
    # Unit of the value, for figures; a measure that is no information has none.
    unit: str = ""
    a: list[Tensor]
    b: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("a", default=[], dist_reduce_fx="cat")
        self.add_state("b", default=[], dist_reduce_fx="cat")

    def dependence(self, a: Tensor, b: Tensor) -> Estimate | Tensor:
        """Compare two sets of samples.

        Args:
            a: Samples (n, features); integer labels come as (n,).
            b: Likewise, row i beside row i of ``a``.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no dependence(a, b); expected a method that returns an Estimate or a tensor."
        )

    @takes(a=data, b=data)
    def update(self, a: Tensor, b: Tensor) -> None:
        """Add a batch of samples.

        Args:
            a: Shape (n, ...), flattened behind the first axis.
            b: Shape (n, ...), row i beside row i of ``a``.

        Raises:
            ValueError: If the two have different lengths.
        """
        check_samples(type(self).__name__, "a", a, minimum=1)
        check_samples(type(self).__name__, "b", b, minimum=1)
        check_same_length(type(self).__name__, "a", a, "b", b)
        self.a.append(a.flatten(1) if a.ndim > 1 else a)
        self.b.append(b.flatten(1) if b.ndim > 1 else b)

    def compute(self) -> Estimate | Tensor:
        """Compare everything that was added.

        Raises:
            ValueError: If that is nothing.
        """
        if isinstance(self.a, list) and not self.a:
            raise ValueError(f"{type(self).__name__}.compute(): there are no samples yet; call update(a, b) first.")
        return self.dependence(dim_zero_cat(self.a), dim_zero_cat(self.b))
