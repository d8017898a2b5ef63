"""Mutual information as a torchmetrics metric."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from lightning_foresight.functional._checks import check_base
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.mutual_information import (
    ESTIMATORS,
    check_has_unit,
    find_estimator,
    label_information,
    mutual_information,
)
from lightning_foresight.metrics.dependence import DependenceMetric


class MutualInformation(DependenceMetric):
    """Mutual information between two sets of samples, or between samples and integer labels, by the estimator's name.

    Samples are kept until ``compute``: memory grows with them.

    Args:
        estimator: A name in :data:`~lightning_foresight.functional.ESTIMATORS` that compares two sets of samples, or
            samples with labels; those that can only do the latter (``"kde"``, ``"noisy"``, ``"probe"``) need integer
            labels as the second argument of ``update``.
        base: Base of the logarithm; 2 gives bits.
        options: The estimator's own options, such as ``{"bins": 30}``.
        kwargs: Passed on to :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If the estimator or an option is not known, or its values have no unit (``"hsic"``, ``"cka"``: use
            the metrics :class:`~lightning_foresight.metrics.HSIC` and :class:`~lightning_foresight.metrics.CKA`).

    Example:
        >>> import torch
        >>> from lightning_foresight.metrics import MutualInformation
        >>> metric = MutualInformation(estimator="binned", options={"bins": 2})
        >>> metric.update(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1]))
        >>> metric.update(torch.tensor([[0.1], [0.9]]), torch.tensor([0, 1]))
        >>> metric.compute().value.item()
        1.0
    """

    takes_classes = True

    def __init__(
        self, estimator: str = "auto", *, base: float = 2, options: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_base("MutualInformation", base)
        only_labels = estimator in ESTIMATORS and ESTIMATORS[estimator].pair is None
        find_estimator("MutualInformation", estimator, "label" if only_labels else "pair", options)
        check_has_unit("MutualInformation", estimator)
        self.estimator = estimator
        self.base = base
        self.unit = {2: "bits", math.e: "nats"}.get(base, f"units of log {base:g}")
        self.options = dict(options or {})

    def dependence(self, a: Tensor, b: Tensor) -> Estimate:
        """Estimate by the chosen estimator; integer ``b`` of shape (n,) are labels where it takes them."""
        labels = b.ndim == 1 and not b.is_floating_point()
        if ESTIMATORS[self.estimator].label is not None and (labels or ESTIMATORS[self.estimator].pair is None):
            return label_information(a, b, estimator=self.estimator, base=self.base, **self.options)
        return mutual_information(a, b, estimator=self.estimator, base=self.base, **self.options)
