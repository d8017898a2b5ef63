"""Information between two layers that see the same inputs, at a declared noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from lightning_foresight.functional import (
    Estimate,
    cka,
    distance_correlation,
    hsic,
    input_information,
    layer_pair_information,
    mutual_information,
    nhsic,
)


def _layers(n=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(n, 3, generator=generator)
    return first, torch.tanh(2 * first[:, :2])


def _by_monte_carlo(first, second, std, draws=20):
    """The definition in float64: the log of the joint density of both noisy layers over the product of their own."""
    first, second = first.double(), second.double()
    generator = torch.Generator().manual_seed(1)
    total = 0.0
    for _ in range(draws):
        noisy = [t + std * torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in (first, second)]
        logs = [-((z[:, None] - t) ** 2).sum(2) / (2 * std**2) for z, t in zip(noisy, (first, second))]
        joint, alone = torch.logsumexp(logs[0] + logs[1], 1), [torch.logsumexp(each, 1) for each in logs]
        total += float((joint - alone[0] - alone[1]).mean() + math.log(len(first)))
    return total / draws / math.log(2)


@pytest.mark.parametrize("std", [0.1, 0.3, 1.0])
def test_it_is_the_definition_by_monte_carlo(std):
    first, second = _layers()
    estimate = layer_pair_information(first, second, estimator="noisy", noise_std=std, num_draws=20)
    # Terms spread by 1.5 bits: the mean of 20 x 200 by 0.024, here and there.
    assert float(estimate.value) == pytest.approx(_by_monte_carlo(first, second, std), abs=0.1)


def test_no_layer_says_more_of_another_than_of_the_input():
    first, second = _layers()
    for std in (0.05, 0.2, 1.0):
        options = {"estimator": "noisy", "noise_std": std, "num_draws": 10}
        between = layer_pair_information(first, second, **options)
        alone = [float(input_information(layer, **options).value) for layer in (first, second)]
        assert float(between.value) <= min(alone) + 0.05
        both = input_information(torch.cat([first, second], 1), **options)
        assert float(between.value) == pytest.approx(sum(alone) - float(both.value), abs=0.15)
        swapped = layer_pair_information(second, first, **options)
        assert float(between.value) == pytest.approx(float(swapped.value), abs=0.15)


def test_relative_noise_is_that_of_each_layer():
    first, second = _layers()
    plain = layer_pair_information(first, second, estimator="noisy", relative_noise=0.2)
    scaled = layer_pair_information(100 * first + 5, 0.01 * second, estimator="noisy", relative_noise=0.2)
    assert float(plain.value) == pytest.approx(float(scaled.value), abs=1e-2)
    auto = layer_pair_information(first, second)
    assert auto.method.startswith("auto: noisy")
    own = layer_pair_information(first, second, estimator="noisy", relative_noise=0.05)
    assert float(auto.value) == pytest.approx(float(own.value))


@pytest.mark.parametrize("std", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("bound", ["upper", "lower"])
def test_bounds_by_distances_hold_the_definition(std, bound):
    first, second = _layers()
    estimate = layer_pair_information(first, second, estimator="kde", noise_variance=std**2, bound=bound)
    low, high = estimate.interval()
    # Terms spread by 1.5 bits: the mean of 20 x 200 by 0.024.
    assert float(low) - 0.1 < _by_monte_carlo(first, second, std) < float(high) + 0.1
    assert float(low) <= float(estimate.value) <= float(high)
    alone = [input_information(layer, estimator="kde", noise_variance=std**2) for layer in (first, second)]
    assert float(high) <= min(float(each.value) for each in alone) + 1e-6


def test_bounds_are_those_of_each_layer_and_of_both():
    first, second = _layers()
    between = layer_pair_information(first, second, estimator="kde", noise_variance=0.04)
    options = {"estimator": "kde", "noise_variance": 0.04}
    one, two = (float(input_information(layer, **options).value) for layer in (first, second))
    both = float(input_information(torch.cat([first, second], 1), **options).value)
    # Widths in float32 units of the noise: rounding, 1e-4 bits as everywhere.
    assert float(between.value) == pytest.approx(one + two - both, abs=1e-4)
    assert math.isnan(float(between.std_error))


def test_fitted_noise_is_that_of_each_layer():
    first, second = _layers()
    plain = layer_pair_information(first, second, estimator="kde", noise_variance="fitted")
    scaled = layer_pair_information(100 * first + 5, 0.01 * second, estimator="kde", noise_variance="fitted")
    assert float(plain.value) == pytest.approx(float(scaled.value), abs=1e-2)
    assert plain.method == "kde (both layers, upper, fitted noise)"


def test_a_constant_layer_says_nothing():
    first, _ = _layers()
    assert float(layer_pair_information(first, torch.ones(200, 2)).value) == pytest.approx(0, abs=0.02)


def test_other_estimators_compare_the_samples():
    first, second = _layers()
    own = layer_pair_information(first, second, estimator="binned", bins=4)
    assert float(own.value) == float(mutual_information(first, second, estimator="binned", bins=4).value)


def test_mistakes_are_named():
    first, second = _layers()
    with pytest.raises(ValueError, match=r"layer_pair_information\(first, second\): got 200 and 199 samples"):
        layer_pair_information(first, second[1:])
    with pytest.raises(ValueError, match=r"layer_pair_information\(estimator='probe'\): cannot answer this question"):
        layer_pair_information(first, second, estimator="probe")
    with pytest.raises(ValueError, match=r"layer_pair_information\(bins\): estimator 'noisy' has no such option"):
        layer_pair_information(first, second, estimator="noisy", bins=3)


def test_value_is_not_valid_for_all_inputs_where_those_given_hardly_overlap() -> None:
    # Normal layers that determine each other: -1/2 log(1 - rho^2) a column with rho = 1 / (1 + noise^2).
    def estimate(width: int, noise: float) -> Estimate:
        rows = torch.randn(300, width, generator=torch.Generator().manual_seed(0))
        return layer_pair_information(rows, -rows, estimator="noisy", noise_std=noise)

    assert estimate(1, 0.3).kind == "estimate"
    apart = estimate(5, 0.1)  # 14.2 bits, of which 300 samples can show log2 300 = 8.2
    assert apart.kind == "not_valid"
    assert apart.value.item() < 8.23


@pytest.mark.parametrize("measure", [cka, hsic, nhsic, distance_correlation])
def test_measures_of_dependence_compare_layers_by_name(measure: Callable[..., Estimate]) -> None:
    first, second = _layers()
    by_name = layer_pair_information(first, second, estimator=measure.__name__)
    assert by_name.value == measure(first, second).value
    assert by_name.method == measure(first, second).method


def test_the_bracket_of_layers_that_hardly_overlap_holds_the_truth() -> None:
    # Normal columns and sums of them, each with noise as large as the layer: the value is 0.63 bits for 0.38.
    columns, n = 16, 300
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(columns, 2, generator=generator) / 4
    covariance = weights.T @ weights
    noisy = covariance + covariance.diag().mean() * torch.eye(2)
    given_first = noisy - covariance / 2
    truth = 0.5 * (torch.logdet(noisy) - torch.logdet(given_first)) / math.log(2)
    for _ in range(3):
        rows = torch.randn(n, columns, generator=generator)
        estimate = layer_pair_information(rows, rows @ weights, estimator="noisy", relative_noise=1.0)
        lower, upper = estimate.interval()
        assert estimate.kind == "not_valid"
        assert lower < truth < estimate.value < upper
