from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_foresight.functional import cka, distance_correlation, hsic, nhsic
from lightning_foresight.functional.dependence import _centred
from tests.reference import hsic as slow

DATA = Path(__file__).parents[2] / "data"
# 96 samples of two layers, their input and one-hot labels, and an independent matrix, with the values that PyGlow, the
# HSIC bottleneck's code and independent float64 code gave (the keys of the file say which).
INPUTS = np.load(DATA / "hsic_inputs.npz")
VALUES = json.loads((DATA / "hsic_values.json").read_text())
PAIRS = ["H1|X", "H1|Y", "H2|X", "H2|Y", "IND|Y", "X|X"]
MEASURES = {
    "hsic": lambda x, y, **options: hsic(x, y, **options),
    "cka": lambda x, y, **options: cka(x, y, **options),
}


def pair(name: str, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    a, b = name.split("|")
    return torch.from_numpy(INPUTS[a]).to(dtype), torch.from_numpy(INPUTS[b]).to(dtype)


def dependent(seed: int, n: int = 80) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return x, x[:, :2] ** 2 + torch.randn(n, 2, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("sigma", [1, 5])
@pytest.mark.parametrize("name", PAIRS)
def test_values_are_those_of_published_code(name: str, sigma: int, dtype: torch.dtype) -> None:
    (a, b), values = pair(name, dtype), VALUES[name]
    scaled = (sigma * a.shape[1] ** 0.5, sigma * b.shape[1] ** 0.5)
    biased = hsic(a, b, bandwidth=sigma, unbiased=False).value.item()
    found = {
        f"hsic_biased_sigma{sigma}": biased,
        f"hsic_unbiased_sigma{sigma}": hsic(a, b, bandwidth=sigma).value.item(),
        f"cka_rbf_sigma{sigma}": cka(a, b, kernel="gaussian", bandwidth=sigma, unbiased=False).value.item(),
        f"cka_rbf_unbiased_sigma{sigma}": cka(a, b, kernel="gaussian", bandwidth=sigma).value.item(),
        f"mean(KH*(LH)^T)_indep_sigma{sigma}": hsic(a, b, bandwidth=scaled, unbiased=False).value.item()
        * 95**2
        / 96**2,
        f"cka_rbf_dimscaled_indep_sigma{sigma}": cka(
            a, b, kernel="gaussian", bandwidth=scaled, unbiased=False
        ).value.item(),
    }
    for key, value in found.items():
        assert value == pytest.approx(values[key], abs=1e-6), key
    # PyGlow computes in float32: its last digits of a value near 1 are rounding.
    assert 95 * biased == pytest.approx(values[f"pyglow_sigma{sigma}"], abs=3e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_linear_median_and_normalised_values_are_those_of_published_code(name: str) -> None:
    (a, b), values = pair(name), VALUES[name]
    found = {
        "hsic_linear_biased": hsic(a, b, kernel="linear", unbiased=False),
        "cka_linear": cka(a, b, unbiased=False),
        "cka_linear_unbiased": cka(a, b),
        "hsic_biased_median": hsic(a, b, unbiased=False),
        "hsic_unbiased_median": hsic(a, b),
        "cka_rbf_median": cka(a, b, kernel="gaussian", unbiased=False),
        "nhsic_cca_indep_f64_sigma1": nhsic(a, b, bandwidth=(a.shape[1] ** 0.5, b.shape[1] ** 0.5)),
        "nhsic_cca_indep_f64_sigma5": nhsic(a, b, bandwidth=(5 * a.shape[1] ** 0.5, 5 * b.shape[1] ** 0.5)),
    }
    for key, estimate in found.items():
        assert estimate.value.item() == pytest.approx(values[key], abs=1e-6), key


@pytest.mark.parametrize("block", [7, 1000])
@pytest.mark.parametrize("kernel", ["gaussian", "linear", "distance"])
@pytest.mark.parametrize("unbiased", [True, False])
def test_blocks_give_the_value_of_whole_matrices(
    kernel: str, unbiased: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_centred, "_CPU_BLOCK", block)
    x, y = dependent(0, n=40)
    k, l = slow.gram(x.numpy(), kernel, 1.5), slow.gram(y.numpy(), kernel, 1.5)  # noqa: E741
    twin = slow.unbiased_hsic if unbiased else slow.biased_hsic
    value = hsic(x, y, kernel=kernel, bandwidth=1.5, unbiased=unbiased).value.item()
    assert value == pytest.approx(twin(k, l), abs=1e-12)
    value = cka(x, y, kernel=kernel, bandwidth=1.5, unbiased=unbiased).value.item()
    assert value == pytest.approx(slow.aligned(twin, k, l), abs=1e-12)


def test_distance_correlation_is_that_of_whole_matrices() -> None:
    x, y = dependent(1)
    k, l = slow.gram(x.numpy(), "distance"), slow.gram(y.numpy(), "distance")  # noqa: E741
    assert distance_correlation(x, y).value.item() == pytest.approx(slow.aligned(slow.biased_hsic, k, l) ** 0.5)
    squared = distance_correlation(x, y, unbiased=True).value.item()
    assert squared == pytest.approx(slow.aligned(slow.unbiased_hsic, k, l))


@pytest.mark.parametrize("sigma", [0.05, 100.0])
def test_narrow_and_wide_kernels_keep_their_digits_in_float32(sigma: float) -> None:
    x, y = dependent(2)
    for measure in MEASURES.values():
        options = {"kernel": "gaussian", "bandwidth": sigma, "unbiased": False}
        exact, single = measure(x, y, **options).value.item(), measure(x.float(), y.float(), **options).value.item()
        assert single == pytest.approx(exact, rel=1e-4)  # squared distances up to 1e4 lose a few digits


def test_unbiased_value_of_independent_samples_is_zero_on_average() -> None:
    values = []
    for seed in range(200):
        x, _ = dependent(seed, n=30)
        values.append(hsic(x, dependent(seed + 1000, n=30)[1], bandwidth=1.0, std_error=False).value)
    values = torch.stack(values)
    assert values.mean().abs() < 4 * values.std() / 200**0.5


@pytest.mark.parametrize("measure", list(MEASURES))
def test_standard_error_is_the_spread_over_data_sets(measure: str) -> None:
    # 120 data sets tell a standard deviation to 6.5%; the estimate itself varies more: 20%.
    estimates = [MEASURES[measure](*dependent(seed, n=200), kernel="gaussian", bandwidth=1.0) for seed in range(120)]
    spread = torch.stack([e.value for e in estimates]).std()
    claimed = torch.stack([e.std_error for e in estimates]).mean()
    assert claimed.item() == pytest.approx(spread.item(), rel=0.2)


@pytest.mark.parametrize("function", [hsic, cka, distance_correlation, nhsic])
def test_gradients_are_those_of_finite_differences(function) -> None:
    x, y = dependent(3, n=12)
    options = {} if function is distance_correlation else {"kernel": "gaussian", "bandwidth": 1.0}
    assert torch.autograd.gradcheck(lambda a: function(a, y, **options).value, x.requires_grad_())


def test_classes_are_compared_by_name_not_by_number() -> None:
    x, _ = dependent(4)
    labels = torch.arange(80) % 4
    renamed = torch.tensor([100, -3, 7, 0])[labels]
    assert hsic(x, labels).value.item() == pytest.approx(hsic(x, renamed).value.item(), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), kernel=st.sampled_from(["gaussian", "linear", "distance"]), unbiased=st.booleans())
def test_rotation_shift_order_and_sides_do_not_matter(seed: int, kernel: str, unbiased: bool) -> None:
    x, y = dependent(seed, n=20)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(20, generator=generator)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    first = cka(x, y, kernel=kernel, unbiased=unbiased)
    second = cka(y[order] - 3, (x @ rotation)[order], kernel=kernel, unbiased=unbiased)
    assert first.value.item() == pytest.approx(second.value.item(), abs=1e-9)
    assert first.value.item() <= 1 + 1e-9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: hsic(x, x, kernel="magic"), r"hsic\(kernel='magic'\): expected one of 'gaussian', 'linear'"),
        (lambda x: hsic(x, x, bandwidth=0), r"hsic\(bandwidth=0\): expected a positive number, 'median', or a pair"),
        (lambda x: cka(x, x[:5]), r"cka\(x, y\): got 10 and 5 samples"),
        (lambda x: cka(x[:3], x[:3]), r"cka\(x\).*at least 4 samples"),
        (lambda x: hsic(x, x * float("nan")), r"hsic\(y\): 20 of 20 entries are NaN"),
        (lambda x: nhsic(x, x, ridge=0), r"nhsic\(ridge=0\): expected a positive number"),
    ],
)
def test_bad_input_is_named_with_what_would_do(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.randn(10, 2, generator=torch.Generator().manual_seed(0)))


def enumerated(joint: np.ndarray, kernel: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
    """HSIC of places 0, 1, 2, ... with these joint probabilities, and the same over the root of both sides' own."""
    k = kernel(np.subtract.outer(np.arange(len(joint)), np.arange(len(joint))).astype(float))

    def of(joint: np.ndarray) -> float:
        x, y = joint.sum(1), joint.sum(0)
        return float(
            (joint * (k @ joint @ k)).sum() + (x @ k @ x) * (y @ k @ y) - 2 * (joint * (k @ x)[:, None] * (k @ y)).sum()
        )

    value = of(joint)
    return value, value / math.sqrt(of(np.diag(joint.sum(1))) * of(np.diag(joint.sum(0))))


@pytest.mark.parametrize("weight", [0.0, 0.15, 0.6])
def test_intervals_hold_weak_dependence_and_none(weight: float) -> None:
    # Intervals of value -+ 1.96 errors missed 0 by distance correlation in all sets, weak dependence in 1 of 7 by all.
    joint = (1 - weight) * np.full((5, 5), 1 / 25) + weight * np.eye(5) / 5
    hsic_truth, _ = enumerated(joint, lambda d: np.exp(-(d**2) / 2))
    _, squared = enumerated(joint, lambda d: -np.abs(d))
    _, aligned = enumerated(joint, lambda d: np.exp(-(d**2) / 2))
    inside = np.zeros(4)
    for seed in range(60):
        cells = np.random.default_rng(seed).choice(25, 200, p=joint.ravel())
        x, y = (torch.from_numpy(side.astype(float)).unsqueeze(1) for side in (cells // 5, cells % 5))
        found = [
            (hsic(x, y, bandwidth=1.0), hsic_truth),
            (cka(x, y, kernel="gaussian", bandwidth=1.0), aligned),
            (distance_correlation(x, y), math.sqrt(max(squared, 0))),
            (distance_correlation(x, y, unbiased=True), squared),
        ]
        for index, (estimate, truth) in enumerate(found):
            low, high = estimate.interval()
            inside[index] += low.item() <= truth + 1e-12 and truth <= high.item() + 1e-12
    assert inside.min() >= 52  # 95% of 60 is 57; three standard deviations below


@pytest.mark.parametrize("seed", range(8))
def test_an_interval_holds_its_own_value(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(50, 8, generator=generator), torch.randn(50, 3, generator=generator)
    for measure in (hsic, cka, distance_correlation):
        for unbiased in (True, False):
            for other in (y, x):  # independent, where the value may be below 0, and the same, where it is 1
                estimate = measure(x, other, unbiased=unbiased)
                lower, upper = estimate.interval()
                assert lower <= estimate.value <= upper


@pytest.mark.parametrize("correlation", [0.0, 0.08, 0.5, 0.95])
def test_interval_covers_weak_dependence_as_often_as_strong(correlation: float) -> None:
    inside, sets = 0, 200
    generator = torch.Generator().manual_seed(1)
    for _ in range(sets):
        x, noise = torch.randn(2, 300, generator=generator)
        low, high = cka(x, correlation * x + math.sqrt(1 - correlation**2) * noise).interval()
        inside += int(low <= correlation**2 <= high)  # of linear kernels in one dimension it is the squared correlation
    # Three standard deviations of 200 sets are .046. The delta method's error is small where a value is low by chance.
    assert inside / sets >= 0.95 - 0.046


@pytest.mark.parametrize("n", [4, 200, 1000])
def test_constant_samples_share_nothing_with_labels_and_gradients_stay_finite(n):
    dead = torch.full((n, 64), 7.7, requires_grad=True)  # its mean in float32 is another number
    labels = torch.arange(n) % 3
    for measured in (cka, hsic, distance_correlation, lambda x, y: cka(x, y, kernel="gaussian")):
        estimate = measured(dead, labels)
        assert (estimate.value, *estimate.interval()) == (0, 0, 0)
        estimate.value.backward()
        assert dead.grad.isfinite().all()
    assert nhsic(dead, labels).value == 0


@pytest.mark.parametrize("n", [4, 100, 1000])
def test_what_is_divided_by_an_own_hsic_of_rounding_is_not_valid(n):
    x, singles = torch.randn(n, 3, generator=torch.Generator().manual_seed(0)), torch.arange(n)
    assert cka(x, singles).kind == "not_valid"
    assert math.isnan(cka(x, singles).value)
    biased = cka(x, singles, unbiased=False)  # a number, of which nothing is known
    assert biased.kind == "not_valid"
    assert 0 < biased.value < 1
    assert math.isnan(biased.interval()[0])
    if n > 4:
        assert cka(x, singles // 2).kind == "lower_bound"


def test_rounding_puts_no_alignment_above_one():
    for seed in range(10):
        x = torch.randn(100, 3, generator=torch.Generator().manual_seed(seed))
        assert cka(x, -3 * x).value <= 1


@pytest.mark.parametrize("measured", [hsic, cka, distance_correlation])
def test_labels_of_few_samples_make_an_interval_a_lower_bound(measured):
    for rare, expected in ((10, "lower_bound"), (29, "lower_bound"), (30, "estimate")):
        labels = (torch.arange(300) < rare).long()
        layer = torch.randn(300, 1, generator=torch.Generator().manual_seed(0)) + labels.unsqueeze(1)
        assert measured(layer, labels).kind == measured(labels, layer).kind == expected


@pytest.mark.parametrize("measure", [partial(hsic, bandwidth=1.0), cka, distance_correlation])
def test_independent_samples_lie_below_an_interval_as_often_as_it_says(measure) -> None:
    """Chi-square of the variance alone, without the third moment, leaves .2 to .7% of hsic and distance_correlation."""
    generator = torch.Generator().manual_seed(0)
    sets, missed = 800, 0
    for _ in range(sets):
        x, y = torch.randint(0, 5, (2, 80, 1), generator=generator).double()
        missed += int(measure(x, y).interval()[0] > 0)
    # At 2.5% three standard deviations are 1.7%.
    assert 0.012 < missed / sets < 0.042


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1e9, 1e30])
@pytest.mark.parametrize("measure", [cka, distance_correlation, hsic])
def test_single_precision_neither_loses_small_rows_nor_overflows_on_large_ones(measure, scale: float) -> None:
    x, y = (each.float() for each in dependent(3))
    expected, found = measure(x.double(), y.double()), measure(x * scale, y)
    for of_double, of_single in zip(
        (expected.value, *expected.interval()), (found.value, *found.interval()), strict=True
    ):
        assert of_single.item() == pytest.approx(of_double.item(), rel=1e-4)
