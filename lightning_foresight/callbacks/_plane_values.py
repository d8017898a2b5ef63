"""From the activations of one layer to its values: I(X;T), I(T;Y), the null, and what neighbouring layers share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from lightning_foresight.callbacks._plane_critics import CriticStore
from lightning_foresight.callbacks._plane_samples import PlaneSamples
from lightning_foresight.callbacks._plane_trial import as_second_argument
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.mutual_information import (
    ESTIMATORS,
    data_processing_gap,
    input_information,
    label_information,
    layer_pair_information,
    plane_information,
)
from lightning_foresight.functional.mutual_information.neural import OBJECTIVES
from lightning_foresight.metrics.dependence import DependenceMetric

# These ask how many inputs a layer keeps apart; all others compare the inputs themselves with the activations.
WITHOUT_INPUTS = ("auto", "binned", "kde", "noisy")


class PlaneValues:
    """What is asked of each layer, by one estimator.

    Args:
        estimator: A name, or a metric.
        options: Options of a named one.
        null: Ask about shuffled labels, too.
        seed: Seed of what the estimator draws, and of critics; the options may name another one for the former.
    """

    def __init__(self, estimator: str | DependenceMetric, options: dict[str, Any], *, null: bool, seed: int) -> None:
        self.estimator = estimator
        self.options = options
        self.null = null
        draws = isinstance(estimator, str) and "seed" in ESTIMATORS[estimator].options
        self._seeded = {"seed": seed} | options if draws else options
        trains = isinstance(estimator, str) and estimator in OBJECTIVES and "critic" not in options
        self.critics = CriticStore(options.get("hidden", 128), seed) if trains else None

    @property
    def compares_inputs(self) -> bool:
        """Whether the inputs themselves are needed."""
        return isinstance(self.estimator, DependenceMetric) or self.estimator not in WITHOUT_INPUTS

    @property
    def unit(self) -> str:
        """Unit of the values; empty where they have none."""
        if isinstance(self.estimator, DependenceMetric):
            return self.estimator.unit
        return ESTIMATORS[self.estimator].unit

    @property
    def title(self) -> str:
        """The estimator and its numbers: values change with the resolution, so a picture says which one it was."""
        if not isinstance(self.estimator, str):
            return type(self.estimator).__name__
        if self.estimator == "auto":
            return _title_of_auto(self.options)
        shown = {name: len(value) if isinstance(value, list) else value for name, value in self.options.items()}
        options = ", ".join(f"{name}={value:.3g}" for name, value in shown.items() if isinstance(value, int | float))
        return f"{self.estimator} ({options})" if options else self.estimator

    @property
    def input_title(self) -> str:
        """The same of questions without labels, about the inputs and between layers: auto looks for no neighbours."""
        auto = isinstance(self.estimator, str) and self.estimator == "auto"
        return f"auto: {_noise_in_words(self.options)}" if auto else self.title

    @property
    def input_interval(self) -> str:
        """What the ends of I(X;T) are, where they are no 95% interval."""
        if self.estimator in ("auto", "noisy", "probe"):
            return "I(X;T) of the population"
        return "both bounds of I(X;T)" if self.estimator == "kde" else ""

    def of_layer(
        self, layer: str, activation: Tensor, samples: PlaneSamples, inputs: Tensor | None
    ) -> dict[str, Estimate | Tensor]:
        """Return the values of one layer by the last segment of their keys."""
        measured: dict[str, Estimate | Tensor] = {}
        about_input = None
        for suffix, labels in samples.labels.items():
            # Critics are one to a question, all others may answer both at once.
            if about_input is None and self.critics is None and not isinstance(self.estimator, DependenceMetric):
                about_input, about_label = plane_information(
                    activation, labels, inputs=inputs, estimator=self.estimator, **self._seeded
                )
            else:
                about_label = self._about_label(f"{layer}/I_TY{suffix}", activation, labels)
            measured[f"I_TY{suffix}"] = about_label
            if self.null:
                null = f"{layer}/I_TY{suffix}_null"
                found = self._about_label(null, activation, labels[samples.shuffle])
                # A number to compare with, not an estimate of anything: it has no interval of its own.
                unknown = torch.full_like(found.value, math.nan)
                measured[f"I_TY{suffix}_null"] = found._replace(std_error=unknown, lower=None, upper=None)
        if isinstance(self.estimator, DependenceMetric):
            assert inputs is not None
            return measured | {"I_XT": _as_estimate(self.estimator.dependence(inputs, activation), len(inputs))}
        if about_input is None:
            options = self._options(f"{layer}/I_XT")
            about_input = input_information(activation, inputs=inputs, estimator=self.estimator, **options)
        return measured | {"I_XT": about_input, "saturation": about_input.saturation}

    def between_layers(
        self, activations: Mapping[str, Tensor], measured: Mapping[Any, Any]
    ) -> dict[str, Estimate | Tensor]:
        """Return what each layer shares with the next, and the largest rise of I(X;T) among what was measured."""
        between: dict[str, Estimate | Tensor] = {}
        for (layer, first), (_, second) in pairwise(activations.items()):
            key = f"{layer}/I_TT"
            if isinstance(self.estimator, DependenceMetric):
                between[key] = _as_estimate(self.estimator.dependence(first, second), len(first))
            else:
                between[key] = layer_pair_information(first, second, estimator=self.estimator, **self._options(key))
        about_input = torch.stack([measured[f"{layer}/I_XT"].value for layer in activations])
        return between | {"data_processing_gap": data_processing_gap(about_input)}

    def _options(self, question: str) -> dict[str, Any]:
        return self._seeded | ({} if self.critics is None else {"critic": self.critics.source(question)})

    def _about_label(self, question: str, activation: Tensor, labels: Tensor) -> Estimate:
        if isinstance(self.estimator, DependenceMetric):
            labels = as_second_argument(self.estimator, labels, like=activation)
            return _as_estimate(self.estimator.dependence(activation, labels), len(activation))
        return label_information(activation, labels, estimator=self.estimator, **self._options(question))


def _title_of_auto(options: Mapping[str, Any]) -> str:
    """What auto picks for the two questions about a layer."""
    return f"auto: {_noise_in_words(options)}, Ross kNN (k={options.get('k', 3)})"


def _noise_in_words(options: Mapping[str, Any]) -> str:
    std = options.get("noise_std")
    return f"noise {100 * options.get('relative_noise', 0.05):.3g}%" if std is None else f"noise {std:.3g}"


def _as_estimate(value: Estimate | Tensor, num_samples: int) -> Estimate:
    if isinstance(value, Estimate):
        return value
    return make_estimate(value, std_error=float("nan"), num_samples=num_samples)
