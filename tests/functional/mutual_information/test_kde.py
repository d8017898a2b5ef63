from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from lightning_foresight.functional import input_information, plane_information
from lightning_foresight.functional.mutual_information import _pairs
from lightning_foresight.functional.mutual_information._fitted_noise import fitted_variance
from tests.reference.information import TishbyPlane, kde_plane, leave_one_out_log_likelihood

SCALES = {"upper": 2, "lower": 8}


def clustered_layer(seed: int, n: int = 200, units: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (n,), generator=generator)
    centres = torch.randn(4, units, generator=generator, dtype=torch.float64)
    return centres[labels] * 0.3 + 0.05 * torch.randn(n, units, generator=generator, dtype=torch.float64), labels


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
@pytest.mark.parametrize(("bound", "name"), [("upper", "kde64_up"), ("lower", "kde64_lo")])
def test_plane_of_the_tanh_net_equals_the_published_code(
    bound: str, name: str, dtype: torch.dtype, tolerance: float
) -> None:
    plane = TishbyPlane()
    labels = torch.from_numpy(plane.labels)
    for snapshot in (0, 13, 20):
        for layer, activations in enumerate(plane.activations(snapshot)):
            rows = torch.from_numpy(activations).to(dtype)
            estimates = plane_information(rows, labels, estimator="kde", bound=bound)
            expected = plane.reference(name)[snapshot, layer]
            assert [e.value.item() for e in estimates] == pytest.approx(expected.tolist(), abs=tolerance)


@pytest.mark.parametrize("bound", ["upper", "lower"])
@pytest.mark.parametrize("units", [1, 3, 40, 300])
@pytest.mark.parametrize("block", [16, 4096])
def test_blocks_and_skipped_blocks_give_the_sum_over_pairs(
    bound: str, units: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pairs, "_CPU_BLOCK", block)
    activations, labels = clustered_layer(units, units=units)
    estimates = plane_information(activations, labels, estimator="kde", bound=bound, noise_variance=1e-2)
    expected = kde_plane(activations.numpy(), labels.numpy(), 1e-2, SCALES[bound])
    assert [e.value.item() for e in estimates] == pytest.approx(expected, abs=1e-12)


def test_many_labels_of_few_samples_give_the_sum_over_pairs() -> None:
    activations, _ = clustered_layer(0, n=120)
    labels = torch.arange(120) // 2
    estimates = plane_information(activations, labels, estimator="kde", noise_variance=1e-2)
    expected = kde_plane(activations.numpy(), labels.numpy(), 1e-2, 2)
    assert [e.value.item() for e in estimates] == pytest.approx(expected, abs=1e-12)


def test_far_blocks_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pairs, "_CPU_BLOCK", 16)
    products = []
    plain = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, out: products.append(a.shape[1]) or plain(a, b, out=out))
    spread = torch.linspace(0, 1000, 256).unsqueeze(1)
    value = input_information(spread, estimator="kde").value.item()
    assert len(products) == 18  # 3 slabs of 6 blocks, each with itself only: 171 pairs of blocks without the skipping
    assert value == pytest.approx(8.0, abs=1e-6)


def test_identical_rows_overlap_whole() -> None:
    activations = torch.tensor([[1e3, -1e3]]).repeat(8, 1)
    for estimate in plane_information(activations, torch.arange(8) % 2, estimator="kde"):
        assert estimate.value.item() == pytest.approx(0.0, abs=1e-6)


def test_far_rows_are_told_apart_whole() -> None:
    estimate = input_information(torch.arange(64.0).unsqueeze(1), estimator="kde")
    assert estimate.value.item() == pytest.approx(6.0, abs=1e-6)
    assert estimate.saturation.item() == pytest.approx(1.0, abs=1e-6)


def test_a_diverging_layer_keeps_its_rows_apart() -> None:
    rows, labels = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 2
    about_input, about_labels = plane_information(rows * 1e30, labels, estimator="kde")
    assert (about_input.value.item(), about_labels.value.item()) == pytest.approx((6, 1), abs=1e-9)
    assert [end.item() for end in about_labels.interval()] == pytest.approx([0, 1], abs=1e-9)


def test_fitted_noise_of_a_diverging_layer_is_that_of_its_scale() -> None:
    rows, labels = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 2
    expected, found = (
        plane_information(rows * scale, labels, estimator="kde", noise_variance="fitted") for scale in (1, 1e30)
    )
    for of_unit, of_large in zip(expected, found, strict=True):
        assert of_large.value.item() == pytest.approx(of_unit.value.item(), rel=1e-5)


def test_bounds_bracket_the_noisy_information() -> None:
    # Monte Carlo over the mixture density itself, 200 draws for each of 200 samples.
    activations, _ = clustered_layer(5)
    variance = 2e-3
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200, *activations.shape, generator=generator, dtype=torch.float64) * math.sqrt(variance)
    sq_distance = torch.cdist((activations + noise).flatten(0, 1), activations).square()
    log_p = torch.logsumexp(-sq_distance / (2 * variance), 1) - math.log(200)
    own = -(noise.square().sum(-1).flatten() / (2 * variance))
    truth = float((own - log_p).mean()) / math.log(2)
    estimate = input_information(activations, estimator="kde", noise_variance=variance)
    assert estimate.lower.item() < truth < estimate.upper.item()
    assert estimate.upper.item() - estimate.lower.item() > 0.5  # the bracket is not empty: the test can fail


def test_kind_says_which_value_is_a_bound() -> None:
    activations, labels = clustered_layer(6)
    for bound in ("upper", "lower"):
        i_xt, i_ty = plane_information(activations, labels, estimator="kde", bound=bound)
        assert i_xt.kind == f"{bound}_bound"
        assert i_xt.value == getattr(i_xt, bound)
        assert i_ty.kind == "bracket"  # however many samples there are, its ends stay apart
        assert i_ty.lower <= i_ty.value <= i_ty.upper


def test_ends_of_the_label_information_hold_for_all_that_these_are_samples_of() -> None:
    # Even classes that the layer decides: 1 bit, of which half of all samples' labels have less by chance.
    inside = 0
    for seed in range(40):
        labels = torch.randint(0, 2, (200,), generator=torch.Generator().manual_seed(seed))
        low, high = plane_information(labels.double().unsqueeze(1), labels, estimator="kde")[1].interval()
        inside += int(low.item() < 1.0 == pytest.approx(high.item()))
    assert inside >= 36  # 97.5% of 40, and three standard deviations below
    # Random labels and samples that hardly overlap: the value is 1 bit, the truth 0.
    rows = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 2, (300,), generator=torch.Generator().manual_seed(1))
    about_label = plane_information(rows, labels, estimator="kde")[1]
    assert about_label.value.item() > 0.99
    assert about_label.lower.item() == 0.0


@pytest.mark.parametrize("units", [1, 3, 12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fitted_noise_makes_each_sample_most_probable_given_the_others(units: int, dtype: torch.dtype) -> None:
    rows = clustered_layer(7, units=units)[0]
    fitted = float(fitted_variance(rows.to(dtype)))
    twin = minimize_scalar(
        lambda t: -leave_one_out_log_likelihood(rows.numpy(), math.exp(t)),
        bounds=(math.log(fitted) - 3, math.log(fitted) + 3),
        method="bounded",
    )
    # The last grid has steps of 5% of the variance; the likelihood is flat at its peak.
    assert fitted == pytest.approx(math.exp(twin.x), rel=0.06)
    assert leave_one_out_log_likelihood(rows.numpy(), fitted) == pytest.approx(-twin.fun, abs=1e-3 * units)
    estimate = input_information(rows.to(dtype), estimator="kde", noise_variance="fitted")
    given = input_information(rows.to(dtype), estimator="kde", noise_variance=fitted)
    assert estimate.value == given.value
    assert estimate.method == f"kde (upper, fitted noise variance {fitted:g})"


def test_fitted_noise_follows_the_scale_and_does_not_see_copies() -> None:
    rows = clustered_layer(8)[0]
    one = float(fitted_variance(rows))
    assert float(fitted_variance(1000 * rows + 5)) == pytest.approx(1e6 * one, rel=1e-6)
    assert float(fitted_variance(torch.cat([rows, rows]))) == pytest.approx(one, rel=0.06)
    for collapsed in (torch.ones(20, 2), torch.tensor([0.0, 1.0]).repeat(10).unsqueeze(1)):
        estimate = input_information(collapsed, estimator="kde", noise_variance="fitted")
        assert 0 <= estimate.value.item() <= 1


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(-5, 5), variance=st.floats(1e-4, 1))
def test_bounds_are_ordered_and_unmoved_by_shifts_and_rotations(seed: int, shift: float, variance: float) -> None:
    activations, labels = clustered_layer(seed, n=40)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)).double()).Q
    first = plane_information(activations, labels, estimator="kde", noise_variance=variance)
    second = plane_information(activations @ rotation + shift, labels, estimator="kde", noise_variance=variance)
    assert 0 <= first[0].lower <= first[0].upper <= math.log2(40) + 1e-9
    for a, b in zip(first, second, strict=True):
        assert a.value.item() == pytest.approx(b.value.item(), abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_variance": 0.0}, r"kde\(noise_variance=0.0\): expected a positive number"),
        ({"noise_variance": None}, r"kde\(noise_variance=None\): expected a positive number, .* or 'fitted'"),
        ({"noise_variance": "best"}, r"kde\(noise_variance='best'\): expected a positive number, .* or 'fitted'"),
        ({"bound": "middle"}, r"kde\(bound='middle'\): expected one of 'upper', 'lower'"),
    ],
)
def test_bad_options_are_named_with_what_would_do(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        input_information(torch.randn(5, 2), estimator="kde", **options)
