from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_foresight.functional import joint_table, noisy_table, quantize, representational_complexity
from lightning_foresight.functional import shannon_invariants as invariants
from tests.reference.partial_information import as_dict, noisy_cells


def samples(seed: int, neurons: int, n: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, neurons, generator=generator).double() * 2 - 1, torch.randint(0, 3, (n,), generator=generator)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), neurons=st.integers(1, 3), bins=st.integers(1, 4), std=st.floats(0.05, 1.0))
def test_cells_hold_the_probability_of_their_noise(seed: int, neurons: int, bins: int, std: float) -> None:
    x, target = samples(seed, neurons)
    table = noisy_table(x, target, noise_std=std, num_bins=bins, limits=(-1, 1), keep=1)
    expected = noisy_cells(x.tolist(), target.tolist(), std, bins, (-1, 1))
    found = as_dict(table)
    assert found.keys() >= {cell for cell, p in expected.items() if p > 1e-12}
    # Sums of a dozen differences of the normal distribution function, each right to 1e-16.
    assert all(p == pytest.approx(expected[cell], abs=1e-13) for cell, p in found.items())
    assert sum(found.values()) == pytest.approx(1, abs=1e-12)


def test_vanishing_noise_leaves_the_bins_of_quantize() -> None:
    x, target = samples(0, 3, n=200)
    noisy = noisy_table(x, target, noise_std=1e-9, num_bins=5, limits=(-1, 1), keep=1)
    plain = joint_table(quantize(x, 5, limits=(-1, 1), mode="bins") + 1, target)  # one bin for noise below the limit
    assert torch.equal(noisy.rows, plain.rows)
    assert torch.allclose(noisy.weights, plain.probabilities(), atol=1e-12)


def test_more_noise_leaves_less_information() -> None:
    x = torch.tensor([[-0.5, 0.1], [0.5, -0.1]]).repeat(10, 1)
    target = torch.arange(2).repeat(10)
    known = [invariants(noisy_table(x, target, noise_std=std)).mutual_information.item() for std in (0.05, 0.2, 0.5, 2)]
    assert known == sorted(known, reverse=True)
    assert known[0] > 0.99


def test_the_least_likely_cells_are_dropped_down_to_the_probability_to_keep() -> None:
    x, target = samples(3, 3, n=50)
    whole = noisy_table(x, target, noise_std=0.2, num_bins=4, limits=(-1, 1), keep=1)
    most = noisy_table(x, target, noise_std=0.2, num_bins=4, limits=(-1, 1), keep=0.9)
    assert len(most.rows) < len(whole.rows) / 2
    kept = {cell: p for cell, p in as_dict(whole).items() if cell in as_dict(most)}
    assert 0.9 <= sum(kept.values()) < 0.9 + min(kept.values())
    assert min(kept.values()) >= max(p for cell, p in as_dict(whole).items() if cell not in kept)
    assert representational_complexity(most).value > 1


def test_memory_is_taken_in_chunks_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    x, target = samples(1, 2, n=100)
    whole = noisy_table(x, target, noise_std=0.3, num_bins=3)
    monkeypatch.setattr("lightning_foresight.functional._memory.MEMORY_BUDGET", 8 * 9**2 * 3)
    in_chunks = noisy_table(x, target, noise_std=0.3, num_bins=3)
    assert torch.allclose(whole.weights, in_chunks.weights, atol=1e-14)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"noise_std": 0.0}, ValueError, r"noisy_table\(noise_std=0.0\): expected a number above 0"),
        ({"noise_std": None}, ValueError, r"noisy_table\(noise_std=None\): expected a number above 0"),
        ({"noise_std": math.nan}, ValueError, r"noisy_table\(noise_std=nan\)"),
        ({"num_bins": 0}, ValueError, r"noisy_table\(num_bins=0\): expected an integer of at least 1"),
        ({"keep": 0}, ValueError, r"noisy_table\(keep=0\): expected a probability"),
        ({"limits": (1, 1)}, ValueError, r"noisy_table\(limits=\(1, 1\)\): expected a pair"),
        ({"num_bins": 2000}, ValueError, r"noisy_table\(num_bins=2000\): .* cells, more than fit .*use fewer bins"),
        ({"target": torch.rand(12)}, TypeError, r"noisy_table\(target\): got .* expected integer codes"),
        ({"activations": torch.ones(12, 3).long()}, ValueError, r"noisy_table\(activations\): got .* real numbers"),
        ({"activations": torch.full((12, 3), math.nan)}, ValueError, r"noisy_table\(activations\): 36 of 36 entries"),
    ],
)
def test_bad_input_is_refused(options: dict, error: type[Exception], message: str) -> None:
    x, target = samples(0, 3)
    with pytest.raises(error, match=message):
        noisy_table(**({"activations": x, "target": target, "noise_std": 0.1} | options))
