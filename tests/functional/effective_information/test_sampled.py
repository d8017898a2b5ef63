import math
import warnings

import pytest
import torch
from torch import nn

from lightning_foresight.functional import causal_measures, ei_parts, sensitivity
from lightning_foresight.functional.effective_information import sampled
from lightning_foresight.functional.effective_information.pair_counts import count_pairs
from lightning_foresight.functional.effective_information.problem import pose
from lightning_foresight.functional.effective_information.sampled import (
    _extrapolated,
    bias_left,
    sampled_parts,
    unseen_bits,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def layer_of(inputs, outputs, seed=0):
    generator = seeded(seed)
    layer = nn.Linear(inputs, outputs)
    layer.weight.data = torch.rand(outputs, inputs, generator=generator) * 4 - 2
    layer.bias.data = torch.rand(outputs, generator=generator) - 0.5
    return layer


def test_counts_of_every_pair_are_those_of_a_loop():
    generator = seeded()
    x = torch.randint(0, 5, (3, 400), generator=generator)
    y = torch.randint(0, 8, (4, 400), generator=generator)  # 7 marks what is dropped
    seen = torch.zeros(3, 4, 2, 5, 7, dtype=torch.int32)
    for in_part, out_part, counts in count_pairs(x, y, 5, 7, blocks=2):
        assert counts.shape[4] == 8
        assert not counts[..., 7].any()
        seen[in_part, out_part] = counts[..., :7]
    for a in range(3):
        for b in range(4):
            for sample in range(400):
                if y[b, sample] < 7:
                    seen[a, b, sample // 200, x[a, sample], y[b, sample]] -= 1
    assert not seen.any()


@pytest.mark.parametrize(
    ("inputs", "outputs", "samples", "bins", "blocks"),
    [(1, 1, 50, (64, 64), 1), (23, 1, 300, (64, 64), 1), (9, 17, 100, (40, 30), 3), (2, 3, 300_000, (3, 4), 1),
     (2, 3, 200, (200, 300), 1)],
)  # fmt: skip
def test_pairs_counted_together_are_told_apart(inputs, outputs, samples, bins, blocks):
    generator = seeded()
    x = torch.randint(0, bins[0], (inputs, samples), generator=generator)
    y = torch.randint(0, bins[1], (outputs, samples), generator=generator)
    seen = 0
    for in_part, out_part, counts in count_pairs(x, y, *bins, blocks, dropped=False):
        for block in range(blocks):
            part = slice(-(-samples * block // blocks), -(-samples * (block + 1) // blocks))
            for a, some in zip(x[in_part, part], counts, strict=True):
                for b, table in zip(y[out_part, part], some, strict=True):
                    alone = torch.bincount(a * bins[1] + b, minlength=bins[0] * bins[1])
                    assert torch.equal(table[block].flatten(), alone)
                    seen += 1
    assert seen == inputs * outputs * blocks


@pytest.mark.parametrize("activation", [nn.Sigmoid(), nn.ReLU()], ids=str)
def test_sampled_parts_come_to_the_exact_ones(activation):
    layer = layer_of(6, 4)
    options = {"in_range": (-1, 1), "in_bins": 16, "out_bins": 16}
    exact = ei_parts(layer, activation, **options)
    sampled = ei_parts(layer, activation, method="sampled", num_samples=40_000, generator=seeded(), **options)
    # Spread of a plug-in estimate with what its correction leaves, 5 standard errors.
    assert ((sampled - exact).abs() < 5 * ((2 * exact / 40_000).sqrt() / math.log(2) + 1e-3)).all()
    # One pair's noise does not hide a bias common to all of them.
    assert (sampled - exact).mean().abs() < 1e-3


# Root mean square errors of the sums of deep-ei 0.7.0 with 100,000 samples: benchmarks/effective_information.py.
@pytest.mark.parametrize(("shape", "deep_ei"), [((5, 5), 0.39), ((20, 10), 3.8), ((64, 32), 39.5)])
def test_a_hundredth_of_the_samples_of_deep_ei_is_enough(shape, deep_ei):
    layer = nn.Linear(*shape, bias=False)
    bound = 3 / shape[0] ** 0.5
    layer.weight.data = (torch.rand(shape[1], shape[0], generator=seeded()) * 2 - 1) * bound
    truth = ei_parts(layer, nn.Sigmoid(), in_range=(0, 1)).sum()
    options = {"in_range": (0, 1), "method": "sampled", "num_samples": 1_000}
    seeds = range(12 if shape == (5, 5) else 2)
    errors = [ei_parts(layer, nn.Sigmoid(), generator=seeded(seed), **options).sum() - truth for seed in seeds]
    # A fifth more than deep-ei's: so well the error is known from so few runs.
    assert torch.stack(errors).square().mean().sqrt() < 1.2 * deep_ei


@pytest.mark.parametrize("measure", [sensitivity, causal_measures])
def test_the_cost_of_many_inputs_is_told_before_it_is_paid(monkeypatch, measure):
    options = {"in_range": (0, 1), "in_bins": 4, "out_bins": 4, "method": "sampled", "num_samples": 128}
    monkeypatch.setattr(sampled, "LONG_NUMBERS", 8 * 5**2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure(layer_of(5, 2), **options)
        measure(layer_of(6, 2), **{**options, "method": "exact"})
    with pytest.warns(UserWarning, match=r"each of 6 inputs is perturbed alone, 2.9e\+02 numbers.*; 5 inputs pass"):
        measure(layer_of(6, 2), **options)


def test_independent_outputs_have_no_information():
    def noise(x):
        return torch.rand(len(x), 3)

    bits = ei_parts(
        noise, in_range=(0, 1), out_range=(0, 1), in_bins=16, out_bins=16, in_shape=(4,), num_samples=20_000
    )
    assert bits.abs().max() < 5e-3


def test_sampled_sensitivity_comes_to_the_exact_one():
    layer = layer_of(5, 3)
    options = {"in_range": (-1, 1), "in_bins": 16, "out_bins": 16}
    exact = sensitivity(layer, nn.Tanh(), **options)
    # 1,024 points a bin: an edge of an output bin lies up to one point off.
    assert torch.allclose(sensitivity(layer, nn.Tanh(), method="sampled", **options), exact, rtol=0, atol=5e-3)


@pytest.mark.parametrize("activation", [nn.Tanhshrink(), nn.Softmax(-1)], ids=str)
def test_auto_samples_where_the_activation_has_no_rule(activation):
    layer = layer_of(4, 3)
    options = {"in_range": (-1, 1), "out_range": (-1, 1), "in_bins": 8, "out_bins": 8, "num_samples": 5_000}
    auto = ei_parts(layer, activation, **options)
    assert torch.equal(auto, ei_parts(layer, activation, method="sampled", **options))
    assert auto.shape == sensitivity(layer, activation, **options).shape == (4, 3)


def test_a_span_of_layers_is_measured_as_one():
    # Two mirrors in a row are no mirror: each part alone would tell nothing of that.
    mirror = nn.Linear(2, 2, bias=False)
    mirror.weight.data = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    span = nn.Sequential(mirror, nn.Identity(), mirror)
    bits = ei_parts(span, in_range=(0, 1), out_range=(0, 1), in_bins=4, out_bins=4, in_shape=(2,), num_samples=4_000)
    assert torch.allclose(bits, 2 * torch.eye(2), atol=0.01)


def test_dropout_in_training_mode_loses_information_and_leaves_the_global_state_alone():
    span = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    span[0].weight.data = torch.eye(3)
    options = {"in_range": (-1, 1), "out_range": (-2, 2), "in_bins": 8, "out_bins": 8, "in_shape": (3,)}
    quiet = ei_parts(span.eval(), num_samples=5_000, **options).sum()
    state = torch.get_rng_state()
    noisy = ei_parts(span.train(), num_samples=5_000, **options).sum()
    assert torch.equal(torch.get_rng_state(), state)
    assert noisy < 0.7 * quiet


def test_same_generator_gives_the_same_result():
    layer = layer_of(3, 2)
    options = {"in_range": (0, 1), "in_bins": 8, "out_bins": 8, "method": "sampled", "num_samples": 1_000}
    first, again, other = (ei_parts(layer, generator=seeded(seed), **options) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_extrapolation_is_the_end_of_the_line_through_all_halves_and_quarters():
    bias = torch.tensor([[0.3, -2.0]])
    line, doubt = _extrapolated([5 + bias * share for share in (1, 2, 4)])
    assert torch.allclose(line, torch.full_like(bias, 5.0))
    assert doubt.abs().max() < 1e-5
    assert _extrapolated([5 + bias * share**2 for share in (1, 2, 4)])[1].abs().min() > 0.1


@pytest.mark.parametrize(("shape", "bins"), [((5, 5), 32), ((4, 3), 16)])
def test_extrapolated_sums_lie_within_their_error_of_the_exact_one(shape, bins):
    layer = layer_of(*shape)
    options = {"in_range": (-1, 1), "in_bins": bins, "out_bins": bins}
    truth = float(ei_parts(layer, nn.Tanh(), **options).sum())
    found = causal_measures(
        layer, nn.Tanh(), method="sampled", num_samples=20_000, extrapolate=True, generator=seeded(), **options
    ).parts
    assert abs(float(found.value) - truth) < 4 * float(found.std_error)
    assert 0 < float(found.std_error) < 0.05 * truth
    tensor = ei_parts(
        layer, nn.Tanh(), method="sampled", num_samples=20_000, extrapolate=True, generator=seeded(), **options
    )
    assert float(tensor.sum()) == pytest.approx(float(found.value), abs=0.05 * truth)


def test_extrapolate_must_be_a_yes_or_a_no():
    with pytest.raises(TypeError, match=r"ei_parts\(extrapolate='yes'\): expected True or False"):
        ei_parts(layer_of(2, 2), in_range=(0, 1), extrapolate="yes")


def test_rtol_adds_samples_until_the_standard_error_is_small():
    problem = pose(
        "test", layer_of(5, 3), nn.Sigmoid(), in_range=(0, 1), out_range=None, in_bins=8, out_bins=8, method="sampled"
    )
    pairs = sampled_parts("test", problem, 1_000, 0.01, seeded())
    assert pairs.num_samples > 1_000
    assert pairs.total_std_error <= 0.01 * pairs.bits.sum()


def test_standard_error_by_blocks_is_the_spread_over_repetitions():
    problem = pose(
        "test", layer_of(5, 3), nn.Sigmoid(), in_range=(0, 1), out_range=None, in_bins=8, out_bins=8, method="sampled"
    )
    runs = [sampled_parts("test", problem, 8_192, 0.9, seeded(seed)) for seed in range(30)]
    spread = torch.stack([run.bits.sum() for run in runs]).std()
    claimed = torch.stack([run.total_std_error for run in runs]).mean()
    # 8 blocks have 7 degrees of freedom, 30 runs a spread known to 13%; small blocks are a little noisier.
    assert 0.7 < claimed / spread < 1.6


def test_what_no_sample_shows_is_part_of_the_error():
    layer = nn.Linear(4, 2, bias=False)
    nn.init.constant_(layer.weight, 0.01)
    # All outputs lie in one bin: no sample says more, and whatever lies beyond them is a share of about 1 / N.
    options = {"in_range": (0, 1), "out_range": (0, 8), "in_bins": 8, "out_bins": 8, "method": "sampled"}
    found = causal_measures(layer, num_samples=256, **options).parts
    assert found.value == pytest.approx(0, abs=1e-6)
    assert found.std_error == pytest.approx(2 * 2 * 8 / 256)
    assert found.num_samples == 256
    assert unseen_bits(torch.tensor([256, 1_024])).tolist() == [2 * 8 / 256, 2 * 10 / 1_024]


def test_where_few_outputs_are_kept_the_change_between_blocks_and_all_samples_is_part_of_the_error():
    bits, by_block = torch.tensor([[1.0, 2.0]]), torch.tensor([[[3.0, 4.0], [2.0, 2.5]]])
    kept = torch.tensor([20, 90])
    assert bias_left(bits, by_block, kept, 10) == 0
    assert bias_left(bits, by_block, kept, 50) == 2.5
    assert bias_left(bits, by_block, kept, 100) == 2.75


# Without what no sample shows, half of the intervals held; a layer with most outputs dropped, a fifth.
@pytest.mark.parametrize(("scale", "activation", "most_missed"), [(0.025, nn.Sigmoid(), 1), (20.0, None, 5)])
def test_intervals_hold_where_little_is_shared_and_samples_are_few(scale, activation, most_missed):
    generator = seeded(1)
    layer = nn.Linear(4, 2)
    layer.weight.data = (torch.rand(2, 4, generator=generator) * 2 - 1) * scale
    layer.bias.data = torch.zeros(2)
    truth = float(ei_parts(layer, activation, in_range=(-1, 1)).sum())
    missed = 0
    for seed in range(20):
        options = {"method": "sampled", "num_samples": 128, "generator": seeded(seed)}
        low, high = causal_measures(layer, activation, in_range=(-1, 1), **options).parts.interval()
        missed += not low <= truth <= high
    assert missed <= most_missed


def test_half_and_double_precision_layers_are_measured_in_a_type_that_holds_bits():
    for dtype, tolerance in ((torch.bfloat16, 0.05), (torch.float64, 0.05)):
        layer = layer_of(4, 2).to(dtype)
        options = {"in_range": (-1, 1), "in_bins": 8, "out_bins": 8}
        sampled = ei_parts(layer, nn.Tanh(), method="sampled", num_samples=20_000, **options)
        assert sampled.dtype == torch.promote_types(dtype, torch.float32)
        assert torch.allclose(sampled, ei_parts(layer, nn.Tanh(), **options), atol=tolerance)


def test_where_most_outputs_are_dropped_the_bias_of_the_others_is_subtracted():
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data = torch.tensor([[8.0, 9.0]])  # 1 output in 144 lies within the range
    options = {"in_range": (0, 1), "out_range": (0, 1)}
    exact = ei_parts(layer, nn.ReLU(), **options)
    sampled = ei_parts(layer, nn.ReLU(), method="sampled", num_samples=30_000, generator=seeded(), **options)
    # 210 samples are left, about as many as cells: enough for a tenth of a bit or two.
    assert (sampled - exact).abs().max() < 0.2
