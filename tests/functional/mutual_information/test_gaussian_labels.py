from __future__ import annotations

import math

import pytest
import torch

from lightning_foresight.functional import label_information
from lightning_foresight.metrics import MutualInformation


def two_classes(distance: float, units: int, seed: int = 0, n: int = 1000) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (n,), generator=generator)
    rows = torch.randn(n, units, generator=generator, dtype=torch.float64)
    return rows + distance * (2 * labels - 1).unsqueeze(1), labels


def truth(distance: float, units: int) -> float:
    """H(Y) - H(Y|T) of two normal classes whose means lie twice the distance apart in every unit, by quadrature."""
    separation = distance * units**0.5
    t = torch.linspace(-12, 12, 20_001, dtype=torch.float64) + separation
    density = torch.exp(-((t - separation) ** 2) / 2) / math.sqrt(2 * math.pi)
    lost = torch.nn.functional.softplus(-2 * separation * t) / math.log(2)
    return 1 - float(torch.trapezoid(density * lost, t))


@pytest.mark.parametrize(("distance", "units"), [(0.5, 1), (0.3, 10), (0.2, 5)])
def test_classes_that_overlap_are_found_on_average(distance: float, units: int) -> None:
    found = [
        label_information(*two_classes(distance, units, seed), estimator="gaussian_copula").value for seed in range(20)
    ]
    # Twenty data sets spread by 0.02 to 0.03 bits each; ranks of two classes are not quite Gaussian.
    assert torch.stack(found).mean().item() == pytest.approx(truth(distance, units), abs=0.025)


def test_independent_labels_read_nothing_on_average() -> None:
    found = [label_information(*two_classes(0, 8, seed, 200), estimator="gaussian_copula").value for seed in range(20)]
    # Without the correction it would be 0.16 bits: 44 moments more, over twice 200 samples.
    assert torch.stack(found).mean().abs() < 0.02


def test_value_follows_neither_units_of_measurement_nor_names_of_classes_and_ends_at_their_entropy() -> None:
    rows, labels = two_classes(0.7, 3)
    value = label_information(rows, labels, estimator="gaussian_copula").value
    moved = label_information((3 * rows).exp(), 7 - 4 * labels, estimator="gaussian_copula").value
    assert moved.item() == pytest.approx(value.item(), abs=1e-9)
    # Units that are constant within a class know it, and dead ones change nothing.
    decided = torch.stack([labels.double(), 0 * labels.double()], 1)
    share = labels.double().mean()
    entropy = float(-(torch.xlogy(share, share) + torch.xlogy(1 - share, 1 - share)) / math.log(2))
    assert label_information(decided, labels, estimator="gaussian_copula").value.item() == pytest.approx(entropy)


def test_no_interval_is_claimed_and_the_metric_takes_labels_by_name() -> None:
    rows, labels = two_classes(0.7, 3)
    labels[:300] += 2  # four classes, in no order
    estimate = label_information(rows, labels, estimator="gaussian_copula")
    assert math.isnan(estimate.std_error)
    assert estimate.method == "Gaussian copula, by class"
    metric = MutualInformation("gaussian_copula")
    metric.update(rows, labels)
    assert metric.compute().value == estimate.value


def test_classes_of_fewer_samples_than_units_are_refused_with_what_to_do() -> None:
    rows, labels = two_classes(0.7, 12, n=20)
    with pytest.raises(ValueError, match=r"got a class of \d+ samples of 12 units; .*'ksg' or 'sliced'"):
        label_information(rows, labels, estimator="gaussian_copula")
