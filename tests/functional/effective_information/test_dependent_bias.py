import math

import pytest
import torch

from lightning_foresight.functional.effective_information.dependent_bias import bias_of_dependent_pairs
from lightning_foresight.functional.effective_information.pair_information import (
    corrected_information,
    grassberger_information,
    grassberger_terms,
)


def tables_of(share, samples, number, seed=0):
    """Counts of independent draws from one joint distribution, with one more output bin that stays empty."""
    generator = torch.Generator().manual_seed(seed)
    cells = share.numel()
    codes = torch.multinomial(share.flatten(), samples * number, replacement=True, generator=generator)
    codes = codes.view(number, samples) + torch.arange(number).unsqueeze(1) * cells
    counts = torch.bincount(codes.flatten(), minlength=number * cells).view(number, 1, *share.shape)
    return torch.nn.functional.pad(counts, (0, 1))


def diagonal(bins, width):
    """Uniform inputs, outputs within a band around the diagonal."""
    place = torch.arange(bins, dtype=torch.float64)
    share = torch.exp(-0.5 * ((place[:, None] - place) / width) ** 2)
    return share / share.sum(1, keepdim=True) / bins


def bits_of(share):
    product = share.sum(1, keepdim=True) * share.sum(0, keepdim=True)
    return float(torch.xlogy(share, share / product).sum() / math.log(2))


@pytest.mark.parametrize(("samples", "width"), [(300, 6.0), (1_000, 6.0), (1_000, 12.0), (4_000, 3.0)])
def test_the_bias_of_dependent_pairs_is_found(samples, width):
    share = diagonal(32, width)
    counts = tables_of(share, samples, 300)
    terms = grassberger_terms(samples, counts.device)
    raw = grassberger_information(counts, terms).flatten()
    chosen, bias = bias_of_dependent_pairs(counts.flatten(0, 1), uniform_inputs=True)
    assert len(chosen) == 300
    left = float((raw - bias).mean()) - bits_of(share)
    # Half of the bias at the least, or what 300 tables cannot tell from none.
    assert abs(left) < max(0.5 * abs(float(raw.mean()) - bits_of(share)), 4 * float(raw.std()) / 300**0.5)


def test_independent_pairs_are_left_to_the_null():
    share = torch.full((32, 32), 1 / 1024, dtype=torch.float64)
    chosen, bias = bias_of_dependent_pairs(tables_of(share, 500, 1_000).flatten(0, 1), uniform_inputs=True)
    assert len(chosen) <= 2
    assert len(bias) == len(chosen)


@pytest.mark.parametrize("bins", [2, 3, 5, 17])
def test_any_number_of_bins_will_do(bins):
    counts = tables_of(diagonal(bins, 0.5), 200, 20)
    terms = grassberger_terms(200, counts.device)
    bits = corrected_information(counts, terms, dropped=False)
    assert bits.mean() == pytest.approx(bits_of(diagonal(bins, 0.5)), abs=0.05)
