from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lightning_foresight.functional import label_information
from lightning_foresight.functional.mutual_information._lost_information import least_information, most_information

Z = 1.959964
NOTHING = torch.tensor(0.0, dtype=torch.float64)


def test_ends_are_the_roots_of_a_variance_that_grows_with_the_mean_loss() -> None:
    generator = np.random.default_rng(0)
    surprisals = generator.choice([math.log(4), math.log(4 / 3)], 200)
    losses = generator.exponential(0.2, 200) * (generator.random(200) < 0.3)
    terms = surprisals - losses
    lost, squares, other = 0.0, 200 * min(np.var(losses), np.var(terms)), 0.0
    for loss in losses:
        lost += loss
        other += (math.log(200) if loss == 0 else min(math.log(200), -math.log(1 - math.exp(-loss)))) / 200
    arguments = torch.from_numpy(terms), torch.from_numpy(surprisals), torch.tensor(0.02)
    middle = terms.mean() + (np.mean(np.exp(terms)) - 1) / 400
    per_gain = min(2, (np.var(terms) - 0.04) / terms.mean())
    for end, per_loss in (
        (least_information(*arguments).item(), (squares + other**2) / (lost + other)),
        (most_information(*arguments).item(), squares / lost),
    ):
        # More information, less of the losses; the other half of the gains is the skewness of their distribution.
        variance = np.var(terms) + (per_gain / 2 - per_loss) * (end - middle)
        assert (end - middle) ** 2 == pytest.approx(Z**2 * variance / 200, rel=1e-6)


@pytest.mark.parametrize("n", [100, 1000])
def test_layer_that_loses_nothing_leaves_room_for_one_rare_loss(n: int) -> None:
    surprisals = torch.full((n,), math.log(2), dtype=torch.float64)
    unbiased = math.log(2) + 1 / (2 * n)
    assert most_information(surprisals, surprisals, NOTHING).item() == pytest.approx(unbiased)
    # Up to Z^2 = 3.84 losses of log n; none is seen of 3.7 in 2.5% of samples.
    expected = unbiased - Z**2 * math.log(n) / n
    assert least_information(surprisals, surprisals, NOTHING).item() == pytest.approx(expected, rel=1e-6)


def test_ends_know_that_information_is_low_with_many_labels() -> None:
    generator, missed = torch.Generator().manual_seed(0), 0
    for _ in range(200):
        labels = torch.randint(0, 10, (300,), generator=generator)
        surprisals = (300 / torch.bincount(labels).double()).log()[labels]
        missed += most_information(surprisals, surprisals, NOTHING).item() < math.log(10)
    assert missed <= 10  # 95%; without what their entropy is too low by, 9 / 600, it misses in a quarter of the sets


def test_ends_of_what_is_as_large_as_none_reads_are_the_normal_ones() -> None:
    surprisals = torch.full((1000,), math.log(2), dtype=torch.float64)
    terms = 0.1 * torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    reach = Z * terms.std(correction=0).item() / math.sqrt(1000)
    ends = (end(terms, surprisals, terms.var(correction=0) / 2) for end in (least_information, most_information))
    least, most = (end.item() for end in ends)
    assert least == pytest.approx(terms.mean().item() - reach, abs=0.1 * reach)
    assert most == pytest.approx(terms.mean().item() + reach, abs=0.01 * reach)


@pytest.mark.parametrize("apart", [2.0, 4.0, 6.0])
def test_ends_cover_the_loss_of_two_normal_classes_and_miss_it_at_times(apart: float) -> None:
    """Log odds of unit normals: N(d^2 / 2, d^2), whose losses are few and skewed where the classes are far apart."""
    grid = np.linspace(-10, 10, 20_001)
    density = np.exp(-(grid**2) / 2)
    truth = math.log(2) - np.average(np.log1p(np.exp(-(apart**2 / 2 + apart * grid))), weights=density)
    generator, missed = torch.Generator().manual_seed(0), [0, 0]
    surprisals = torch.full((300,), math.log(2), dtype=torch.float64)
    for _ in range(1000):
        odds = apart**2 / 2 + apart * torch.randn(300, generator=generator, dtype=torch.float64)
        terms = surprisals - torch.nn.functional.softplus(-odds)
        missed[0] += least_information(terms, surprisals, NOTHING).item() > truth
        missed[1] += most_information(terms, surprisals, NOTHING).item() < truth
    # Three standard deviations about 5% on both sides, 2.5% on one. Normal ends miss at 6 in half of the sets, all of
    # them below; with as much room for a loss that was not seen they hold in all.
    assert 5 <= sum(missed) <= 70
    assert missed[1] >= 5
    assert missed[0] <= 45


def test_interval_holds_no_information_in_as_many_sets_as_it_claims() -> None:
    generator, above = torch.Generator().manual_seed(0), 0
    for seed in range(1000):
        layer, labels = torch.randn(100, generator=generator), torch.randint(0, 2, (100,), generator=generator)
        low, high = label_information(layer, labels, estimator="noisy", noise_std=1.0, seed=seed).interval()
        assert 0 <= low.item() <= high.item()
        above += low.item() > 0
    assert 10 <= above <= 40  # 2.5%, and three standard deviations about it; the normal end is above in 1%
