from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_foresight.functional import JointRows, broja_pid, joint_table, shannon_invariants
from tests.reference.partial_information import CASES, broja_synergy_of_bits, random_table, table_of

TWO_SOURCES = [name for name in CASES if "broja" in CASES[name]]


@pytest.mark.parametrize("name", TWO_SOURCES)
def test_atoms_equal_those_of_the_published_program(name: str) -> None:
    pid = broja_pid(table_of(name))
    for key, expected in CASES[name]["broja"].items():
        # ECOS itself is right to 2e-8; the project promises 1e-6.
        assert pid.atoms[key].item() == pytest.approx(expected, abs=2e-7)
    expected = CASES[name]["representational_complexity_broja"]
    assert pid.representational_complexity.item() == pytest.approx(expected, abs=2e-7)
    assert pid.gap.item() <= 1e-7


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), power=st.sampled_from([1, 4]))
def test_synergy_of_bits_equals_a_nested_search(seed: int, power: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.cartesian_prod(*[torch.arange(2)] * 3)
    table = JointRows(rows, torch.rand(8, generator=generator).double() ** power)
    # The search is good to the square root of the rounding errors of its function.
    assert broja_pid(table).synergy.item() == pytest.approx(broja_synergy_of_bits(table), abs=1e-6)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31), levels=st.integers(2, 8), targets=st.integers(2, 10), rows=st.integers(2, 150))
def test_atoms_are_certified_and_keep_the_identities_of_two_sources(
    seed: int, levels: int, targets: int, rows: int
) -> None:
    table = random_table(seed, 2, levels, targets, rows)
    pid, invariants = broja_pid(table), shannon_invariants(table)
    # Below zero by the rounding of sums only.
    assert -1e-13 <= pid.gap <= 1e-7
    for atom in pid.atoms.values():
        assert atom >= -1e-7
    single = [(pid.redundancy + pid.unique_1).item(), (pid.redundancy + pid.unique_2).item()]
    assert single == pytest.approx(invariants.per_source.tolist(), abs=1e-10)
    assert sum(pid.atoms.values()).item() == pytest.approx(invariants.mutual_information.item(), abs=1e-10)
    exchanged = broja_pid(JointRows(table.rows[:, [1, 0, 2]], table.weights))
    assert exchanged.unique_1.item() == pytest.approx(pid.unique_2.item(), abs=(pid.gap + exchanged.gap).item() + 1e-12)


def test_all_pairs_of_a_layer_at_once_equal_one_pair_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    table = random_table(3, 4, levels=3, rows=80)
    together = broja_pid(table)
    assert together.pairs.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert together.gap.max() <= 1e-7
    monkeypatch.setattr("lightning_foresight.functional._memory.MEMORY_BUDGET", 32 * 9**2 * 2)
    in_chunks = broja_pid(table)
    for index, (first, second) in enumerate(together.pairs.tolist()):
        alone = broja_pid(joint_table(table.sources[:, [first, second]], table.target, weights=table.weights))
        for key in alone.atoms:
            assert together.atoms[key][index].item() == pytest.approx(alone.atoms[key].item(), abs=2e-7)
            assert in_chunks.atoms[key][index].item() == pytest.approx(alone.atoms[key].item(), abs=2e-7)


def test_chosen_pairs_come_in_their_order() -> None:
    table = random_table(3, 3)
    chosen = broja_pid(table, pairs=[(2, 0), (0, 1)])
    assert chosen.synergy.shape == (2,)
    assert chosen.unique_1[0].item() == pytest.approx(broja_pid(table).unique_2[1].item(), abs=2e-7)


def test_gradient_of_the_atoms_in_the_probabilities_is_right() -> None:
    table = random_table(5, 2, levels=2, targets=2, rows=30)
    weights = torch.rand(len(table.rows), generator=torch.Generator().manual_seed(1)).double().requires_grad_()

    def synergy(weights: torch.Tensor) -> torch.Tensor:
        pid = broja_pid(JointRows(table.rows, weights), tol=1e-11)
        return torch.stack([pid.synergy, pid.unique_1])

    # A gap of 1e-11 in the value leaves the slopes right to its square root.
    assert torch.autograd.gradcheck(synergy, (weights,), eps=1e-3, atol=1e-4, rtol=1e-3)


def test_base_e_gives_nats() -> None:
    bits, nats = broja_pid(table_of("AND")), broja_pid(table_of("AND"), base=math.e)
    assert nats.synergy.item() == pytest.approx(bits.synergy.item() * math.log(2), abs=1e-7)


@pytest.mark.parametrize("pairs", [[(0, 5)], [(0, 1, 2)], [(-1, 0)], []])
def test_pairs_that_are_no_columns_are_refused(pairs: list) -> None:
    with pytest.raises(ValueError, match=r"broja_pid\(pairs=.*expected pairs of columns from 0 to 2"):
        broja_pid(random_table(1, 3), pairs=pairs)


def test_one_source_is_refused() -> None:
    with pytest.raises(ValueError, match=r"broja_pid\(table\): got 1 sources; expected from 2"):
        broja_pid(random_table(1, 1))


def test_programs_that_do_not_fit_the_memory_are_refused_with_what_to_do() -> None:
    codes = torch.arange(5000)
    with pytest.raises(ValueError, match=r"broja_pid\(table\): got sources of 5000 levels .*use fewer levels"):
        broja_pid(joint_table(torch.stack([codes, codes], 1), codes % 10))
