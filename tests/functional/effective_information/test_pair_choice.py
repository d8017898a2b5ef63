import pytest
import torch
from torch import nn

from lightning_foresight.functional.effective_information.affine import as_affine
from lightning_foresight.functional.effective_information.exact import exact_parts
from lightning_foresight.functional.effective_information.pair_choice import (
    choose_pairs,
    numbers_of_choice,
    total_of_choice,
)
from lightning_foresight.functional.effective_information.preimages import Preimages, resolution


def weights(outputs, inputs, seed=0, zeros=0.0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
    return weight * (torch.rand(outputs, inputs, generator=generator) >= zeros)


def choose(weight, max_pairs, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return choose_pairs(weight, max_pairs, resolution=10.0, in_bins=64, generator=generator)


def carried(weight):
    """Something like bits: larger for larger weights, other outputs other factors."""
    share = weight.square() / weight.square().sum(1, keepdim=True).clamp_min(1e-30)
    return share.sqrt() * torch.linspace(0.5, 1.5, len(weight), dtype=torch.float64).unsqueeze(1) + 0.1


def bits_of(choice, values):
    return values[choice.outputs].gather(1, choice.inputs)


@pytest.mark.parametrize(("outputs", "inputs"), [(4096, 4096), (64, 576), (10, 8192), (512, 25), (3, 100), (1, 50_000)])
def test_about_as_many_pairs_as_asked_for_are_chosen(outputs, inputs):
    drawn, each = numbers_of_choice(outputs, inputs, 4096)
    if outputs * inputs <= 4096:
        assert (drawn, each) == (outputs, inputs)
    else:
        assert 0.9 * 4096 < drawn * each <= 4096
        assert drawn >= min(2, outputs)
        assert each >= 2


def test_few_pairs_are_not_chosen_among():
    assert choose(weights(4, 5), None) is None
    assert choose(weights(4, 5), 20) is None
    assert choose(weights(4, 5), 19) is not None


@pytest.mark.parametrize(
    ("outputs", "inputs", "most"),
    [(30, 400, 1500), (300, 40, 1500), (6, 40, 100), (300, 12, 600), (1, 3000, 30), (2000, 1, 30)],
)
def test_totals_are_unbiased_and_their_errors_honest(outputs, inputs, most):
    weight = weights(outputs, inputs, zeros=0.3)
    values = carried(weight)
    totals = [
        total_of_choice(bits_of(choice, values), choice) for choice in (choose(weight, most, s) for s in range(150))
    ]
    found = torch.stack([total.value for total in totals])
    errors = torch.stack([total.std_error for total in totals])
    # Slopes that are fitted to the choice itself leave a bias of higher order in its size.
    assert abs(found.mean() - values.sum()) < 5 * found.std() / 150**0.5
    # Strata make the draws more even than their error takes for granted. A spread of 150 is known to 6%.
    assert 0.85 * found.std() < errors.square().mean().sqrt() < 1.6 * found.std()
    inside = ((found - values.sum()).abs() < 1.96 * errors).double().mean()
    assert inside > 0.9


def test_what_the_guesses_explain_has_no_error():
    weight = weights(50, 60)
    choice = choose(weight, 400)
    total = total_of_choice(2 + 3 * choice.guesses[1] - choice.guesses[2], choice)
    expected = 2 * choice.sums[0] + 3 * choice.sums[1] - choice.sums[2]
    assert total.value.item() == pytest.approx(expected.item(), rel=1e-9)
    assert total.std_error.item() < 1e-6


def test_the_error_of_very_few_pairs_is_unknown():
    weight = weights(1, 3000)
    choice = choose(weight, 2)
    assert total_of_choice(bits_of(choice, carried(weight)), choice).std_error.isnan()


def test_weights_that_are_all_alike_do_no_harm():
    weight = torch.ones(50, 60, dtype=torch.float64)
    choice = choose(weight, 400)
    total = total_of_choice(bits_of(choice, weight * 0.25), choice)
    assert total.value.item() == pytest.approx(750)
    zero = choose(torch.zeros(50, 60, dtype=torch.float64), 400)
    assert total_of_choice(torch.zeros_like(zero.counts), zero).value == 0


def test_totals_of_differences_are_differences_of_totals():
    weight = weights(40, 80)
    choice, values = choose(weight, 500), carried(weight)
    first, second = bits_of(choice, values), bits_of(choice, values.square())
    difference = total_of_choice(first, choice).value - total_of_choice(second, choice).value
    assert total_of_choice(first - second, choice).value.item() == pytest.approx(difference.item())


def test_chosen_pairs_have_the_bits_that_they_have_among_all():
    layer = nn.Linear(30, 20, dtype=torch.float64)
    layer.weight.data = weights(20, 30, zeros=0.5)
    layer.weight.data[3] *= torch.tensor([1.0] * 2 + [1e-6] * 28)  # by closed form, not by series
    question = Preimages(torch.linspace(-2, 2, 9, dtype=torch.float64)), (-1, 1), 8
    every = exact_parts(as_affine(layer), *question)
    choice = choose(layer.weight.data, 200)
    few = as_affine(layer)._replace(weight=layer.weight.data[choice.outputs], bias=layer.bias.data[choice.outputs])
    found = exact_parts(few, *question, chosen=choice.inputs)
    assert torch.allclose(found, bits_of(choice, every), rtol=0, atol=1e-9)


def test_resolution_counts_bins_between_finite_ends():
    assert resolution(Preimages(torch.tensor([-float("inf"), 0.0, 1.0, 2.0]).double())) == 1
    assert resolution(Preimages(torch.tensor([0.0, 0.5, 1.0]).double())) == 2
    assert resolution(Preimages(torch.tensor([-float("inf"), float("inf")]).double())) == 1
