from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_foresight.functional import JointRows, joint_table, sx_pid
from lightning_foresight.functional.partial_information.lattice import antichain_code
from lightning_foresight.functional.partial_information.sx_pid import shared_exclusions
from tests.reference.partial_information import (
    CASES,
    random_table,
    shared_exclusions_pid,
    shared_exclusions_terms,
    table_of,
)

# Values in the file have twelve decimals; 1e-10 leaves two for sums in another order.
EXACT = 1e-10


@pytest.mark.parametrize("name", CASES)
def test_atoms_equal_those_of_the_published_programs(name: str) -> None:
    pid = sx_pid(table_of(name), parts=True)
    for key, (informative, misinformative, average) in CASES[name].get("sxpid", {}).items():
        assert pid.informative[key].item() == pytest.approx(informative, abs=EXACT)
        assert pid.misinformative[key].item() == pytest.approx(misinformative, abs=EXACT)
        assert pid.atoms[key].item() == pytest.approx(average, abs=EXACT)
    assert pid.mutual_information.item() == pytest.approx(CASES[name]["mutual_information"], abs=EXACT)


@pytest.mark.parametrize("name", ["PARITY5", "RAND5_2t2"])
def test_all_7579_atoms_of_five_sources_have_the_published_moments(name: str) -> None:
    pid = sx_pid(table_of(name), parts=True)
    moments = CASES[name]["sxpid_moments"]
    for part, atoms in enumerate((pid.informative_part, pid.misinformative_part, pid.average)):
        assert atoms.shape == (7579,)
        assert atoms.sum().item() == pytest.approx(moments["sum"][part], abs=EXACT)
        assert atoms.square().sum().item() == pytest.approx(moments["sumsq"][part], abs=EXACT)
        assert atoms.min().item() == pytest.approx(moments["min"][part], abs=EXACT)
        assert atoms.max().item() == pytest.approx(moments["max"][part], abs=EXACT)
    for key, values in CASES[name]["sxpid_top40"].items():
        assert pid.atoms[key].item() == pytest.approx(values[2], abs=EXACT)


@pytest.mark.parametrize("name", [name for name in CASES if "sxpid_by_target" in CASES[name]])
def test_atoms_of_each_target_value_equal_those_of_the_published_programs(name: str) -> None:
    pid = sx_pid(table_of(name), by="target", parts=True)
    for row, target in enumerate(pid.targets.tolist()):
        for key, expected in CASES[name]["sxpid_by_target"][str(target)].items():
            found = [pid.informative[key][row], pid.misinformative[key][row], pid.atoms[key][row]]
            assert [float(value) for value in found] == pytest.approx(expected, abs=EXACT)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), num_sources=st.integers(2, 3), counted=st.booleans())
def test_fast_atoms_equal_the_double_loop_over_rows(seed: int, num_sources: int, counted: bool) -> None:
    table = random_table(seed, num_sources, rows=25)
    if not counted:
        table = JointRows(
            table.rows, torch.rand(len(table.rows), generator=torch.Generator().manual_seed(seed)).double()
        )
    pid = sx_pid(table, parts=True)
    slow = shared_exclusions_pid(table)
    assert set(slow) == set(pid.atoms)
    for key, expected in slow.items():
        found = [pid.informative[key], pid.misinformative[key], pid.atoms[key]]
        assert [float(value) for value in found] == pytest.approx(expected, abs=EXACT)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), num_sources=st.integers(2, 5))
def test_parts_are_never_negative_and_average_over_rows_and_targets(seed: int, num_sources: int) -> None:
    table = random_table(seed, num_sources)
    pid = sx_pid(table, parts=True)
    assert pid.informative_part.min() > -EXACT
    assert pid.misinformative_part.min() > -EXACT
    p = table.probabilities()
    by_row = sx_pid(table, by="row")
    torch.testing.assert_close(p @ by_row.average, pid.average, atol=EXACT, rtol=0)
    by_target = sx_pid(table, by="target")
    p_target = torch.stack([p[table.target == target].sum() for target in by_target.targets])
    torch.testing.assert_close(p_target @ by_target.average, pid.average, atol=EXACT, rtol=0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_relabelling_codes_or_exchanging_sources_moves_no_information(seed: int) -> None:
    table = random_table(seed, 3)
    atoms = sx_pid(table).atoms
    relabelled = sx_pid(JointRows(table.rows * -7 + 3, table.weights)).atoms
    exchanged = sx_pid(JointRows(table.rows[:, [2, 1, 0, 3]], table.weights)).atoms
    assert float(relabelled["{1}{2,3}"]) == pytest.approx(float(atoms["{1}{2,3}"]), abs=EXACT)
    assert float(exchanged["{3}{1,2}"]) == pytest.approx(float(atoms["{1}{2,3}"]), abs=EXACT)


@pytest.mark.parametrize("key", ["{1}{2,3}", "{1,2}{3,4}{5,6}", "{1}{2}{3}{4}{5}{6}", "{1,2,3,4,5,6}"])
def test_redundancies_of_six_sources_equal_the_double_loop(key: str) -> None:
    table = random_table(11, 6, levels=2, rows=50)
    terms = shared_exclusions(table, torch.tensor([antichain_code(key, 6)]))
    found = [terms.informative.item(), terms.misinformative.item()]
    alpha = [frozenset(map(int, part.split(","))) for part in key[1:-1].split("}{")]
    assert found == pytest.approx(shared_exclusions_terms(table, alpha), abs=EXACT)


def test_gradient_of_the_atoms_in_the_probabilities_is_right() -> None:
    table = random_table(3, 3, rows=12)
    weights = torch.rand(len(table.rows), generator=torch.Generator().manual_seed(0)).double().requires_grad_()

    def atoms(weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pid = sx_pid(JointRows(table.rows, weights), parts=True)
        return pid.average, pid.informative_part

    assert torch.autograd.gradcheck(atoms, (weights,))
    by_target = lambda weights: sx_pid(JointRows(table.rows, weights), by="target").average  # noqa: E731
    assert torch.autograd.gradcheck(by_target, (weights,))


def test_rows_of_probability_zero_change_nothing() -> None:
    table = random_table(5, 2)
    rows = torch.cat([table.rows, torch.tensor([[9, 9, 9]])])
    padded = JointRows(rows, torch.cat([table.weights, torch.tensor([0])]))
    torch.testing.assert_close(sx_pid(padded).average, sx_pid(table).average, atol=EXACT, rtol=0)


def test_counts_from_one_to_millions_share_logarithms_without_overflow() -> None:
    table = random_table(7, 3, rows=30)
    weights = torch.where(torch.arange(len(table.rows)) % 2 == 0, 1, 10**9)
    pid = sx_pid(JointRows(table.rows, weights), parts=True)
    slow = shared_exclusions_pid(JointRows(table.rows, weights))
    assert [v.item() for v in pid.atoms.values()] == pytest.approx([slow[k][2] for k in pid.atoms], abs=EXACT)


def test_base_e_gives_nats() -> None:
    table = table_of("RAND3_2t2")
    torch.testing.assert_close(sx_pid(table, base=math.e).average, sx_pid(table).average * math.log(2))


def test_seven_sources_are_refused_with_what_to_do_instead() -> None:
    table = joint_table(torch.zeros(3, 7, dtype=torch.long), torch.arange(3))
    with pytest.raises(ValueError, match=r"sx_pid\(table\): got 7 sources; expected from 1 to 6.*shannon_invariants"):
        sx_pid(table)


def test_parts_that_were_not_computed_say_how_to_get_them() -> None:
    with pytest.raises(ValueError, match=r"sx_pid\(parts=True\)"):
        _ = sx_pid(table_of("XOR")).informative


def test_keys_that_are_no_antichain_say_what_one_looks_like() -> None:
    atoms = sx_pid(table_of("XOR")).atoms
    assert float(atoms["{2}{1}"]) == float(atoms["{1}{2}"])
    for key in ("{1}{1,2}", "{3}", "1", "{}"):
        with pytest.raises(KeyError, match="is not an antichain of 2 sources"):
            atoms[key]


def test_unknown_by_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sx_pid\(by='label'\): expected one of 'all', 'target', 'row'"):
        sx_pid(table_of("XOR"), by="label")


def test_more_atoms_of_rows_than_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sx_pid.__globals__, "_MAX_ROW_ATOMS", 15)
    with pytest.raises(ValueError, match=r"sx_pid\(by='row'\): 4 rows of 4 atoms do not fit.*by='target'"):
        sx_pid(table_of("XOR"), by="row")
