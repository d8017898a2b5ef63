import pytest
import torch

from lightning_foresight.functional.effective_information.totals import layer_total


def test_all_outputs_give_the_exact_sum():
    bits = torch.rand(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    total = layer_total(bits)
    assert float(total.value) == pytest.approx(float(bits.sum()))
    assert total.kind == "exact"
    assert float(total.std_error) == 0


def test_a_choice_of_outputs_is_unbiased_with_the_right_standard_error():
    generator = torch.Generator().manual_seed(0)
    bits = torch.rand(4, 40, generator=generator, dtype=torch.float64)
    draws = [layer_total(bits[:, torch.randperm(40, generator=generator)[:10]], 10 / 40) for _ in range(4000)]
    values = torch.stack([draw.value for draw in draws])
    spread = float(values.std())
    assert float(values.mean()) == pytest.approx(float(bits.sum()), abs=4 * spread / 4000**0.5)
    # The mean of estimated variances is the variance; 4,000 draws know it to about 2.2%.
    variances = torch.stack([draw.std_error**2 for draw in draws])
    assert float(variances.mean()) == pytest.approx(spread**2, rel=0.1)
