import pytest
import torch

from lightning_foresight.functional.effective_information.totals import layer_total, network_total
from lightning_foresight.functional.estimate import make_estimate


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


def test_a_network_is_the_sum_of_its_layers_with_errors_in_squares():
    first, second = make_estimate(torch.tensor(3.0), std_error=0.3, num_samples=10), layer_total(torch.ones(2, 2))
    total = network_total([first, second, make_estimate(torch.tensor(1.0), std_error=0.4, num_samples=5)])
    assert (total.value, total.kind) == (8, "estimate")
    assert total.std_error.item() == pytest.approx(0.5)
    assert network_total([second, second]).kind == "exact"


def test_where_a_layer_has_only_bounds_so_has_the_network():
    bound = make_estimate(
        torch.tensor(2.0),
        std_error=float("nan"),
        num_samples=9,
        lower=torch.tensor(2.0),
        upper=torch.tensor(5.0),
        kind="lower_bound",
    )
    total = network_total([bound, layer_total(torch.ones(2, 2))])
    assert (total.value, total.lower, total.upper, total.kind) == (6, 6, 9, "lower_bound")
