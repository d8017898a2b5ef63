from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_foresight.functional import (
    JointRows,
    information_by_degree,
    joint_table,
    representational_complexity,
    sx_pid,
)
from lightning_foresight.functional.partial_information import complexity
from lightning_foresight.functional.partial_information.complexity import informations_by_degree, informative_by_degree
from tests.reference.partial_information import CASES, random_table, table_of

# Values in the file have twelve decimals; 1e-10 leaves two for sums in another order.
EXACT = 1e-10


@pytest.mark.parametrize("name", CASES)
def test_complexity_equals_the_reference(name: str) -> None:
    estimate = representational_complexity(table_of(name))
    assert estimate.value.item() == pytest.approx(CASES[name]["representational_complexity"], abs=EXACT)
    assert estimate.std_error.item() == 0
    by_degree = information_by_degree(table_of(name))
    for degree, expected in CASES[name]["degree_of_synergy_atoms"].items():
        assert by_degree[int(degree) - 1].item() == pytest.approx(expected, abs=EXACT)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), num_sources=st.integers(1, 5))
def test_information_by_degree_is_the_sum_of_the_atoms_of_that_degree(seed: int, num_sources: int) -> None:
    table = random_table(seed, num_sources)
    pid = sx_pid(table)
    torch.testing.assert_close(information_by_degree(table), pid.degree_of_synergy_atoms, atol=EXACT, rtol=0)
    value = representational_complexity(table).value
    torch.testing.assert_close(value, pid.representational_complexity, atol=1e-8, rtol=1e-8)


def tables_of_four_sources() -> list[JointRows]:
    generator = torch.Generator().manual_seed(0)
    sources = torch.randint(0, 3, (60, 4), generator=generator)
    targets = sources.sum(1) % 3, torch.randint(0, 2, (60,), generator=generator)
    counted = [joint_table(sources, target) for target in targets]
    some_zero = JointRows(counted[0].rows, counted[0].weights.clone().index_fill_(0, torch.arange(5), 0))
    uneven = joint_table(
        sources[:20], targets[1][:20], weights=torch.rand(20, generator=generator, dtype=torch.float64)
    )
    return [*counted, some_zero, uneven]


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_several_tables_at_once_read_what_each_reads_alone(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = tables_of_four_sources()
    alone = torch.stack([sx_pid(table).degree_of_synergy_atoms for table in tables])
    monkeypatch.setattr(
        complexity, "chunks", lambda total, _: [slice(i, i + at_once) for i in range(0, total, at_once)]
    )
    torch.testing.assert_close(informations_by_degree(tables), alone, atol=EXACT, rtol=0)


def test_what_sources_share_does_not_depend_on_the_target() -> None:
    real, shuffled = tables_of_four_sources()[:2]
    known = informative_by_degree([real])
    torch.testing.assert_close(
        informations_by_degree([shuffled], known)[0], information_by_degree(shuffled), atol=EXACT, rtol=0
    )


@pytest.mark.parametrize("name", ["XOR", "PARITY4", "RND3", "DIGITS_E1_L5_first4"])
def test_clock_agrees_with_the_exact_complexity_within_its_error(name: str) -> None:
    estimate = representational_complexity(table_of(name), method="clock", std_error=0.01, max_draws=100_000)
    assert 0 <= estimate.std_error.item() <= 0.01
    # Four standard errors, and a fixed seed.
    assert estimate.value.item() == pytest.approx(
        CASES[name]["representational_complexity"], abs=4 * estimate.std_error.item() + 1e-6
    )


def test_clock_error_covers_the_truth_as_often_as_it_says() -> None:
    table = random_table(8, 4, levels=2, targets=2)
    truth = representational_complexity(table).value
    scores = []
    for seed in range(24):
        generator = torch.Generator().manual_seed(seed)
        estimate = representational_complexity(table, method="clock", max_draws=8192, generator=generator)
        scores.append(((estimate.value - truth) / estimate.std_error).item())
    # The mean square of t scores with 15 degrees of freedom is 15/13; its standard deviation over 24 of them is 0.4.
    assert 0.3 < torch.tensor(scores).square().mean() < 2.8


def test_clock_of_eight_neurons_knows_parity_from_a_copied_bit() -> None:
    bits = torch.cartesian_prod(*[torch.tensor([0, 1])] * 8)
    copy = representational_complexity(joint_table(bits[:, :1].expand(-1, 8), bits[:, 0]), max_draws=4096)
    assert copy.value.item() == pytest.approx(1, abs=1e-6)
    parity = representational_complexity(joint_table(bits, bits.sum(1) % 2), max_draws=4096)
    assert parity.value > 4
    assert parity.method == "clock (4096 draws)"


def test_rows_that_do_not_fit_the_memory_are_drawn_pass_by_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    table = random_table(2, 4, rows=60)
    truth = representational_complexity(table).value.item()
    monkeypatch.setattr("lightning_foresight.functional._memory.MEMORY_BUDGET", 16 * 8 * 10)
    estimate = representational_complexity(table, method="clock", max_draws=32768)
    assert estimate.value.item() == pytest.approx(truth, abs=4 * estimate.std_error.item())


def test_the_same_seed_draws_the_same_clocks_and_leaves_the_global_state_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = (representational_complexity(table_of("AND"), method="clock", max_draws=4096) for _ in range(2))
    assert first.value == second.value
    assert torch.equal(torch.random.get_rng_state(), before)


def test_complexity_without_information_is_not_a_number() -> None:
    rows = torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(2))
    table = joint_table(rows[:, :2], rows[:, 2])
    assert representational_complexity(table).value.isnan()
    assert representational_complexity(table, method="clock").value.isnan()


def test_complexity_is_differentiable_in_the_probabilities() -> None:
    table = random_table(4, 3, rows=15)
    weights = torch.rand(len(table.rows), generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    value = lambda weights: representational_complexity(JointRows(table.rows, weights)).value  # noqa: E731
    assert torch.autograd.gradcheck(value, (weights,))


def test_samples_and_saturation_are_reported() -> None:
    codes = torch.arange(8)
    estimate = representational_complexity(joint_table(torch.stack([codes, codes % 2], 1), codes // 4))
    assert estimate.num_samples == 8
    assert estimate.saturation.item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "exact"}, r"got 7 sources; expected from 1 to 6"),
        ({"method": "fast"}, r"\(method='fast'\): expected one of 'auto', 'exact', 'clock'"),
        ({"std_error": 0.0}, r"\(std_error=0.0\): expected a number above 0"),
        ({"max_draws": 3}, r"\(max_draws=3\): expected an integer of at least 16"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict, message: str) -> None:
    table = joint_table(torch.zeros(2, 7, dtype=torch.long), torch.arange(2))
    with pytest.raises(ValueError, match=message):
        representational_complexity(table, **options)
