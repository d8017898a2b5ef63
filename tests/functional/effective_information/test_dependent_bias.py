import math

import pytest
import torch

from lightning_foresight.functional.effective_information.dependent_bias import Coarsening, bias_of_dependent_pairs
from lightning_foresight.functional.effective_information.pair_information import (
    corrected_information,
    grassberger_information,
    grassberger_terms,
)


def tables_of(share, samples, number, seed=0):
    """Counts ``(number, 1, in_bins, out_bins)`` of independent draws from one joint distribution."""
    generator = torch.Generator().manual_seed(seed)
    cells = share.numel()
    codes = torch.multinomial(share.flatten(), samples * number, replacement=True, generator=generator)
    codes = codes.view(number, samples) + torch.arange(number).unsqueeze(1) * cells
    return torch.bincount(codes.flatten(), minlength=number * cells).view(number, 1, *share.shape)


def bias_of(counts, *, uniform_inputs=True):
    coarse = Coarsening(*counts.shape[-2:], counts.device)(counts)
    return bias_of_dependent_pairs(coarse, counts.sum(-1), counts.sum(-2), uniform_inputs=uniform_inputs)


def raw_bits(counts):
    terms = grassberger_terms(int(counts.sum((-1, -2)).max()), counts.device)
    return grassberger_information(terms[counts].sum((-1, -2)), counts.sum(-1), counts.sum(-2), terms)


def diagonal(bins, width):
    """Uniform inputs, outputs within a band around the diagonal."""
    place = torch.arange(bins, dtype=torch.float64)
    share = torch.exp(-0.5 * ((place[:, None] - place) / width) ** 2)
    return share / share.sum(1, keepdim=True) / bins


def bits_of(share):
    product = share.sum(1, keepdim=True) * share.sum(0, keepdim=True)
    return float(torch.xlogy(share, share / product).sum() / math.log(2))


@pytest.mark.parametrize("uniform_inputs", [True, False])
@pytest.mark.parametrize(("samples", "width"), [(300, 6.0), (1_000, 6.0), (1_000, 12.0), (4_000, 3.0)])
def test_the_bias_of_dependent_pairs_is_found(samples, width, uniform_inputs):
    share = diagonal(32, width)
    counts = tables_of(share, samples, 300)
    raw = raw_bits(counts).flatten()
    chosen, bias = bias_of(counts, uniform_inputs=uniform_inputs)
    assert len(chosen[0]) == 300
    left = float((raw - bias).mean()) - bits_of(share)
    # Half of the bias at the least, or what 300 tables cannot tell from none.
    assert abs(left) < max(0.5 * abs(float(raw.mean()) - bits_of(share)), 4 * float(raw.std()) / 300**0.5)


def test_bins_of_a_group_worked_out_once_give_what_all_of_them_give():
    counts = tables_of(diagonal(30, 4.0), 900, 1)
    even = torch.full((30,), 30)
    coarse = Coarsening(30, 30, counts.device)(counts)
    once, all_bins = (
        bias_of_dependent_pairs(coarse, even, counts.sum(-2), uniform_inputs=uniform)[1] for uniform in (True, False)
    )
    assert torch.allclose(once, all_bins, rtol=1e-4)


@pytest.mark.parametrize("bins", [(16, 16), (20, 18), (3, 40), (64, 65)])
def test_coarse_tables_hold_all_counts_in_bins_of_neighbours(bins):
    counts = torch.randint(0, 9, (2, 3, *bins), generator=torch.Generator().manual_seed(0))
    coarsen = Coarsening(*bins, counts.device)
    expected = torch.zeros(2, 3, coarsen.size, coarsen.size)
    for j in range(bins[0]):
        for k in range(bins[1]):
            expected[:, :, j * coarsen.size // bins[0], k * coarsen.size // bins[1]] += counts[:, :, j, k]
    assert torch.equal(coarsen(counts), expected)


def test_independent_pairs_are_left_to_the_null():
    share = torch.full((32, 32), 1 / 1024, dtype=torch.float64)
    chosen, bias = bias_of(tables_of(share, 500, 1_000))
    assert len(chosen[0]) <= 2
    assert len(bias) == len(chosen[0])


@pytest.mark.parametrize("bins", [2, 3, 5, 17])
def test_any_number_of_bins_will_do(bins):
    counts = tables_of(diagonal(bins, 0.5), 200, 20)
    terms = grassberger_terms(200, counts.device)
    bits = corrected_information(counts, terms)
    assert bits.mean() == pytest.approx(bits_of(diagonal(bins, 0.5)), abs=0.05)
