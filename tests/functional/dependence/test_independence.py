from __future__ import annotations

import pytest
import torch

from lightning_foresight.functional import cka, distance_correlation, hsic, independence_test
from lightning_foresight.functional.dependence import _centred, independence

MEASURES = {"hsic": hsic, "cka": cka, "distance_correlation": distance_correlation}


def pair(seed: int, n: int = 60, strength: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return x, strength * x**2 + torch.randn(n, 2, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("held", [True, False], ids=["matrix held", "blocks made again"])
@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("measure", list(MEASURES))
def test_null_holds_the_measure_of_each_shuffled_set(
    measure: str, unbiased: bool, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_centred, "_CPU_BLOCK", 17)
    if not held:
        monkeypatch.setattr(independence, "MEMORY_BUDGET", 0)
    x, y = pair(0)
    test = independence_test(
        x, y, measure, num_permutations=5, generator=torch.Generator().manual_seed(3), unbiased=unbiased
    )
    generator = torch.Generator().manual_seed(3)
    orders = [torch.randperm(60, generator=generator) for _ in range(5)]
    expected = [MEASURES[measure](x, y[order], unbiased=unbiased).value.item() for order in orders]
    assert test.null.tolist() == pytest.approx(expected, abs=1e-12)
    assert test.estimate.value == MEASURES[measure](x, y, unbiased=unbiased).value
    larger = sum(value >= test.estimate.value.item() for value in expected)
    assert test.p_value.item() == pytest.approx((1 + larger) / 6)


def test_p_value_is_small_for_dependent_samples_and_uniform_for_independent_ones() -> None:
    options = {"num_permutations": 39, "bandwidth": 1.0}
    dependent = [independence_test(*pair(seed, n=150), **options).p_value.item() for seed in range(20)]
    assert max(dependent) <= 0.1
    free = torch.tensor([independence_test(*pair(seed, strength=0.0), **options).p_value for seed in range(200)])
    # Exact levels: 5% and 50% of 200, within four standard deviations.
    assert 0 <= (free <= 0.05).sum() <= 22
    assert 72 <= (free <= 0.5).sum() <= 128


def test_shuffling_that_changes_nothing_is_no_evidence() -> None:
    x, _ = pair(1)
    assert independence_test(x, torch.ones(60, 1), num_permutations=9).p_value.item() == 1.0


def test_classes_and_single_precision_are_taken() -> None:
    x, y = pair(2, n=200)
    labels = (y[:, 0] > 0).long()
    test = independence_test(x.float(), labels, num_permutations=19)
    assert test.p_value.item() == pytest.approx(0.05)
    assert test.null.dtype == torch.float64


def test_permutations_come_from_their_own_generator() -> None:
    x, y = pair(3)
    state = torch.get_rng_state()
    first = independence_test(x, y, num_permutations=3).null
    assert torch.equal(first, independence_test(x, y, num_permutations=3).null)
    assert torch.equal(torch.get_rng_state(), state)


def test_bad_arguments_are_named_with_what_would_do() -> None:
    x, y = pair(4)
    with pytest.raises(ValueError, match=r"independence_test\(measure='nhsic'\): expected one of 'hsic', 'cka'"):
        independence_test(x, y, "nhsic")
    with pytest.raises(ValueError, match=r"independence_test\(num_permutations=0\): expected an integer of at least 1"):
        independence_test(x, y, num_permutations=0)
    with pytest.raises(ValueError, match=r"hsic\(x, y\): got 60 and 5 samples"):
        independence_test(x, y[:5])
