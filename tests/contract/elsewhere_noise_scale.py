"""Gradient noise outside of a run, as cases for two devices: a name, what measures, and what it gets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import lightning_foresight.functional as F
from lightning_foresight import metrics
from lightning_foresight.callbacks import GradientNoiseScaleCallback
from lightning_foresight.functional.effective_information.parts import ei_parts
from lightning_foresight.functional.gradient_noise.calibration import calibrated_moments, calibration_sums
from lightning_foresight.probes import probe_noise_scale
from lightning_foresight.probes.positions import shape_of_one_input
from lightning_foresight.probes.samples import fixed_batches
from lightning_foresight.probes.span import LayerSpan
from tests.contract.cases import TinyModel

N = 32
LOSS = nn.functional.cross_entropy


class Texts(nn.Module):
    """Embeddings, some of them tied, convolutions and normalisation: what squared norms have rules for."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4, padding_idx=0)
        self.conv = nn.Conv1d(4, 4, 2, groups=2)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 5)
        self.head.weight = self.table.weight

    def _apply(self, *args: Any, **kwargs: Any) -> nn.Module:
        super()._apply(*args, **kwargs)
        self.head.weight = self.table.weight  # this device's parameters are new ones
        return self

    def forward(self, tokens: Tensor) -> Tensor:
        found = self.conv((self.table(tokens) + self.table(tokens.flip(1))).mT).mT
        return self.head(self.norm(found)).mean(1)


def cases() -> Iterator[tuple[Any, ...]]:
    """Yield a case for every measure, on a plain network and on one of texts."""
    torch.manual_seed(0)
    x = torch.randn(N, 4)
    labels = (x[:, 0] > 0).long()
    tokens = (x.repeat(1, 2) * 2).long().clamp(-2, 2) + 2
    plain, texts = _network(), Texts()
    for name, network, inputs in (("a network", plain, x), ("texts", texts, tokens)):
        for method in ("ghost", "func"):
            yield f"norms of {name}, {method}", partial(_norms, method=method), network, inputs, labels
        yield f"exact noise scale of {name}", _exact, network, inputs, labels
    for method in ("double_backward", "finite_difference"):
        yield f"curvature, {method}", partial(_curvature, method=method), _network().double(), x.double(), labels
    yield "noise scale with Adam", _adam, nn.Linear(4, 3), metrics.AdamNoiseScale(decay=0.9), x, labels
    yield "noise scale of batches", _probed, plain, x, labels
    yield "noise scale of a model's batches", _probed_model, TinyModel(4), x, labels
    norms = torch.tensor([3.0, 3.3, 2.9]), torch.tensor([1.5, 1.7, 1.6])
    yield "noise scale of norms", partial(F.noise_scale_from_norms, batch_small=8, batch_big=32), *norms
    yield "noise moments", partial(F.noise_moments, batch_small=8, batch_big=32), *norms
    yield "interval of a ratio", _interval, norms[0]
    for groups in (None, 2):
        metric = metrics.GradientNoiseScale(decay=0.9, num_groups=groups)
        yield f"metric of the noise scale, groups {groups}", partial(_computed, groups=groups), metric, *norms
    yield (
        "metric of the host's norms",
        partial(_computed_of, small=norms[0], big=norms[1]),
        metrics.GradientNoiseScale(),
    )
    part = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 12.0], [1.0, 1.5, 1.0, 2.0, 1.0, 1.0]])
    yield "calibration", _calibrated, part
    yield "chosen samples", _chosen, x, labels
    yield "the shape of one position", _position, nn.LayerNorm(4), torch.ones(2, 5, 4)
    yield "a span of layers", _span, _network().double(), x.double()


def _network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def _norms(network: nn.Module, inputs: Tensor, labels: Tensor, method: str) -> Any:
    return F.per_example_sq_norms(network, LOSS, inputs, labels, method=method)


def _exact(network: nn.Module, inputs: Tensor, labels: Tensor) -> Any:
    return F.exact_noise_scale(network, LOSS, inputs, labels, chunk_size=20)


def _curvature(network: nn.Module, x: Tensor, labels: Tensor, method: str) -> Any:
    return F.hessian_noise_scale(network, LOSS, x, labels, num_blocks=4, method=method)


def _adam(network: nn.Module, metric: metrics.AdamNoiseScale, x: Tensor, labels: Tensor) -> Any:
    parameters = list(network.parameters())
    optimizer = torch.optim.Adam(parameters)
    for _ in range(3):
        losses = [LOSS(network(a), b) for a, b in zip(x.split(N // 2), labels.split(N // 2), strict=True)]
        gradients = [torch.autograd.grad(loss, parameters) for loss in losses]
        metric.update(gradients, N // 2, F.adam_preconditioner(optimizer, parameters))
        for parameter, first, second in zip(parameters, *gradients, strict=True):
            parameter.grad = (first + second) / 2
        optimizer.step()
    scales = F.adam_preconditioner(optimizer, parameters)
    exact = F.exact_noise_scale(network, LOSS, x, labels, preconditioner=scales)
    return metric.compute(), exact, _probed(network, x, labels, preconditioner=scales)


def _probed(network: nn.Module, x: Tensor, labels: Tensor, **options: Any) -> Any:
    batches = list(zip(x.split(4), labels.split(4), strict=True))
    return probe_noise_scale(network, LOSS, batches, num_folds=4, rtol=1e9, **options)


def _probed_model(model: TinyModel, x: Tensor, labels: Tensor) -> Any:
    batches = list(zip(x.split(4), labels.split(4), strict=True))
    return GradientNoiseScaleCallback().probe(model, batches, rtol=1e9)


def _interval(ratios: Tensor) -> Any:
    variances = ratios / 10
    return F.fieller_interval(ratios, ratios + 1, variances, variances, variances / 2, torch.full_like(ratios, 7))


def _computed(metric: metrics.GradientNoiseScale, small: Tensor, big: Tensor, groups: int | None) -> Any:
    if groups:
        small, big = (norms.unsqueeze(1).repeat(1, groups) for norms in (small, big))
    metric.update(small, big, batch_small=8, batch_big=32)
    return metric.compute()


def _computed_of(metric: metrics.GradientNoiseScale, small: Tensor, big: Tensor) -> Any:
    return _computed(metric, small, big, None)


def _calibrated(part: Tensor) -> Any:
    whole = 3 * part.unsqueeze(2)
    whole[:, 5] = torch.nan
    return calibrated_moments(calibration_sums(part, whole, 0.9))


def _chosen(x: Tensor, labels: Tensor) -> Any:
    return fixed_batches((x, labels), 10, seed=0), fixed_batches(x, 10, seed=0)


def _position(module: nn.Module, source: Tensor) -> Any:
    return source.new_tensor(shape_of_one_input(module, None, source))


def _span(network: nn.Module, x: Tensor) -> Any:
    span = LayerSpan(network, "1", "2", x)
    return ei_parts(span, in_range=(-1, 1), out_range=(-2, 2), in_bins=4, out_bins=4, in_shape=(5,), num_samples=256)
