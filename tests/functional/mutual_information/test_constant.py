"""Dead units: what is the same for every sample tells nothing, by whichever estimator."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_foresight.functional import input_information, label_information, mutual_information
from lightning_foresight.functional.mutual_information import ESTIMATORS

OF_PAIRS = [name for name, entry in ESTIMATORS.items() if entry.unit and entry.pair is not None]
OF_LABELS = [name for name, entry in ESTIMATORS.items() if entry.unit and entry.label is not None]
OF_INPUTS = [name for name, entry in ESTIMATORS.items() if entry.unit and entry.input is not None]
# 0.1 is no sum of powers of 2: its mean over samples differs from it, so that its deviation is not 0.
DEAD = 0.1


def _entropy_of(share: float) -> float:
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)


def varying(n: int) -> torch.Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("n", [10, 100, 1000])
@pytest.mark.parametrize("name", OF_PAIRS)
def test_constant_samples_share_nothing_with_any_others(name: str, n: int) -> None:
    rows, dead = varying(n), torch.full((n, 2), DEAD)
    for x, y in ((dead, rows), (rows, dead), (dead, dead), (dead[:, 0], rows[:, 0])):
        estimate = mutual_information(x, y, name)
        lower, upper = estimate.interval()
        assert estimate.value == lower == 0
        # Of cells of which one was seen, others may hold 3 of n samples.
        assert 0 < upper <= _entropy_of(3 / n) + 1e-12 if name == "binned" else upper == 0
        assert name == "binned" or estimate.saturation == 0  # that of bins is the entropy of x


@pytest.mark.parametrize("n", [10, 100, 1000])
@pytest.mark.parametrize("name", OF_LABELS)
def test_a_dead_layer_says_nothing_about_labels(name: str, n: int) -> None:
    estimate = label_information(torch.full((n, 2), DEAD), torch.arange(n) % 2, estimator=name)
    assert estimate.value == estimate.saturation == 0


@pytest.mark.parametrize("n", [10, 100, 1000])
@pytest.mark.parametrize("name", OF_LABELS)
def test_a_single_label_is_known_without_the_layer(name: str, n: int) -> None:
    assert label_information(varying(n), torch.zeros(n, dtype=torch.long), estimator=name).value == 0


@pytest.mark.parametrize("n", [10, 100, 1000])
@pytest.mark.parametrize("name", OF_INPUTS)
def test_a_dead_layer_keeps_nothing_of_its_input(name: str, n: int) -> None:
    estimate = input_information(torch.full((n, 2), DEAD), inputs=varying(n), estimator=name)
    assert estimate.value == estimate.saturation == 0


@pytest.mark.parametrize("name", ["auto", "ksg", "gaussian_copula", "edge", "renyi"])
@pytest.mark.parametrize("n", [10, 100, 1000])
def test_dead_units_among_others_change_nothing(name: str, n: int) -> None:
    rows = varying(n)
    target = rows[:, :1] + 0.5 * torch.randn(n, 1, generator=torch.Generator().manual_seed(1))
    among = torch.cat([rows, torch.full((n, 2), DEAD)], 1)
    of_rows, of_both = (mutual_information(each, target, name) for each in (rows, among))
    # Eigenvalues and pairwise distances in float32 are rounded otherwise.
    assert of_both.value.item() == pytest.approx(of_rows.value.item(), abs=1e-5)


def test_constant_samples_are_checked_as_others_are() -> None:
    with pytest.raises(ValueError, match="one label for each|same number|expected"):
        mutual_information(torch.zeros(10), torch.randn(9, generator=torch.Generator().manual_seed(0)), "sliced")
    with pytest.raises(ValueError, match="finite"):
        mutual_information(torch.zeros(10), torch.full((10,), torch.nan), "ksg")
    with pytest.raises(ValueError, match="base"):
        mutual_information(torch.zeros(10), torch.zeros(10), "ksg", base=1)


@pytest.mark.parametrize("n", [10, 50, 1000])
def test_one_cell_seen_leaves_room_for_those_that_were_not(n: int) -> None:
    estimate = input_information(torch.zeros(n, 2), estimator="binned", bin_width=1.0)
    share = min(3 / n, 0.5)
    lower, upper = estimate.interval()
    assert estimate.value == lower == 0
    assert upper.item() == pytest.approx(_entropy_of(share))
    # A second cell of a share that 95% of samples do see is outside, one that they miss is inside.
    assert _entropy_of(1 - 0.06 ** (1 / n)) < upper
