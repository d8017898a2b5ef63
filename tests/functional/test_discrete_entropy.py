from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_foresight.functional import discrete_entropy
from tests.reference import discrete_entropies as slow

COUNTS = [
    [5],
    [1, 1],
    [3, 1, 1],
    [4, 2, 1, 1],
    [10, 10, 10, 10],
    [50, 7, 2, 2, 1],
    [2, 2, 2],
    [1, 1, 1, 1, 2],
    [400, 1, *[2] * 60],
]
TWINS = {
    "none": slow.plug_in,
    "miller_madow": slow.miller_madow,
    "jackknife": slow.jackknife,
    "grassberger": slow.grassberger,
    "chao_shen": slow.chao_shen,
    "chao_wang_jost": slow.chao_wang_jost,
}


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("correction", list(TWINS))
def test_value_is_that_of_the_published_formula(correction: str, counts: list[int]) -> None:
    value = discrete_entropy(torch.tensor(counts), correction, base=math.e).value.item()
    assert value == pytest.approx(float(TWINS[correction](counts)), abs=1e-11)


@pytest.mark.parametrize(("counts", "num_cells"), [([4, 2, 1, 1], 6), ([1, 1, 1], 20), ([30, 5], 2), ([9, 0, 3], 3)])
def test_nsb_is_the_integral_over_all_concentrations(counts: list[int], num_cells: int) -> None:
    value = discrete_entropy(torch.tensor(counts), "nsb", base=math.e, num_cells=num_cells).value.item()
    # The grid stops where the weight is e^-35 of its peak, and its step is a fraction of the peak's width.
    assert value == pytest.approx(float(slow.nsb(counts, num_cells)), abs=1e-6)


def test_nsb_counts_given_empty_cells_as_possible() -> None:
    few = discrete_entropy(torch.tensor([3, 2]), "nsb").value
    more = discrete_entropy(torch.tensor([3, 2, 0, 0, 0]), "nsb").value
    assert more > few
    assert more.item() == pytest.approx(discrete_entropy(torch.tensor([3, 2]), "nsb", num_cells=5).value.item())


@pytest.mark.parametrize("correction", [*TWINS, "nsb"])
def test_batches_and_padding_leave_each_row_as_it_is(correction: str) -> None:
    rows = [[4, 2, 1, 1, 0], [7, 0, 1, 0, 3]]
    batch = discrete_entropy(torch.tensor(rows), correction).value
    for row, value in zip(rows, batch, strict=True):
        alone = row if correction == "nsb" else [c for c in row if c]
        assert discrete_entropy(torch.tensor(alone), correction).value.item() == pytest.approx(value.item(), abs=1e-12)


@pytest.mark.parametrize(
    "correction", ["miller_madow", "grassberger", "chao_shen", "chao_wang_jost", "nsb", "jackknife"]
)
def test_correction_is_nearer_to_the_truth_than_plug_in(correction: str) -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.arange(200) + 1.0
    p = p / p.sum()
    truth = float(-(p * p.log2()).sum())
    samples = torch.multinomial(p, 150 * 60, replacement=True, generator=generator).view(60, 150)
    counts = torch.nn.functional.one_hot(samples, 200).sum(1)
    error = {name: (discrete_entropy(counts, name).value - truth).mean().abs() for name in ("none", correction)}
    assert error[correction] < 0.6 * error["none"]


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(1, 50), min_size=1, max_size=12), correction=st.sampled_from([*TWINS, "nsb"]))
def test_order_of_cells_does_not_matter_and_values_are_finite(counts: list[int], correction: str) -> None:
    value = discrete_entropy(torch.tensor(counts), correction).value.item()
    assert math.isfinite(value)
    assert value == pytest.approx(discrete_entropy(torch.tensor(counts[::-1]), correction).value.item(), abs=1e-9)


def test_all_singletons_are_saturated() -> None:
    estimate = discrete_entropy(torch.ones(64))
    assert estimate.saturation.item() == 1.0
    assert estimate.value.item() == pytest.approx(6.0)
    assert estimate.num_samples.item() == 64


def test_large_samples_with_many_unseen_cells_stay_finite() -> None:
    # The published form of Chao-Wang-Jost overflows here: (1 - A)^(1 - n) with n A = 2e4.
    counts = torch.cat([torch.ones(1), torch.full((10_000,), 2.0), torch.tensor([1e6])])
    assert torch.isfinite(discrete_entropy(counts, "chao_wang_jost").value)


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ([1, -1], {}, r"discrete_entropy\(counts\): got a tensor of shape \(2,\).*negative"),
        ([0, 0], {}, r"no samples; expected how often"),
        ([1, 2], {"correction": "magic"}, r"correction='magic'\): expected one of 'none', 'miller_madow'"),
        ([1, 2], {"base": 1}, r"base=1\): expected a number above 1"),
        ([1, 2, 3], {"correction": "nsb", "num_cells": 2}, r"num_cells=2\): expected at least the 3 cells"),
    ],
)
def test_bad_input_is_named_with_what_would_do(counts: list[int], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        discrete_entropy(torch.tensor(counts), **options)


def test_nsb_with_countless_possible_cells_stays_finite_and_above_plug_in() -> None:
    counts = torch.tensor([3, 2, 1, 1, 1])
    values = [discrete_entropy(counts, "nsb", num_cells=k).value.item() for k in (1e3, 1e9, 1e100)]
    assert all(math.isfinite(v) for v in values)
    assert values == sorted(values)
    assert values[0] > discrete_entropy(counts).value.item()
