"""Compares samples that two CPU processes hold half each: what each rank reads. Run by ``two_ranks``."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import MetricCollection

from lightning_foresight.metrics import CKA, HSIC, DependenceMetric, MutualInformation


class DistanceCorrelation(DependenceMetric):
    """The measure of one's own of the examples."""

    def dependence(self, a: Tensor, b: Tensor) -> Tensor:
        distances = (torch.cdist(rows, rows) for rows in (a, b))
        a, b = (d - d.mean(0) - d.mean(1, keepdim=True) + d.mean() for d in distances)
        return ((a * b).mean() / ((a * a).mean() * (b * b).mean()).sqrt()).sqrt()


def measures() -> MetricCollection:
    return MetricCollection(
        {
            "own": DistanceCorrelation(),
            "hsic": HSIC(),
            "cka": CKA(),
            "mi": MutualInformation("ksg"),
        }
    )


def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(60, 3, generator=generator)
    return a, a[:, :1].abs() + 0.3 * torch.randn(60, 1, generator=generator)


def values(metrics: MetricCollection) -> dict[str, float]:
    return {name: float(getattr(value, "value", value)) for name, value in metrics.compute().items()}


def results(folder: str) -> dict[str, float]:
    metrics = measures()
    a, b = samples()
    # Unequal shares in several batches: 24 rows here, 36 there.
    share = slice(0, 24) if dist.get_rank() == 0 else slice(24, 60)
    for first, second in zip(a[share].split(10), b[share].split(10), strict=True):
        metrics.update(first, second)
    return values(metrics)
