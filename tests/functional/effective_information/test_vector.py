import math

import pytest
import torch
from torch import nn

from lightning_foresight.functional import _memory, effective_information, ei_between_groups, ei_parts
from lightning_foresight.functional.effective_information.vector_entropy import (
    VectorCounts,
    count_equal,
    hash_factors,
    hash_rows,
    vector_entropy,
)
from tests.reference.effective_information_dense import rational_vector


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(weight, bias=None):
    weight = torch.tensor(weight, dtype=torch.float64)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=torch.float64)
    layer.weight.data = weight
    if bias is not None:
        layer.bias.data = torch.tensor(bias, dtype=torch.float64)
    return layer


@pytest.mark.parametrize(("width", "bins"), [(1, 64), (2, 8), (3, 16), (4, 8), (2, 64)])
def test_identity_layers_pass_on_all_that_goes_in(width, bins):
    result = effective_information(
        nn.Identity(), in_range=(0, 1), out_range=(0, 1), in_bins=bins, out_bins=bins, in_shape=(width,)
    )
    assert result.kind == "estimate"
    assert result.value.item() == pytest.approx(width * math.log2(bins), abs=0.02)


@pytest.mark.parametrize(
    ("weight", "bias"), [([1.0], 0.1), ([1.0, 0.3], 0.0), ([0.5, -0.7, 0.2], 0.2), ([2.0, 2.0], -1.0)], ids=str
)
def test_small_layers_equal_what_can_be_enumerated(weight, bias):
    edges = torch.linspace(-1, 1, 9)[1:-1].tolist()
    truth = rational_vector(weight, bias, edges, (-1.0, 1.0), 4)
    result = effective_information(linear([weight], [bias]), in_range=(-1, 1), out_range=(-1, 1), in_bins=4, out_bins=8)
    assert result.value.item() == pytest.approx(truth, abs=0.02)
    assert abs(result.value.item() - truth) < 5 * result.std_error.item() + 1e-3


def test_units_that_share_no_input_add_up():
    separate = linear([[1.0, 0.3, 0.0, 0.0], [0.0, 0.0, 0.5, -0.7]])
    edges = torch.linspace(-1, 1, 5)[1:-1].tolist()
    truth = sum(rational_vector(w, 0.0, edges, (-1.0, 1.0), 4) for w in ([1.0, 0.3], [0.5, -0.7]))
    result = effective_information(separate, in_range=(-1, 1), out_range=(-1, 1), in_bins=4, out_bins=4)
    assert result.value.item() == pytest.approx(truth, abs=0.02)


def test_a_saturated_layer_gets_bounds_that_hold():
    # 8 inputs of 64 bins are 48 bits; 131,072 samples cannot tell that from 17.
    result = effective_information(nn.Identity(), in_range=(0, 1), out_range=(0, 1), in_shape=(8,))
    assert result.kind == "lower_bound"
    assert result.saturation > 0.99
    assert result.lower > 25
    assert result.lower <= 48 <= result.upper
    assert result.value == result.lower
    assert math.isnan(result.std_error)


def test_a_saturated_layer_passes_on_no_less_than_its_clearest_output():
    # One clean copy of 6 bits among outputs that are pure noise: no sample is like another, and bounds are far apart.
    def noisy(x):
        return torch.cat([x[:, :1], torch.rand(len(x), 7)], 1)

    result = effective_information(noisy, in_range=(0, 1), out_range=(0, 1), in_shape=(2,))
    assert result.kind == "lower_bound"
    assert result.lower == pytest.approx(6, abs=0.05)
    assert result.upper >= 6


def test_collisions_reach_twice_as_far_as_the_plug_in_entropy():
    # 24 bits from 17 bits' worth of samples: pairs of equal vectors number 2^33 / 2^24.
    result = effective_information(nn.Identity(), in_range=(0, 1), out_range=(0, 1), in_shape=(4,))
    assert result.kind == "lower_bound"
    assert 23.7 < result.lower <= 24
    assert result.upper == pytest.approx(24, abs=1e-3)


def test_outputs_outside_the_range_count_to_the_outermost_bins():
    result = effective_information(linear([[4.0]]), in_range=(-1, 1), out_range=(-1, 1), in_bins=8, out_bins=2)
    assert result.value.item() == pytest.approx(1, abs=0.02)


def test_equal_rows_are_counted_whatever_their_order():
    codes = torch.tensor([[1, 2], [2, 1], [1, 2], [0, 3], [2, 1], [1, 2]])
    counts = count_equal(hash_rows(codes, hash_factors(2, seeded(), codes.device)))
    assert sorted(counts.tolist(), reverse=True) == [3, 2, 1, 0, 0, 0]


def test_bounds_enclose_the_entropy_of_a_known_distribution():
    codes = torch.randint(0, 16, (20_000, 3), generator=seeded())
    found = vector_entropy(codes, 16, seeded(1))
    assert found.lower <= 12 <= found.upper + 0.01
    assert found.value.item() == pytest.approx(12, abs=0.02)


def test_samples_added_in_chunks_have_the_entropy_of_all():
    codes = torch.randint(0, 4, (5, 3_000, 6), generator=seeded(), dtype=torch.int16) // 2
    whole, chunked = vector_entropy(codes, 4, seeded(1)), VectorCounts(4, seeded(1))
    for part in codes.split([1, 999, 2_000], dim=1):
        chunked.add(part)
    for field, again in zip(whole, chunked.entropy(), strict=True):
        assert torch.equal(field, again)


def test_memory_budget_does_not_change_the_result(monkeypatch):
    layer = linear([[1.0, -0.5], [0.4, 0.8]])
    options = {"in_range": (-1, 1), "out_range": (-1.5, 1.5), "in_bins": 8, "out_bins": 8, "num_samples": 8_192}
    whole = effective_information(layer, **options)
    monkeypatch.setattr(_memory, "MEMORY_BUDGET", 2**17)
    chunked = effective_information(layer, **options)
    # Other chunks draw other noise.
    assert abs(chunked.value - whole.value) < 5 * (chunked.std_error**2 + whole.std_error**2).sqrt()
    assert chunked.std_error == pytest.approx(whole.std_error.item(), rel=0.1)


def test_a_group_of_one_pair_is_a_part_and_the_group_of_all_is_the_whole():
    layer = linear([[1.0, -0.5], [0.4, 0.8]])
    options = {"in_range": (-1, 1), "out_range": (-1.5, 1.5), "in_bins": 8, "out_bins": 8}
    parts = ei_parts(layer, **options)
    groups = [([a], [b]) for a in range(2) for b in range(2)] + [([0, 1], [0, 1])]
    *pairs, whole = ei_between_groups(layer, groups, **options)
    for (sources, targets), pair in zip(groups, pairs, strict=False):
        assert pair.value.item() == pytest.approx(parts[sources[0], targets[0]].item(), abs=0.02)
    assert whole.value.item() == pytest.approx(effective_information(layer, **options).value.item(), abs=0.02)


def test_rtol_adds_samples():
    layer = linear([[1.0, -0.5], [0.4, 0.8]])
    options = {"in_range": (-1, 1), "out_range": (-1.5, 1.5), "in_bins": 8, "out_bins": 8}
    rough = effective_information(layer, num_samples=2_048, **options)
    fine = effective_information(layer, num_samples=2_048, rtol=0.002, **options)
    assert fine.num_samples > rough.num_samples
    assert fine.std_error <= 0.002 * fine.value


@pytest.mark.parametrize("groups", [[([], [0])], [([0], [2])], [([0, 0], [1])], [([-1], [0])]], ids=str)
def test_groups_that_are_not_there_are_refused(groups):
    with pytest.raises(ValueError, match=r"ei_between_groups\(groups=.*indices from 0 to 1"):
        ei_between_groups(linear([[1.0, 0.0], [0.0, 1.0]]), groups, in_range=(0, 1))


def test_exact_vectors_are_refused_in_words():
    with pytest.raises(ValueError, match=r"effective_information\(method='exact'\): the entropy of vectors has no"):
        effective_information(linear([[1.0]]), in_range=(0, 1), method="exact")
