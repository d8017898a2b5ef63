import numpy as np
import pytest
import torch
from torch import nn

from lightning_foresight.functional import ei_parts, sensitivity
from lightning_foresight.functional.effective_information.preimages import has_valley, preimages
from tests.reference.effective_information_dense import overlap_sensitivity, rational_parts

VALLEYS = [nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.SiLU(inplace=True), nn.Mish(), nn.Hardswish()]
RANGES = [(-0.5, 3.0), (-0.1, 3.0), (-0.2, 0.0), (0.0, 2.0), (-3.0, -0.2), (1.0, 2.0)]


@pytest.mark.parametrize("out_range", RANGES, ids=str)
@pytest.mark.parametrize("activation", VALLEYS, ids=str)
def test_intervals_lead_into_the_bins_of_the_histogram(activation, out_range):
    found = preimages(None, activation, out_range, 6)
    # Beyond -8.4 GELU is rounded to -0, which numpy counts as 0.
    z = torch.linspace(-20, 6, 14001, dtype=torch.float64)
    place = torch.searchsorted(found.edges, z, right=True) - 1
    inside = (place >= 0) & (place < len(found.bins))
    counts = found.bins[place.clamp(0, len(found.bins) - 1)][inside].sum(0)
    expected, _ = np.histogram(activation(z.clone()).numpy(), bins=6, range=out_range)
    assert (found.edges[1:] >= found.edges[:-1]).all()
    # Grid points on an edge may round to either side, at both of its places.
    assert np.abs(counts.numpy() - expected).max() <= 2


@pytest.mark.parametrize("inputs", [1, 2, 4])
@pytest.mark.parametrize("activation", [nn.GELU(), nn.SiLU(inplace=True), nn.Hardswish()], ids=str)
def test_pairs_equal_rational_arithmetic(activation, inputs):
    torch.manual_seed(inputs)
    layer = nn.Linear(inputs, 2).double()
    layer.weight.data.mul_(4)
    out_range, in_range = (-0.3, 1.5), (-1.0, 0.5)
    options = {"in_range": in_range, "out_range": out_range, "in_bins": 5, "out_bins": 4}
    edges, bins = preimages(None, activation, out_range, 4)
    reference = layer.weight.tolist(), layer.bias.tolist(), edges.tolist(), in_range, 5, bins.numpy()
    # As for monotone activations: twenty cells whose probabilities err by 2e-12 at most.
    exact = torch.tensor(rational_parts(*reference))
    assert torch.allclose(ei_parts(layer, activation, method="exact", **options), exact, rtol=0, atol=1e-9)
    alone = torch.tensor(overlap_sensitivity(*reference))
    assert torch.allclose(sensitivity(layer, activation, method="exact", **options), alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("activation", "reach"), [(nn.GELU(), 40.0), (nn.SiLU(), 800.0), (nn.Mish(), 800.0)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_what_is_rounded_to_zero_counts_as_the_histogram_counts_it(activation, reach, dtype):
    layer = nn.Linear(1, 1).to(dtype)
    layer.weight.data.fill_(reach)
    layer.bias.data.fill_(-reach / 4)
    options = {"in_range": (-1, 1), "in_bins": 16, "out_bins": 17}
    for out_range in ((0, reach), (-1, 16)):  # 0 is an edge of both
        bits = {}
        for method in ("exact", "sampled"):
            bits[method] = ei_parts(layer, activation, out_range=out_range, method=method, **options)
            bits[method, "alone"] = sensitivity(layer, activation, out_range=out_range, method=method, **options)
        # 32,768 samples or 4,096 places of an input that tells up to four bits.
        assert torch.allclose(bits["exact"], bits["sampled"], rtol=0, atol=0.03)
        assert torch.allclose(bits["exact", "alone"], bits["sampled", "alone"], rtol=0, atol=0.03)


def test_wide_layers_come_to_what_sampling_finds():
    torch.manual_seed(0)
    layer = nn.Linear(48, 8)
    options = {"in_range": (-2, 2), "out_range": (-0.2, 2), "in_bins": 8, "out_bins": 8}
    exact = ei_parts(layer, nn.GELU(), method="exact", **options)
    sampled = ei_parts(layer, nn.GELU(), method="sampled", num_samples=100_000, **options)
    # Pairs of 0.01 bits err by sqrt(2 I / N) / ln 2, 6e-4 bits.
    assert torch.allclose(exact, sampled, rtol=0, atol=3e-3)
    assert (exact - sampled).mean().abs() < 2e-4


def test_only_activations_with_one_minimum_are_followed():
    assert has_valley(nn.SiLU())
    assert not any(has_valley(activation) for activation in (None, nn.ReLU(), nn.Softmax(-1), nn.Softshrink()))
