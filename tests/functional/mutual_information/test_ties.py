"""Discrete values that are stored as floats are discrete."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import one_hot

from lightning_foresight.functional import mutual_information
from lightning_foresight.functional.mutual_information._ties import has_many_ties, ranks, values_of


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def entropy_of_rows(rows: torch.Tensor) -> float:
    shares = rows.unique(dim=0, return_counts=True)[1].double() / rows.shape[0]
    return float(-(shares * shares.log2()).sum())


def test_one_hot_rows_in_floats_read_as_in_integers() -> None:
    classes = one_hot(torch.arange(999) % 3, 3)
    of_floats, of_integers = (mutual_information(each, each) for each in (classes.float(), classes))
    assert of_floats.value.item() == pytest.approx(math.log2(3), abs=1e-3)
    assert of_floats.value.item() == pytest.approx(of_integers.value.item(), abs=1e-12)


def test_rounded_rows_are_counted() -> None:
    x = normal(400, 3).round()
    estimate = mutual_information(x, x)
    # The entropy of three rounded normal variables; few rows occur often, so that it reads low and says so.
    truth = 3 * 2.1048
    assert entropy_of_rows(x) <= estimate.value <= truth
    assert estimate.kind == "not_valid"


def test_discrete_floats_are_labels_to_continuous_samples() -> None:
    labels = torch.arange(600) % 3
    other = normal(600, 2) + labels.unsqueeze(1)
    of_floats, of_labels = mutual_information(one_hot(labels).float(), other), mutual_information(labels, other)
    assert of_floats.method == of_labels.method
    # Ranks number the classes otherwise, which only changes the order of sums.
    assert of_floats.value.item() == pytest.approx(of_labels.value.item(), abs=1e-9)


@pytest.mark.parametrize("columns", [1, 3])
def test_values_that_repeat_share_no_more_than_their_entropy(columns: int) -> None:
    for scale in (1.0, 10.0, 100.0):
        x = (scale * normal(500, columns)).round()
        estimate = mutual_information(x, x)
        if "binned" in estimate.method:
            continue  # which corrects what counts miss
        assert estimate.value <= entropy_of_rows(x) + 1e-9
        assert estimate.kind == "not_valid" or estimate.value < entropy_of_rows(x)


def test_a_gaussian_copula_of_ties_is_no_bound() -> None:
    binary = (normal(1000) > 0).float()
    estimate = mutual_information(binary, binary, "gaussian_copula")
    assert estimate.kind == "not_valid"
    assert estimate.value.item() == pytest.approx(entropy_of_rows(binary.unsqueeze(1)), abs=1e-9)
    assert mutual_information(normal(1000), normal(1000, seed=1), "gaussian_copula").kind == "lower_bound"


def test_units_of_which_many_are_zero_stay_continuous() -> None:
    rows = normal(500, 1).relu()
    assert values_of(ranks(rows)) is None
    assert has_many_ties(ranks(rows))
    assert "KSG" in mutual_information(rows, rows + normal(500, 1, seed=1)).method


def test_ties_of_rounding_and_dead_columns_are_no_ties() -> None:
    rows = normal(1000, 2)
    rows[:5, 0] = rows[0, 0]
    rows[:, 1] = 1.0
    assert not has_many_ties(ranks(rows))


def test_signed_zeros_are_one_value() -> None:
    zeros = torch.tensor([[0.0], [-0.0]]).repeat(50, 1)
    values = values_of(ranks(torch.cat([zeros, torch.ones(100, 1)])))
    assert values is not None
    assert values.unique().numel() == 2
