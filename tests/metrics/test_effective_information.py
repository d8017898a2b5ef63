import math
import pickle

import pytest
import torch
from torch import nn

from lightning_foresight.functional import ei_parts
from lightning_foresight.metrics import EffectiveInformation


def noise_of(samples, width, seed=0):
    return torch.rand(samples, width, generator=torch.Generator().manual_seed(seed))


def metric_of(**options):
    return EffectiveInformation(
        3, 2, **{"in_range": (0, 1), "out_range": (0, 1), "in_bins": 8, "out_bins": 8, **options}
    )


def layer_of():
    layer = nn.Linear(3, 2)
    layer.weight.data = torch.tensor([[2.0, -1.0, 0.5], [0.3, 1.0, -3.0]])
    layer.bias.data = torch.tensor([-0.5, 0.5])
    return layer


@torch.no_grad()
def test_batches_come_to_the_exact_value_of_the_layer():
    layer, total, pairs = layer_of(), metric_of(), metric_of(reduction="none")
    for seed in range(5):
        noise = noise_of(10_000, 3, seed)
        for metric in (total, pairs):
            metric.update(noise, torch.sigmoid(layer(noise)))
    exact = ei_parts(layer, nn.Sigmoid(), in_range=(0, 1), in_bins=8, out_bins=8)
    found = pairs.compute()
    assert ((found.value - exact).abs() < 5 * found.std_error + 1e-4).all()
    assert total.compute().value.item() == pytest.approx(found.value.sum().item(), abs=1e-6)
    assert total.compute().num_samples == 50_000


@torch.no_grad()
def test_counts_of_two_ranks_add_up():
    layer, ranks, whole = layer_of(), [metric_of(), metric_of()], metric_of()
    for seed, metric in enumerate(ranks):
        noise = noise_of(500, 3, seed)
        metric.update(noise, torch.sigmoid(layer(noise)))
        whole.update(noise, torch.sigmoid(layer(noise)))
    assert torch.equal(ranks[0].counts + ranks[1].counts, whole.counts)
    ranks[0].merge_state(ranks[1])
    assert ranks[0].compute().value == whole.compute().value


def test_reset_clone_and_pickle_keep_what_they_should():
    metric = metric_of()
    metric.update(noise_of(100, 3), noise_of(100, 2))
    value = metric.compute().value
    assert metric.clone().compute().value == value
    assert pickle.loads(pickle.dumps(metric)).compute().value == value
    metric.reset()
    assert metric.counts.sum() == metric.num_samples == 0


def test_outputs_outside_the_range_are_dropped():
    metric = EffectiveInformation(1, 1, in_range=(0, 1), out_range=(0, 1), in_bins=8, out_bins=4)
    noise = noise_of(20_000, 1)
    metric.update(noise, 2 * noise)
    assert metric.compute().value.item() == pytest.approx(2, abs=0.01)


def test_standard_error_is_the_spread_over_repetitions():
    values, errors = [], []
    for seed in range(40):
        metric = EffectiveInformation(1, 1, in_range=(0, 1), out_range=(0, 2), in_bins=4, out_bins=4)
        noise = noise_of(2_000, 2, seed)
        metric.update(noise[:, :1], noise.sum(1, keepdim=True))
        values.append(metric.compute().value)
        errors.append(metric.compute().std_error)
    ratio = torch.stack(errors).mean() / torch.stack(values).std()
    # A spread from 40 runs is known to 11%.
    assert 0.65 < ratio < 1.5


def test_few_samples_are_reported_as_saturated():
    metric = EffectiveInformation(1, 1, in_range=(0, 1), out_range=(0, 1), in_bins=64, out_bins=64)
    metric.update(noise_of(64, 1), noise_of(64, 1, seed=1))
    assert metric.compute().saturation > 0.95
    coarse = EffectiveInformation(1, 1, in_range=(0, 1), out_range=(0, 1), in_bins=2, out_bins=2)
    coarse.update(noise_of(4096, 1), noise_of(4096, 1, seed=1))
    assert coarse.compute().saturation.item() == pytest.approx(2 / math.log2(4096), abs=0.01)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"in_bins": 1}, r"EffectiveInformation\(in_bins=1\): expected an integer of at least 2"),
        ({"out_range": (0, 0)}, r"EffectiveInformation\(out_range=\(0, 0\)\): expected a pair"),
        ({"reduction": "mean"}, r"reduction='mean'\): expected one of 'sum', 'none'"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(options, text):
    with pytest.raises(ValueError, match=text):
        metric_of(**options)


def test_batches_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"update\(inputs\): got a tensor of shape \(4, 5\).*3 numbers per sample"):
        metric_of().update(torch.rand(4, 5), torch.rand(4, 2))
    with pytest.raises(ValueError, match=r"got 4 and 3 samples; expected one row of outputs"):
        metric_of().update(torch.rand(4, 3), torch.rand(3, 2))
    with pytest.raises(ValueError, match=r"dtype int64; expected floating-point numbers"):
        metric_of().update(torch.zeros(4, 3, dtype=torch.long), torch.rand(4, 2))
