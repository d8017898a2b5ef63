from __future__ import annotations

import math

import pytest
import torch

from lightning_foresight.functional import (
    input_information,
    label_information,
    layer_pair_information,
    plane_information,
)
from lightning_foresight.functional.mutual_information._label_entropy import standard_error
from lightning_foresight.functional.mutual_information.noisy import bracket
from tests.reference.information import TishbyPlane


def test_noisy_value_of_the_tanh_net_lies_between_the_bounds() -> None:
    plane = TishbyPlane()
    labels = torch.from_numpy(plane.labels)
    upper, lower = plane.reference("kde64_up"), plane.reference("kde64_lo")
    for layer, activations in enumerate(plane.activations(20)):
        rows = torch.from_numpy(activations)
        i_xt, i_ty = plane_information(rows, labels, estimator="noisy", noise_std=1e-3**0.5)
        slack = 3 * i_xt.std_error.item()
        assert lower[20, layer, 0] - slack <= i_xt.value.item() <= upper[20, layer, 0] + slack
        assert -1e-6 <= i_ty.value.item() <= 0.99916 + 1e-3


def test_two_points_with_noise_carry_the_information_of_a_gaussian_channel() -> None:
    # Antipodal signals at +-1 with noise of standard deviation 1: C = 1 - E log2(1 + exp(-2 (1 + N))), N ~ N(0, 1).
    noise = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    density = torch.exp(-(noise**2) / 2)
    truth = 1 - float((density * torch.log2(1 + torch.exp(-2 * (1 + noise)))).sum() / density.sum())
    labels = torch.arange(2000) % 2
    rows = (2.0 * labels - 1).unsqueeze(1)
    for estimate in plane_information(rows, labels, estimator="noisy", noise_std=1.0, num_draws=5):
        assert estimate.value.item() == pytest.approx(truth, abs=4 * max(estimate.std_error.item(), 0.005))


def test_more_noise_leaves_less() -> None:
    rows = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    values = [input_information(rows, estimator="noisy", relative_noise=r).value.item() for r in (0.01, 0.1, 1.0)]
    assert values[0] > values[1] > values[2] > 0


def test_subsample_reads_low_and_its_bracket_holds_the_whole() -> None:
    rows = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    whole = input_information(rows, estimator="noisy", noise_std=0.05).value.item()
    part = input_information(rows[:200], estimator="noisy", noise_std=0.05)
    assert part.value.item() < whole
    assert part.lower.item() <= whole <= part.upper.item()


def test_relative_noise_makes_the_unit_irrelevant() -> None:
    rows = torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one = input_information(rows, estimator="noisy").value.item()
    assert one == pytest.approx(input_information(1000 * rows + 5, estimator="noisy").value.item(), abs=1e-6)


def test_same_seed_gives_the_same_value_and_leaves_the_global_generator_alone() -> None:
    rows = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    first = input_information(rows, estimator="noisy", seed=3).value
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.rand(1) == drawn
    assert first == input_information(rows, estimator="noisy", seed=3).value
    assert first != input_information(rows, estimator="noisy", seed=4).value


def test_constant_layer_holds_nothing() -> None:
    assert input_information(torch.ones(50, 3), estimator="noisy").value.item() == pytest.approx(0.0, abs=1e-6)


def test_bad_options_are_named_with_what_would_do() -> None:
    rows = torch.randn(10, 2)
    with pytest.raises(ValueError, match=r"noisy\(noise_std=-1\): expected a positive number"):
        input_information(rows, estimator="noisy", noise_std=-1)
    with pytest.raises(ValueError, match=r"noisy\(noise_std='fitted'\): expected a positive number"):
        input_information(rows, estimator="noisy", noise_std="fitted")
    with pytest.raises(ValueError, match=r"noisy\(num_draws=0\): expected an integer of at least 1"):
        label_information(rows, torch.arange(10) % 2, estimator="noisy", num_draws=0)
    assert math.isfinite(input_information(rows, estimator="noisy").value.item())


def test_a_diverging_layer_is_measured_as_long_as_it_is_finite() -> None:
    rows = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(64) % 2
    small, large = (
        (*plane_information(scale * rows, labels, estimator="noisy"), layer_pair_information(scale * rows, rows))
        for scale in (1, 1e25)  # whose square is beyond float32
    )
    for one, other in zip(small, large, strict=True):
        assert one.value.item() == pytest.approx(other.value.item(), abs=1e-4)


def test_interval_of_labels_stays_within_what_is_known() -> None:
    labels = torch.arange(30) % 3
    told = label_information(labels.float().unsqueeze(1), labels, estimator="noisy", noise_std=0.3)
    untold = label_information((torch.arange(30) // 3).float().unsqueeze(1), labels, estimator="noisy", noise_std=0.3)
    for estimate in (told, untold):
        low, high = estimate.interval()
        assert 0 <= low.item() <= high.item() <= math.log2(3) + 1e-6


def _normal_classes(seed: int, gap: float, width: int = 1, n: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    """Two even classes of unit normals whose first columns are ``gap`` apart."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (n,), generator=generator)
    rows = torch.randn(n, width, generator=generator)
    rows[:, 0] += gap * (labels - 0.5)
    return rows, labels


# In nats by quadrature: I(X;T+N) and I(T+N;Y) of classes 2 and 6 apart, noise 0.3.
@pytest.mark.parametrize(("gap", "about_input", "about_label"), [(2.0, 1.5648, 0.3177), (6.0, 1.9345, 0.6874)])
def test_intervals_hold_the_information_of_the_population(gap: float, about_input: float, about_label: float) -> None:
    inside = [0, 0]
    for seed in range(50):
        plane = plane_information(
            *_normal_classes(seed, gap), estimator="noisy", base=math.e, noise_std=0.3, seed=100 + seed
        )
        for index, (estimate, truth) in enumerate(zip(plane, (about_input, about_label), strict=True)):
            low, high = estimate.interval()
            inside[index] += int(low <= truth <= high)
    # 95% of 50, and three standard deviations below. Brackets without an error of their own held in 5, in 30 sets.
    assert min(inside) >= 43


def test_half_of_what_both_values_differ_by_may_be_one_and_a_third_standard_errors() -> None:
    terms = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for errors, expected in ((1.29, False), (-1.29, False), (1.31, True), (-1.31, True)):
        left_out = terms + 2 * errors * standard_error(terms)
        low, high, biased = bracket(terms, left_out)
        assert biased is expected
        ends = (terms, left_out) if biased else ((terms + left_out) / 2,) * 2
        assert low.equal(ends[0])
        assert high.equal(ends[1])


def test_samples_that_hardly_overlap_make_values_bounds_that_claim_nothing() -> None:
    rows, labels = _normal_classes(0, 0.0, width=8)  # the labels are random: I(T;Y) of the population is 0
    about_input, about_label = plane_information(rows, labels, estimator="noisy", noise_std=0.05)
    assert (about_input.kind, about_label.kind) == ("lower_bound", "upper_bound")
    assert about_label.value.item() > 0.99
    assert [end.item() for end in about_label.interval()] == pytest.approx([0.0, 1.0], abs=1e-6)
    alone = plane_information(rows, labels.index_fill(0, torch.tensor([0]), 2), estimator="noisy", noise_std=1.0)[1]
    assert 0 <= alone.lower.item() < alone.value.item()  # a class of one sample has no others
    few, many = (
        plane_information(*_normal_classes(0, 2.0, n=n), estimator="noisy", noise_std=1.0)[1] for n in (100, 1000)
    )
    assert (few.kind, many.kind) == ("estimate", "estimate")


@pytest.mark.parametrize("columns", [50, 500])
def test_the_upper_end_of_samples_that_do_not_overlap_is_a_bound_and_no_floor_of_rounding(columns: int) -> None:
    # 216 and 2,162 bits; 300 samples show 8.2 at most.
    rows = torch.randn(300, columns, generator=torch.Generator().manual_seed(0))
    estimate = input_information(rows, estimator="noisy", noise_std=0.05)
    assert estimate.kind == "lower_bound"
    assert estimate.interval()[1] > columns / 2 * math.log2(1 + 400)
    # Of 300 others the nearest one counts most.
    distances = torch.cdist(rows.double(), rows.double()).fill_diagonal_(math.inf).amin(1)
    expected = (distances.square().mean() / (2 * 0.05**2) + math.log(299)) / math.log(2)
    assert estimate.interval()[1].item() == pytest.approx(expected.item(), rel=0.02)
