import math

import pytest
import torch
from scipy import special, stats

from lightning_foresight.functional.effective_information.bias import (
    exponential_integral,
    less_null,
    mean_term,
    null_of_margins,
    null_of_uniform_inputs,
)
from lightning_foresight.functional.effective_information.pair_counts import count_pairs
from lightning_foresight.functional.effective_information.pair_information import (
    grassberger_information,
    grassberger_terms,
)


def test_exponential_integral_is_that_of_scipy():
    x = torch.logspace(-12, 2.5, 400, dtype=torch.float64)
    assert torch.allclose(exponential_integral(x), torch.tensor(special.exp1(x.numpy())), rtol=0, atol=3e-7)


def test_terms_follow_the_definition_of_grassberger():
    # G(1) = -gamma - ln 2, G(2) = G(1) + 2, G(3) = G(2), G(4) = G(3) + 2 / 3 (Grassberger 2003, eq. 35).
    g1 = -0.5772156649015329 - math.log(2)
    expected = [0, g1, 2 * (g1 + 2), 3 * (g1 + 2), 4 * (g1 + 2 + 2 / 3)]
    assert grassberger_terms(4, torch.device("cpu")).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("cells", "tolerance"), [(16, 4e-3), (64, 2.5e-4)])
def test_mean_term_is_that_of_a_binomial_count(cells, tolerance):
    terms = grassberger_terms(2_000, torch.device("cpu"))
    for samples in (0, 1, 2, 5, 30, 100, 2_000):
        chances = stats.binom.pmf(range(samples + 1), samples, 1 / cells)
        exact = (torch.tensor(chances) * terms[: samples + 1]).sum().item()
        found = mean_term(torch.tensor(samples / cells, dtype=torch.float64), 1 / cells)
        # What is left out is of order 1 / cells^2.
        assert found.item() == pytest.approx(exact, abs=tolerance)


@pytest.mark.parametrize("samples", [50, 500, 5_000])
def test_null_is_the_mean_over_independent_inputs(samples):
    generator = torch.Generator().manual_seed(samples)
    outputs = (torch.rand(samples, generator=generator) ** 3 * 16).long().unsqueeze(0)
    inputs = torch.randint(0, 16, (400, samples), generator=generator)
    terms = grassberger_terms(samples, inputs.device)
    tables = torch.cat([counts[:, 0, 0] for _, _, counts in count_pairs(inputs, outputs, 16, 16)])
    bits = grassberger_information(terms[tables].sum((-1, -2)), tables.sum(-1), tables.sum(-2), terms)
    null = null_of_uniform_inputs(tables[0].sum(0), 16, terms)
    assert null.item() == pytest.approx(bits.mean().item(), abs=4 * bits.std().item() / 20)


@pytest.mark.parametrize("samples", [60, 500, 5_000])
def test_null_of_margins_is_the_mean_over_permutations(samples):
    generator = torch.Generator().manual_seed(samples)
    outputs = (torch.rand(samples, generator=generator) ** 3 * 20).long().unsqueeze(0)
    inputs = (torch.rand(samples, generator=generator) ** 2 * 24).long()
    shuffled = torch.stack([inputs[torch.randperm(samples, generator=generator)] for _ in range(400)])
    terms = grassberger_terms(samples, inputs.device)
    tables = torch.cat([counts[:, 0, 0] for _, _, counts in count_pairs(shuffled, outputs, 24, 20)])
    bits = grassberger_information(terms[tables].sum((-1, -2)), tables.sum(-1), tables.sum(-2), terms)
    null = null_of_margins(tables[0].sum(1), tables[0].sum(0), terms)
    # Noise of the mean, and the second order in the share of a margin.
    assert null.item() == pytest.approx(bits.mean().item(), abs=4 * bits.std().item() / 20 + 0.02 * null.item())


@pytest.mark.parametrize("samples", [30, 60, 120])
def test_null_of_margins_of_few_samples_is_the_mean_of_hypergeometric_counts(samples):
    generator = torch.Generator().manual_seed(samples)
    rows, columns = (torch.bincount(torch.randint(0, 64, (samples,), generator=generator)) for _ in range(2))
    terms = grassberger_terms(samples, rows.device)
    shares = [
        list(zip(*(part.tolist() for part in margin.unique(return_counts=True)), strict=True))
        for margin in (rows, columns)
    ]
    cells = sum(
        times * repeats * (stats.hypergeom.pmf(range(samples + 1), samples, row, column) * terms.numpy()).sum()
        for row, times in shares[0]
        for column, repeats in shares[1]
    )
    nats = math.log(samples) + (cells - float(terms[rows].sum() + terms[columns].sum())) / samples
    # Of first order in the shares of margins. Were counts with given margins taken to be binomial, 1.3 to 1.4 / samples
    # would be missing.
    assert null_of_margins(rows, columns, terms).item() * math.log(2) == pytest.approx(nats, abs=0.5 / samples)


def test_null_is_subtracted_whole_where_nothing_is_shared_and_less_where_much_is():
    bits, null = torch.tensor([0.5, 3.0]), torch.tensor([0.5, 0.5])
    corrected = less_null(bits, null)
    assert corrected[0] == 0
    assert corrected[1] == pytest.approx(3 - 0.5 * 2**-2.5)
