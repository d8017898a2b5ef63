from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_foresight import functional
from lightning_foresight.functional import discrete_entropy, mutual_information
from lightning_foresight.functional.mutual_information import _bins, _cells, _plug_in, binned
from tests.reference.information import TishbyPlane, counted_plane

input_information = partial(functional.input_information, estimator="binned")
label_information = partial(functional.label_information, estimator="binned")
plane_information = partial(functional.plane_information, estimator="binned")


def random_layer(seed: int, n: int = 300, units: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, units, generator=generator), torch.randint(0, 3, (n,), generator=generator)


@pytest.mark.parametrize(
    ("name", "options"),
    [("bin", {"bin_width": 0.07}), ("idnns30", {"edges": torch.linspace(-1, 1, 30)})],
    ids=["width-0.07", "30-edges"],
)
def test_plane_of_the_tanh_net_equals_the_published_code(name: str, options: dict) -> None:
    plane = TishbyPlane()
    labels = torch.from_numpy(plane.labels)
    expected = plane.reference(name)
    for snapshot in range(0, 21, 4):
        for layer, activations in enumerate(plane.activations(snapshot)):
            estimates = plane_information(torch.from_numpy(activations), labels, **options)
            # Sums over 4,096 terms in float64: 1e-9 bits leaves five digits for the order of summation.
            assert [e.value.item() for e in estimates] == pytest.approx(expected[snapshot, layer].tolist(), abs=1e-9)


@pytest.mark.parametrize("units", [1, 4, 64, 65, 700])
@pytest.mark.parametrize("spread", [0.05, 0.5, 3.0])
def test_cells_of_layers_of_any_width_are_those_that_python_counts(units: int, spread: float) -> None:
    activations, labels = random_layer(units, units=units)
    activations = activations * spread
    activations[100:200] = activations[:100]  # rows that no number of columns tells apart
    estimates = plane_information(activations, labels, bin_width=1.0)
    expected = counted_plane(np.floor(activations.numpy()).astype(int), labels.numpy())
    assert [e.value.item() for e in estimates] == pytest.approx(expected, abs=1e-12)


def several_layers() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    activations, labels = random_layer(5)
    dead, codes = torch.zeros(300, 2), torch.randint(0, 4, (300, 2), generator=torch.Generator().manual_seed(1))
    # Neighbours that share all their keys, of any width and type: only their place tells them apart.
    layers = {"first": activations, "copy": activations.clone(), "dead": dead, "as_dead": dead[:, :1], "codes": codes}
    return layers, labels


@pytest.mark.parametrize("options", [{"bin_width": 0.5}, {"bins": 5}, {"bins": 4, "correction": "miller_madow"}])
def test_several_layers_at_once_read_what_each_reads_alone(options: dict) -> None:
    layers, labels = several_layers()
    together = plane_information(layers, labels, **options)
    assert list(together) == list(layers)
    for name, layer in layers.items():
        for shared, alone in zip(together[name], plane_information(layer, labels, **options), strict=True):
            for field in ("value", "std_error", "saturation", "lower", "upper"):
                # The order of summation over cells is all that differs; a variance of 0 comes out as its rounding.
                assert getattr(shared, field).item() == pytest.approx(getattr(alone, field).item(), abs=1e-9)
            assert (shared.method, shared.kind) == (alone.method, alone.kind)
            assert shared.num_samples == alone.num_samples


def test_layers_that_do_not_fit_into_memory_together_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    layers, labels = several_layers()
    whole = plane_information(layers, labels, bins=5)
    monkeypatch.setattr(binned, "chunk_length", lambda total, bytes_per_item: 2)
    parts = plane_information(layers, labels, bins=5)
    values = [[each.value.item() for pair in plane.values() for each in pair] for plane in (parts, whole)]
    assert values[0] == pytest.approx(values[1], abs=1e-12)


def test_layers_of_different_samples_are_refused() -> None:
    activations, labels = random_layer(0)
    with pytest.raises(ValueError, match=r"binned\(activations, labels\): got 299 and 300 samples"):
        plane_information({"first": activations, "second": activations[1:]}, labels, bins=5)


@pytest.mark.parametrize("offset", [0.0, -3.0, 1e3, 1e8])
@pytest.mark.parametrize("units", [1, 3, 12])
def test_keys_that_are_digits_share_cells_as_hashed_ones_do(units: int, offset: float) -> None:
    rows = random_layer(units, units=units)[0] + offset
    rows[100:200] = rows[:100]
    binning = _bins.binning_of(rows, (rows.min().item(), rows.max().item()), bin_width=0.5)
    digits, hashed = _cells.row_keys(rows, binning), _cells.row_keys(rows, _bins.Binning(binning.codes))
    numbers = [_cells.cell_numbers(keys) for keys in (digits, hashed)]
    shared = torch.unique(torch.stack(numbers, 1), dim=0).shape[0]
    assert [int(each.max()) + 1 for each in numbers] == [shared, shared]


def test_counting_on_the_cpu_reads_what_counting_on_any_device_does() -> None:
    layers, labels = several_layers()
    keys = torch.stack(
        [_cells.row_keys(each.float(), _bins.Binning(lambda part: (part / 0.5).floor())) for each in layers.values()]
    )
    elsewhere = _plug_in.plug_in_of_cells(_cells.count_cells(keys, labels, 3))
    here = _plug_in.plug_in_of_keys(keys, _plug_in.count_labels(labels, 3))
    for one, other in zip(here, elsewhere, strict=True):
        assert one[:-1] == pytest.approx(other[:-1], abs=1e-12)
        assert (one.shape is None) == (other.shape is None)
        assert one.shape is None or one.shape == pytest.approx(other.shape, abs=1e-12)
    assert any(one.shape for one in here)


def noisy_codes(seed: int, n: int, values: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A label of two values, kept by half of the codes; a quarter of a bit."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (n,), generator=generator)
    codes = torch.randint(0, values, (n,), generator=generator)
    kept = torch.rand(n, generator=generator) < 0.5
    return torch.where(kept, 2 * (codes // 2) + labels, codes).unsqueeze(1), labels


@pytest.mark.parametrize("correction", ["none", "miller_madow", "chao_wang_jost"])
@pytest.mark.parametrize("values", [2, 10])
def test_interval_that_is_claimed_covers_the_information(values: int, correction: str) -> None:
    # The code's last bit agrees with the label three times in four: 1 - h(1/4) bits.
    truth = 1 + 0.25 * math.log2(0.25) + 0.75 * math.log2(0.75)
    inside = 0
    for seed in range(100):
        estimate = label_information(*noisy_codes(seed, 400, values), correction=correction)
        assert estimate.kind == "estimate"
        low, high = estimate.interval()
        inside += int(low <= truth <= high)
    assert inside >= 88  # three standard deviations below 95


def test_interval_holds_nothing_that_is_known_to_be_impossible() -> None:
    labels = torch.arange(64) % 2
    i_xt, i_ty = plane_information(torch.arange(64).unsqueeze(1), labels)
    assert i_xt.interval()[1].item() == pytest.approx(6.0)
    assert i_ty.interval()[1].item() == pytest.approx(1.0)
    i_xt, i_ty = plane_information(torch.arange(64).unsqueeze(1) % 32 // 16, labels)
    assert [e.interval()[0].item() >= 0 for e in (i_xt, i_ty)] == [True, True]
    assert i_ty.interval()[0].item() == 0.0


def test_cells_of_few_samples_make_bounds_of_the_values_and_corrected_ones_invalid() -> None:
    codes, labels = noisy_codes(0, 400, 200)
    assert [e.kind for e in plane_information(codes, labels)] == ["lower_bound", "upper_bound"]
    assert [e.kind for e in plane_information(codes, labels, correction="nsb")] == ["not_valid", "not_valid"]
    assert [e.kind for e in plane_information(codes % 4, labels)] == ["estimate", "estimate"]
    # H(T) of 20 values has samples enough, the pair of 40 has not.
    assert [e.kind for e in plane_information(codes % 20, labels)] == ["estimate", "upper_bound"]


def test_memory_budget_does_not_change_the_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    activations, labels = random_layer(0, units=500)
    activations = activations * 0.05
    whole = plane_information(activations, labels, bin_width=1.0)
    monkeypatch.setattr(_cells, "chunk_length", lambda total, bytes_per_item: 7)
    parts = plane_information(activations, labels, bin_width=1.0)
    assert parts[1].value.item() == pytest.approx(whole[1].value.item(), abs=1e-12)  # the cells come in another order


def test_separate_questions_answer_as_the_shared_one() -> None:
    activations, labels = random_layer(0)
    i_xt, i_ty = plane_information(activations, labels, bins=5)
    assert input_information(activations, bins=5).value == i_xt.value
    assert label_information(activations, labels, bins=5).value == i_ty.value


def test_bins_divide_the_range_of_the_layer() -> None:
    activations = torch.tensor([[0.0], [0.9], [1.1], [2.0]])
    assert input_information(activations, bins=2).value.item() == pytest.approx(1.0)
    assert input_information(activations, bins=2, range=(0, 10)).value.item() == 0.0


def test_bins_of_equal_mass_share_the_samples_evenly() -> None:
    activations = random_layer(1, n=1000, units=1)[0].exp()
    value = input_information(activations, bins=8, equal_mass=True).value.item()
    assert value == pytest.approx(3.0, abs=1e-3)
    assert input_information(activations, bins=8).value.item() < 2.5


def test_constant_layer_holds_no_information() -> None:
    for estimate in plane_information(torch.full((10, 3), 0.25), torch.arange(10) % 2):
        assert estimate.value.item() == 0.0
        assert estimate.saturation.item() == 0.0


def test_saturated_layer_says_so_and_reads_the_label_entropy_for_any_labels() -> None:
    activations, labels = random_layer(2, units=50)
    i_xt, i_ty = plane_information(activations, labels, bin_width=0.01)
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    assert i_xt.value.item() == pytest.approx(math.log2(300))
    assert i_xt.saturation.item() == pytest.approx(1.0)
    null = plane_information(activations, shuffled, bin_width=0.01)[1].value.item()
    assert i_ty.value.item() == pytest.approx(null, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_binned_by_value(dtype: torch.dtype) -> None:
    activations = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.5, 2.0], [1.5, -1.0]], dtype=dtype)
    assert input_information(activations, bin_width=0.25).value.item() == 1.5


def test_standard_error_covers_the_spread_over_samples() -> None:
    generator = torch.Generator().manual_seed(3)
    p = torch.tensor([0.4, 0.3, 0.2, 0.1])
    truth = float(-(p * p.log2()).sum())
    inside = 0
    for _ in range(400):
        samples = torch.multinomial(p, 500, replacement=True, generator=generator)
        estimate = input_information(samples.unsqueeze(1), correction="miller_madow")
        low, high = estimate.interval(0.95)
        inside += int(low <= truth <= high)
    assert 0.92 <= inside / 400 <= 0.98  # 0.95 -+ 3 standard errors of 400 trials


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), correction=st.sampled_from(["none", "miller_madow", "chao_wang_jost"]))
def test_order_of_samples_units_and_names_of_labels_do_not_matter(seed: int, correction: str) -> None:
    activations, labels = random_layer(seed, n=60)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(60, generator=generator)
    columns = torch.randperm(4, generator=generator)
    renamed = torch.tensor([7, -100, 10**12])[labels]
    first = plane_information(activations, labels, bin_width=0.8, correction=correction)
    second = plane_information(activations[order][:, columns], renamed[order], bin_width=0.8, correction=correction)
    for a, b in zip(first, second, strict=True):
        assert a.value.item() == pytest.approx(b.value.item(), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), bins=st.integers(2, 40))
def test_label_information_lies_between_zero_and_both_entropies(seed: int, bins: int) -> None:
    activations, labels = random_layer(seed, n=50, units=2)
    i_xt, i_ty = plane_information(activations, labels, bins=bins)
    assert -1e-9 <= i_ty.value.item() <= min(i_xt.value.item(), math.log2(3)) + 1e-9


def test_corrections_take_the_same_cells() -> None:
    activations, labels = random_layer(4, n=200, units=2)
    plain = plane_information(activations, labels, bins=6)
    corrected = plane_information(activations, labels, bins=6, correction="miller_madow")
    cells = (activations - activations.min()) / ((activations.max() - activations.min()) / 6)
    rows = [tuple(row) for row in cells.floor().clamp(0, 5).long().tolist()]
    k_t, k_y, k_ty = len(set(rows)), 3, len(set(zip(rows, labels.tolist(), strict=True)))
    shift = (k_t - 1) / 400 / math.log(2), (k_t + k_y - k_ty - 1) / 400 / math.log(2)
    for before, after, expected in zip(plain, corrected, shift, strict=True):
        assert (after.value - before.value).item() == pytest.approx(expected, abs=1e-9)


def test_two_continuous_sets_are_binned_alike() -> None:
    x = random_layer(5, n=2000, units=1)[0]
    generator = torch.Generator().manual_seed(6)
    noise = torch.randn(2000, 1, generator=generator)
    dependent = mutual_information(x, x + 0.1 * noise, estimator="binned", bins=10).value
    independent = mutual_information(x, noise, estimator="binned", bins=10).value
    assert dependent > 1.5
    assert independent < 0.05


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: input_information(x, bins=1), r"binned\(bins=1\): expected an integer of at least 2"),
        (lambda x, y: input_information(x, bin_width=-0.1), r"binned\(bin_width=-0.1\): expected a positive number"),
        (lambda x, y: input_information(x, bin_width=0.1, bins=3), r"binned\(bin_width, bins\): expected one of"),
        (lambda x, y: input_information(x, bins=3, range=(1, 0)), r"binned\(range=\(1, 0\)\): expected a pair"),
        (lambda x, y: input_information(x, edges=[1.0, 0.0]), r"expected increasing numbers"),
        (lambda x, y: input_information(x, correction="magic"), r"correction='magic'\): expected one of 'none'"),
        (lambda x, y: input_information(x * float("nan")), r"binned\(activations\): 40 of 40 entries are NaN"),
        (lambda x, y: input_information(x[:1]), r"got a tensor of shape \(1, 4\).*at least 2 samples"),
        (lambda x, y: label_information(x, y.float()), r"labels.argmax\(-1\).*labels.long\(\)"),
        (lambda x, y: label_information(x, y[:5]), r"got 5 labels for 10 samples"),
        (
            lambda x, y: label_information(x, y, estimator="magic"),
            r"is not an estimator.*'binned'",
        ),
        (lambda x, y: label_information(x, y, width=3), r"label_information\(width\): estimator 'binned' has no such"),
        (lambda x, y: mutual_information(x, x, estimator="kde"), r"cannot answer this question; for two sets"),
    ],
)
def test_bad_input_is_named_with_what_would_do(call, message: str) -> None:
    activations, labels = random_layer(0, n=10)
    with pytest.raises(ValueError, match=message):
        call(activations, labels)


def test_nsb_takes_the_cells_of_the_range_as_possible() -> None:
    x = torch.tensor([0, 1, 2, 3]).repeat(5).unsqueeze(1)
    y = torch.tensor([0, 1]).repeat(10)
    counts = [torch.full((4,), 5), torch.full((2,), 10), torch.tensor([5, 0, 0, 5, 5, 0, 0, 5])]
    h_x, h_y, h_xy = (discrete_entropy(each, "nsb").value.item() for each in counts)
    i_xt, i_ty = plane_information(x, y, correction="nsb")
    assert i_xt.value.item() == pytest.approx(h_x)
    assert i_ty.value.item() == pytest.approx(h_x + h_y - h_xy)
    assert mutual_information(x, y, estimator="binned", correction="nsb").value.item() == pytest.approx(
        h_x + h_y - h_xy
    )


def test_values_whose_bins_have_no_number_are_refused() -> None:
    labels = torch.arange(64)
    rows = torch.randn(64, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for layer, width in ((rows * 1e35, 0.5), ((rows * 1e20).float(), 0.01), (rows * 1e300, 1e-10)):
        with pytest.raises(ValueError, match=r"bin_width=.*beyond 64 bits.*larger bin_width"):
            plane_information(layer, labels, bin_width=width)
    # Just below, each sample has a cell of its own.
    i_xt, _ = plane_information(rows * 1e17, labels, bin_width=0.5)
    assert i_xt.value.item() == pytest.approx(6)


def test_several_narrow_layers_keep_their_cells_apart_on_the_cpu() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 4, (17, 400, 1), generator=generator)
    labels = torch.randint(0, 3, (400,), generator=generator)
    keys = torch.stack([_cells.row_keys(each, _bins.Binning(lambda part: part, 0, 3), 2) for each in codes])
    for each, counted in zip(codes, _plug_in.plug_in_of_cells(_cells.count_cells(keys, labels, 3)), strict=True):
        of_t, of_y, both = (
            -sum(p * math.log(p) for p in (values.bincount().double() / 400).tolist() if p)
            for values in (each.flatten(), labels, 3 * each.flatten() + labels)
        )
        assert counted.h_t == pytest.approx(of_t, abs=1e-12)
        assert counted.i_ty == pytest.approx(of_t + of_y - both, abs=1e-12)


def test_estimates_of_one_call_share_no_storage() -> None:
    layers = {name: random_layer(seed)[0] for seed, name in enumerate("ab")}
    planes = plane_information(layers, random_layer(0)[1], bins=8)
    fields = [field for pair in planes.values() for each in pair for field in each if isinstance(field, torch.Tensor)]
    assert len({field.untyped_storage().data_ptr() for field in fields}) == len(fields) == 24
    assert all(field.untyped_storage().nbytes() == 8 for field in fields)
