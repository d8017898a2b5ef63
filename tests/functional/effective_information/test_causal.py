import math

import pytest
import torch
from torch import nn

from lightning_foresight.functional import causal_measures, effective_information, ei_parts, sensitivity
from lightning_foresight.functional.effective_information.causal import has_exact_method
from lightning_foresight.functional.effective_information.noise import some_answers
from lightning_foresight.functional.effective_information.problem import pose

OPTIONS = {"in_range": (-1, 1), "in_bins": 8, "out_bins": 8}


def layer_of(inputs, outputs, seed=0):
    layer = nn.Linear(inputs, outputs, dtype=torch.float64)
    layer.weight.data = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed)).double() / 2
    return layer


def test_sums_are_those_of_the_matrices():
    layer = layer_of(5, 4)
    found = causal_measures(layer, nn.Tanh(), **OPTIONS)
    parts, sensitive = ei_parts(layer, nn.Tanh(), **OPTIONS).sum(), sensitivity(layer, nn.Tanh(), **OPTIONS).sum()
    assert found.parts.value == pytest.approx(parts.item())
    assert found.sensitivity.value == pytest.approx(sensitive.item())
    assert found.degeneracy.value == pytest.approx((sensitive - parts).item())
    assert found.vector is found.phi is found.effectiveness is None


def test_a_choice_of_pairs_covers_the_whole_within_its_error():
    layer = layer_of(20, 200)
    whole = causal_measures(layer, nn.Tanh(), **OPTIONS)
    some = causal_measures(layer, nn.Tanh(), max_pairs=1_000, **OPTIONS)
    assert some.parts.num_samples == 62 * 16
    for name in ("parts", "sensitivity", "degeneracy"):
        estimate, truth = getattr(some, name), getattr(whole, name).value
        assert 0 < estimate.std_error < 0.1 * truth
        assert abs(estimate.value - truth) < 4 * estimate.std_error


def test_layers_without_overlap_have_no_degeneracy_and_no_phi():
    found = causal_measures(nn.Identity(), vector=True, in_shape=(2,), out_range=(-1, 1), num_samples=60_000, **OPTIONS)
    assert found.degeneracy.value.item() == pytest.approx(0, abs=0.02)
    assert found.phi.value.item() == pytest.approx(0, abs=0.05)
    assert found.effectiveness.value.item() == pytest.approx(1, abs=0.01)


def test_an_exclusive_or_is_all_phi():
    def differ(x):
        return ((x[:, :1] > 0) != (x[:, 1:] > 0)).to(x.dtype)

    found = causal_measures(differ, vector=True, in_shape=(2,), out_range=(0, 1), num_samples=20_000, **OPTIONS)
    assert found.parts.value.item() == pytest.approx(0, abs=0.02)
    assert found.phi.value.item() == pytest.approx(1, abs=0.03)
    assert found.effectiveness.value.item() == pytest.approx(1 / 6, abs=0.01)


def test_vector_is_that_of_effective_information():
    layer = layer_of(2, 2)
    found = causal_measures(layer, nn.Tanh(), vector=True, **OPTIONS)
    assert found.vector.value.item() == pytest.approx(
        effective_information(layer, nn.Tanh(), **OPTIONS).value.item(), abs=0.02
    )
    assert found.phi.value == found.vector.value - found.parts.value


@pytest.mark.parametrize(("number", "max_pairs"), [(None, None), (4_096, None), (4_096, 4)])
def test_sampled_parts_and_vector_share_their_samples(number, max_pairs):
    rows = []

    def mix(x):
        rows.append(len(x))
        return torch.stack([x[:, 0] * x[:, 1], x[:, 1], x.sum(1)], 1)

    options = {**OPTIONS, "in_shape": (2,), "out_range": (-1, 1), "num_samples": number, "max_pairs": max_pairs}
    causal_measures(mix, **options)
    pairs_alone = sum(rows)
    samples = number or 2**17
    drawn_for_pairs = number or 2**15
    rows.clear()
    found = causal_measures(mix, vector=True, **options)
    # In place of the samples for pairs, more of them; within 64 cells as many again; and a first look at the outputs.
    assert sum(rows) == pairs_alone - drawn_for_pairs + 2 * samples + min(1024, samples)
    assert found.parts.num_samples == found.vector.num_samples == samples
    apart = effective_information(mix, **{key: value for key, value in options.items() if key != "max_pairs"})
    assert abs(found.vector.value - apart.value) < 5 * (found.vector.std_error + apart.std_error)
    assert found.phi.std_error == pytest.approx(float(found.vector.std_error + found.parts.std_error))


def test_shared_samples_outside_the_range_count_to_the_outermost_bins_of_vectors_only():
    def wide(x):
        return 4 * x

    options = {"in_range": (-1, 1), "out_range": (-1, 1), "in_bins": 8, "out_bins": 8, "in_shape": (1,)}
    found = causal_measures(wide, vector=True, num_samples=20_000, **options)
    # Of 8 input bins the middle two reach the range: 1 bit, in halves of the range that 2 x 4 bins fill.
    assert float(found.parts.value) == pytest.approx(1, abs=0.02)
    # Of Y, 3/8 lie below and above and count to the ends; X leaves open only the 4 bins that each middle bin fills.
    lower = 3 / 8 + 1 / 32
    entropy = -2 * lower * math.log2(lower) - 6 / 32 * math.log2(1 / 32)
    assert float(found.vector.value) == pytest.approx(entropy - 2 / 8 * 2, abs=0.03)


def test_tolerances_hold_for_vectors_whose_samples_were_shared():
    options = {**OPTIONS, "in_shape": (2,), "out_range": (-1, 1), "rtol": 0.005, "num_samples": 1_000}
    found = causal_measures(lambda x: x * x, vector=True, **options)
    assert found.parts.std_error <= 0.005 * found.parts.value
    assert found.vector.std_error <= 0.005 * found.vector.value


def test_vectors_have_no_exact_method():
    with pytest.raises(ValueError, match=r"causal_measures\(method='exact'\): the entropy of vectors has no exact"):
        causal_measures(layer_of(2, 2), vector=True, method="exact", **OPTIONS)


def test_arguments_are_checked_under_its_own_name():
    with pytest.raises(ValueError, match=r"causal_measures\(max_pairs=0\): expected an integer of at least 1"):
        causal_measures(layer_of(2, 2), max_pairs=0, **OPTIONS)
    with pytest.raises(ValueError, match=r"causal_measures\(in_bins=1\)"):
        causal_measures(layer_of(2, 2), in_range=(0, 1), in_bins=1)


def test_sampled_totals_agree_with_exact_ones_within_their_error():
    layer, tanh = layer_of(5, 4), nn.Tanh()
    exact = causal_measures(layer, tanh, **OPTIONS)
    errors = []
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        sampled = causal_measures(layer, tanh, **OPTIONS, method="sampled", num_samples=2**14, generator=generator)
        assert sampled.parts.kind == "estimate"
        errors.append(float((sampled.parts.value - exact.parts.value) / sampled.parts.std_error))
        assert float(sampled.sensitivity.value) == pytest.approx(float(exact.sensitivity.value), rel=2e-3)
    # Standard errors from 8 blocks have 7 degrees of freedom: 10 such ratios stay below 5.4 with probability 0.99.
    assert max(abs(error) for error in errors) < 5.4


def test_exactness_is_told_before_measuring():
    assert has_exact_method(nn.Linear(2, 2), nn.Tanh())
    assert has_exact_method(nn.Conv2d(1, 2, 3), None)
    assert has_exact_method(nn.Linear(2, 2), nn.GELU())
    assert not has_exact_method(nn.Linear(2, 2), nn.Softmax(-1))
    assert not has_exact_method(nn.Bilinear(2, 2, 2), None)


def test_a_choice_of_outputs_of_a_sampled_layer_covers_the_whole_within_its_error():
    torch.manual_seed(2)
    layer, options = nn.Linear(6, 40), {"in_range": (-1, 1), "in_bins": 8, "out_bins": 8, "num_samples": 20_000}
    options |= {"out_range": (-1, 2), "method": "sampled"}
    whole = causal_measures(layer, nn.GELU(), **options)
    some = causal_measures(layer, nn.GELU(), max_pairs=120, **options)
    for measure in ("parts", "sensitivity", "degeneracy"):
        full, chosen = getattr(whole, measure), getattr(some, measure)
        assert chosen.std_error > 2 * full.std_error
        assert (chosen.value - full.value).abs() < 4 * chosen.std_error


def test_an_activation_that_mixes_the_outputs_sees_all_of_them():
    layer = nn.Linear(3, 10)
    problem = pose("test", layer, nn.Softmax(-1), in_range=(0, 1), out_range=None, in_bins=4, out_bins=4, method="auto")
    few, share = some_answers(problem, 12, torch.Generator().manual_seed(0))
    noise = torch.rand(5, 3)
    columns = layer(noise).softmax(-1).detach().T.tolist()
    assert share == 0.4
    assert all(
        any(column == pytest.approx(full, abs=1e-6) for full in columns) for column in few.layer(noise).T.tolist()
    )


def test_the_error_of_a_sampled_sensitivity_is_known():
    options = {"in_range": (-1, 1), "in_bins": 16, "out_bins": 16}
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    exact = causal_measures(layer, nn.Tanh(), **options).sensitivity
    sampled = causal_measures(layer, nn.Tanh(), method="sampled", num_samples=2_000, **options).sensitivity
    assert 0 < sampled.std_error < 0.02 * exact.value
    assert (sampled.value - exact.value).abs() < 3 * sampled.std_error
