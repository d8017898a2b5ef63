"""Effective information, as cases for two devices: a name, what measures, and what it gets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import lightning_foresight.functional as F
from lightning_foresight import metrics
from lightning_foresight.functional.effective_information.causal import has_exact_method

COARSE: dict[str, Any] = {"in_range": (0, 1), "in_bins": 8, "out_bins": 8}
# Inputs of a layer that looks at their shape.
SHAPED: dict[str, Any] = {**COARSE, "in_shape": (3,), "out_range": (-2, 2)}
FEW: dict[str, Any] = {"num_samples": 512}
IMAGE = (2, 4, 4)


class Twice(nn.Module):
    """What no rule knows: it has to be asked, in double, for which noise is drawn alike on all devices."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.5, -0.2, 0.3], [0.1, 0.4, -0.6]]).double())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T * 2 + torch.sin(3 * x[:, :2])


def cases() -> Iterator[tuple[Any, ...]]:
    """Yield a case for every measure and every kind of layer that has a rule of its own."""
    torch.manual_seed(0)
    layer, small, sampled = nn.Linear(8, 6), nn.Linear(3, 3), Twice()
    yield from _exact(layer, small)
    yield from _layers()
    yield from _sampled(sampled)
    yield from _vectors(small, sampled)
    yield from _weights()
    yield from _metrics(small)


def _exact(layer: nn.Module, small: nn.Module) -> Iterator[tuple[Any, ...]]:
    for activation in (nn.Sigmoid(), nn.ReLU(), nn.GELU(), None):
        yield f"exact EI with {activation}", partial(_pairs, activation=activation, **COARSE), layer
    yield "exact EI of few inputs", partial(F.ei_parts, activation=nn.Tanh(), **COARSE), small
    chosen = partial(F.causal_measures, activation=nn.Tanh(), max_pairs=20, **COARSE)
    yield "EI of chosen pairs", chosen, layer
    yield "EI of chosen pairs of a wide layer", chosen, nn.Linear(40, 6)
    yield "EI of chosen pairs, seeded", _seeded, layer
    yield "EI of one wide and many narrow weights", partial(F.ei_parts, **COARSE), _uneven(24)
    sparse = nn.Linear(6, 4)
    with torch.no_grad():
        sparse.weight[torch.arange(24).view(4, 6) % 3 > 0] = 0
    yield "EI of a sparse layer", partial(F.causal_measures, **COARSE), sparse
    for activation in (nn.Tanh(), nn.GELU(), nn.Softmax(dim=1)):
        measure = partial(_pairs, activation=activation, num_samples=512, **{**COARSE, "out_range": "dynamic"})
        yield f"EI within the range of {activation}", measure, nn.Linear(3, 3).double()
    yield "EI in bins as wide as those of the inputs", partial(F.ei_parts, **{**COARSE, "out_bins": "dynamic"}), small


def _layers() -> Iterator[tuple[Any, ...]]:
    measure = partial(_pairs, activation=nn.Tanh(), **COARSE)
    yield "EI of a convolution", measure, nn.Conv2d(2, 3, 2, groups=1)
    yield "EI of a transposed convolution", measure, nn.ConvTranspose2d(2, 4, 3, stride=2, groups=2)
    yield "EI of a pooling window", partial(_without_weights, nn.AvgPool2d(2), **COARSE), torch.zeros(1)
    yield "EI of an embedding", partial(F.causal_measures, in_range=None, out_bins=8, vector=True), nn.Embedding(12, 3)
    chain = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 3)).eval()
    yield "EI of an affine chain", partial(_pairs, **SHAPED), chain
    images = {**SHAPED, "in_shape": (1, 4, 4)}
    yield "EI of a pool of images", partial(_without_weights, nn.AvgPool2d(2), **images), torch.zeros(1)
    yield (
        "EI of what has no weights",
        partial(_without_weights, nn.Softmax(1), num_samples=512, **SHAPED),
        torch.zeros(1),
    )
    yield "what can be measured exactly", _asked, chain


def _sampled(sampled: nn.Module) -> Iterator[tuple[Any, ...]]:
    whole = {**SHAPED, "out_range": (-9, 9)}
    yield "sampled EI", partial(_pairs, method="sampled", **FEW, **COARSE), nn.Linear(3, 3).double()
    yield "sampled EI, none outside", partial(F.ei_parts, **FEW, **whole), sampled
    yield "sampled EI, some outside", partial(_pairs, **FEW, **SHAPED), sampled
    yield "sampled EI, few outside", partial(F.ei_parts, **{**SHAPED, "out_range": (-1, 1)}, **FEW), sampled
    yield "sampled EI of many samples", partial(F.ei_parts, num_samples=8192, **whole), sampled
    yield "sampled EI, seeded", _seeded_samples, nn.Linear(3, 3)
    yield "sampled EI to a tolerance", partial(F.ei_parts, num_samples=512, rtol=0.5, **SHAPED), sampled
    yield "sampled EI, extrapolated", partial(F.ei_parts, extrapolate=True, **FEW, **SHAPED), sampled
    yield "sampled EI of some outputs", partial(F.causal_measures, max_pairs=6, **FEW, **SHAPED), _Wide()
    yield (
        "sampled EI of a layer in training",
        partial(_pairs, **FEW, **SHAPED),
        nn.Sequential(Twice(), nn.BatchNorm1d(2), nn.Dropout()).double(),
    )
    yield "sampled EI within its range", partial(F.ei_parts, **FEW, **{**SHAPED, "out_range": "dynamic"}), sampled


def _vectors(small: nn.Module, sampled: nn.Module) -> Iterator[tuple[Any, ...]]:
    yield "vector EI", partial(F.effective_information, activation=nn.Tanh(), **COARSE, **FEW), small
    yield "vector EI to a tolerance", partial(F.effective_information, rtol=0.2, **COARSE, **FEW), nn.Linear(1, 1)
    wide = partial(F.effective_information, **{**COARSE, "in_shape": (30,)}, **FEW)
    yield "vector EI, between bounds", wide, nn.Sequential(nn.Linear(30, 20), nn.Tanh())
    groups = [([0], [0, 1]), ([1, 2], [0])]
    yield "EI between groups", partial(_groups, groups=groups, activation=nn.Tanh(), **COARSE, **FEW), small
    tokens = partial(_groups, groups=[([0], [0, 2])], in_range=None, out_bins=8)
    yield "EI between groups of an embedding", tokens, nn.Embedding(12, 3)
    yield "all measures of what is sampled", partial(F.causal_measures, vector=True, **FEW, **SHAPED), sampled
    yield "all measures of what is exact", partial(F.causal_measures, vector=True, **FEW, **COARSE), small


def _weights() -> Iterator[tuple[Any, ...]]:
    images = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, stride=2, groups=2),
        nn.AvgPool2d(2, 1),
        nn.ConvTranspose2d(4, 2, 2),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 3),
    )
    for norm in ("lin", "soft", "sig"):
        yield (
            f"EI of weights, {norm}",
            partial(F.weight_effective_information, norm=norm),
            images,
            torch.ones(1, *IMAGE),
        )
    texts = nn.Sequential(nn.Embedding(9, 4), nn.TransformerEncoderLayer(4, 2, 8, batch_first=True))
    yield "EI of a transformer's weights", F.weight_effective_information, texts, torch.arange(5)[None]
    recurrent = nn.RNN(3, 4, batch_first=True)
    yield "EI of a recurrent layer's weights", F.weight_effective_information, recurrent, torch.ones(1, 5, 3)
    for name, module, shapes in (
        ("Conv2d", images[0], (IMAGE, (4, 2, 2))),
        ("Embedding", texts[0], ((2,), (2, 4))),
    ):
        yield f"connectivity of {name}", partial(F.connectivity_matrix, in_shape=shapes[0], out_shape=shapes[1]), module
    for norm in (F.lin_norm, F.soft_norm, F.sig_norm):
        yield norm.__name__, norm, torch.eye(3)


def _metrics(small: nn.Module) -> Iterator[tuple[Any, ...]]:
    ranges = {"in_range": (0, 1), "out_range": (-1, 1), "in_bins": 4, "out_bins": 4}
    for reduction in ("sum", "none"):
        metric = metrics.EffectiveInformation(3, 3, reduction=reduction, **ranges)
        yield f"metric of EI, {reduction}", _answered, metric, small, torch.linspace(0, 1, 600).view(-1, 3)
    metric = metrics.WeightEffectiveInformation(per_layer=True)
    yield (
        "metric of the weights' EI",
        _watched,
        metric,
        nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)),
        torch.ones(1, 3),
    )


def _pairs(layer: nn.Module, activation: nn.Module | None = None, **options: Any) -> Any:
    return F.ei_parts(layer, activation, **options), F.sensitivity(layer, activation, **options)


def _groups(layer: nn.Module, **options: Any) -> Any:
    return F.ei_between_groups(layer, **options)


def _seeded(layer: nn.Module) -> Any:
    # A generator of the host's may choose for a layer of the device's.
    return F.causal_measures(layer, max_pairs=20, generator=torch.Generator().manual_seed(1), **COARSE)


def _seeded_samples(layer: nn.Module) -> Any:
    options = {"activation": nn.Tanh(), "generator": torch.Generator().manual_seed(1), **FEW, **COARSE}
    return F.ei_parts(layer, method="sampled", **options), F.effective_information(layer, **options)


def _without_weights(layer: nn.Module, like: Tensor, **options: Any) -> Any:
    torch.set_default_dtype(torch.float64)
    try:
        return _pairs(layer, generator=torch.Generator(like.device).manual_seed(0), **options)
    finally:
        torch.set_default_dtype(torch.float32)


def _asked(layer: nn.Module) -> Any:
    assert has_exact_method(layer, None, (3,))
    return F.effective_information(layer, num_samples=256, **SHAPED)


def _answered(metric: metrics.EffectiveInformation, layer: nn.Module, noise: Tensor) -> Any:
    metric.update(noise, layer(noise).detach())
    return metric.compute()


def _watched(metric: metrics.WeightEffectiveInformation, model: nn.Module, example: Tensor) -> Any:
    metric.update(model, example)
    calls = F.trace_weight_layers(model, lambda: model(example))
    metric.update(calls)
    return metric.compute()


def _uneven(inputs: int) -> nn.Module:
    layer = nn.Linear(inputs, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(1e-4, 2e-4, 2 * inputs).view(2, -1))
        layer.weight[:, 0] = 3
    return layer


class _Wide(Twice):
    """One with more outputs than are looked at."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).repeat(1, 3)
