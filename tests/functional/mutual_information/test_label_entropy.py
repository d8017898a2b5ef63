from __future__ import annotations

import math

import pytest
import torch

from lightning_foresight.functional import Estimate, label_information, mutual_information
from lightning_foresight.functional._rare_labels import has_rare_labels
from lightning_foresight.functional.mutual_information._label_entropy import label_entropy_end


def test_end_is_the_plug_in_entropy_with_its_bias_and_error_and_never_beyond_all_even_labels() -> None:
    p, n = 0.1, 20_000
    h = -p * math.log(p) - (1 - p) * math.log(1 - p)
    variance = p * math.log(p) ** 2 + (1 - p) * math.log(1 - p) ** 2 - h**2
    expected = h + 1 / (2 * n) + 1.959964 * math.sqrt(variance / n + 1 / (2 * n**2))
    # Far from even labels it is the normal one, but for the skewness of a noncentral chi-square.
    skewness = 1.959964**2 / (2 * n)
    assert label_entropy_end(torch.tensor([2000, 0, 18_000])).item() == pytest.approx(expected - skewness, abs=1 / n)
    assert label_entropy_end(torch.tensor([101, 99, 100, 0])).item() == pytest.approx(math.log(3))
    share = 3 / 7  # of a label that was not seen
    assert label_entropy_end(torch.tensor([7])).item() == pytest.approx(
        -share * math.log(share) - (1 - share) * math.log(1 - share)
    )


def _of_bins(labels: torch.Tensor) -> Estimate:
    return label_information(labels.unsqueeze(1), labels, estimator="binned")


def _of_neighbours(labels: torch.Tensor) -> Estimate:
    return label_information(labels.float().unsqueeze(1), labels)


def _of_counts(labels: torch.Tensor) -> Estimate:
    return mutual_information(labels, labels)


def _of_overlaps(labels: torch.Tensor) -> Estimate:
    return label_information(labels.float().unsqueeze(1), labels, estimator="kde")


def _of_noise(labels: torch.Tensor) -> Estimate:
    return label_information(labels.float().unsqueeze(1), labels, estimator="noisy", noise_std=0.01)


@pytest.mark.parametrize("measure", [_of_bins, _of_neighbours, _of_counts, _of_overlaps, _of_noise])
@pytest.mark.parametrize("p", [0.5, 0.25, 0.15])  # 60 samples of the rarest, nearly never fewer than 30
def test_interval_covers_the_entropy_of_the_population_where_the_layer_decides_the_label(measure, p: float) -> None:
    generator = torch.Generator().manual_seed(0)
    truth = -p * math.log2(p) - (1 - p) * math.log2(1 - p)
    inside = 0
    for _ in range(100):
        estimate = measure((torch.rand(400, generator=generator) < p).long())
        low, high = estimate.interval()
        assert estimate.kind == ("bracket" if measure is _of_overlaps else "estimate")
        assert estimate.value.item() <= 1 + 1e-9
        assert high.item() <= 1 + 1e-9
        inside += int(low <= truth + 1e-9 and truth <= high + 1e-9)
    assert inside >= 88  # three standard deviations below 95


def test_counts_tell_no_more_than_their_values_and_never_without_an_error() -> None:
    bits = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]).repeat(50, 1)
    estimate = mutual_information(bits, bits[:, 0] ^ bits[:, 1])
    assert estimate.value.item() == pytest.approx(1.0, abs=1e-12)
    # All terms are equal; what is left is the spread of even labels' entropy, that of chi-square over 2n.
    assert estimate.std_error.item() == pytest.approx(math.sqrt(1 / 2) / 200 / math.log(2))
    low, high = estimate.interval()
    assert 0.98 < low.item() < 1.0
    assert high.item() == pytest.approx(1.0, abs=1e-12)


def test_values_that_few_samples_have_seen_do_not_limit_a_correction() -> None:
    # 300 samples of 1,000 even values have seen about 260: log2 of that is 2 bits below the truth.
    values = torch.randint(0, 1000, (300,), generator=torch.Generator().manual_seed(0))
    estimate = mutual_information(values, values)
    assert estimate.kind == "not_valid"
    assert estimate.value.item() == pytest.approx(math.log2(1000), abs=0.5)


def test_few_samples_of_what_makes_the_entropy_allow_no_interval() -> None:
    assert has_rare_labels(torch.tensor([990, 10]))
    assert has_rare_labels(torch.tensor([981, 19]))
    assert not has_rare_labels(torch.tensor([980, 20]))
    assert has_rare_labels(torch.full((10,), 15))
    assert not has_rare_labels(torch.tensor([400, 300, 200, 95, 5]))  # 5 of 1,000 make 2% of H(Y)
    assert has_rare_labels(torch.tensor([500, 460, 19, 19]))  # 18%
    assert not has_rare_labels(torch.tensor([1000]))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.97, 1.0])  # of samples that tell their label
def test_interval_of_counts_lies_within_nothing_and_the_end_of_what_labels_have(share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        labels, noise = torch.randint(0, 4, (2, 64), generator=generator)
        layer = torch.where(torch.rand(64, generator=generator) < share, labels, noise)
        estimate = label_information(layer.unsqueeze(1), labels, estimator="binned")
        lower, upper = estimate.interval()
        most = label_entropy_end(torch.bincount(labels), skewed=True).item() / math.log(2)
        assert 0 <= lower <= estimate.value <= upper <= most + 1e-12


@pytest.mark.parametrize(
    ("estimator", "kind"), [("ksg", "lower_bound"), ("noisy", "lower_bound"), ("binned", "not_valid")]
)
def test_rare_labels_claim_no_interval(estimator: str, kind: str) -> None:
    options = {"ksg": {}, "noisy": {"noise_std": 1.0}, "binned": {"edges": [-1.0, 0.0, 1.0]}}[estimator]
    enough = 30 if estimator == "binned" else 20
    for rare, expected in ((10, kind), (enough - 1, kind), (enough, "estimate")):
        labels = (torch.arange(1000) < rare).long()
        layer = torch.randn(1000, generator=torch.Generator().manual_seed(0)) + labels
        assert label_information(layer, labels, estimator=estimator, **options).kind == expected


def test_a_layer_that_says_nothing_lies_below_the_interval_of_neighbours_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    sets, missed = 1000, 0
    for _ in range(sets):
        labels = (torch.rand(200, generator=generator) < 0.3).long()
        missed += int(label_information(torch.randn(200, 1, generator=generator), labels).interval()[0] > 0)
    # At 2.5% three standard deviations are 1.5%; with Wilson's allowance, which is for losses that are few, .7%.
    assert 0.012 < missed / sets < 0.04


def test_many_neighbours_among_many_classes_are_known_to_read_high() -> None:
    """Ten unit normal classes 1.5 apart: of 8 neighbours the value is 0.06 nats too high, 1.6 times its spread."""
    generator = torch.Generator().manual_seed(0)
    sets, inside, truth = 150, 0, 1.3977  # nats, by quadrature
    for _ in range(sets):
        labels = torch.randint(0, 10, (400,), generator=generator)
        layer = 1.5 * labels + torch.randn(400, generator=generator)
        low, high = label_information(layer.unsqueeze(1), labels, k=8, base=math.e).interval()
        inside += int(low <= truth <= high)
    # With an allowance that does not grow with the neighbours, about 80%.
    assert inside >= 0.9 * sets
