"""Shannon invariants, multivariate informations, Reing's complexity, subset informations, and the table itself."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_foresight.functional import (
    JointRows,
    discrete_entropy,
    dual_total_correlation,
    joint_table,
    o_information,
    reing,
    s_information,
    shannon_invariants,
    subset_mutual_information,
    total_correlation,
)
from tests.reference.partial_information import CASES, marginal_entropy, random_table, subset_information, table_of

# Values in the file have twelve decimals; 1e-10 leaves two for sums in another order.
EXACT = 1e-10


@pytest.mark.parametrize("name", CASES)
def test_invariants_equal_the_reference(name: str) -> None:
    result, expected = shannon_invariants(table_of(name)), CASES[name]["shannon_invariants"]
    assert result.redundancy.item() == pytest.approx(expected["degree_of_redundancy"], abs=EXACT)
    assert result.vulnerability.item() == pytest.approx(expected["degree_of_vulnerability"], abs=EXACT)
    assert result.mutual_information.item() == pytest.approx(expected["total_MI"], abs=EXACT)
    assert result.per_source.tolist() == pytest.approx(expected["source_MI"], abs=EXACT)
    assert result.all_but.tolist() == pytest.approx(expected["allbut_source_MI"], abs=EXACT)
    assert result.redundancy_minus_synergy.item() == pytest.approx(expected["RSI_redundancy_minus"], abs=EXACT)
    assert result.dual_redundancy_minus_synergy.item() == pytest.approx(expected["dual_RSI"], abs=EXACT)
    sources = CASES[name]["source_multivariate"]
    assert result.entropy.item() == pytest.approx(CASES[name]["H_S"], abs=EXACT)
    assert result.entropy_redundancy.item() == pytest.approx(sources["entropy_degree_of_redundancy"], abs=EXACT)
    assert result.entropy_vulnerability.item() == pytest.approx(sources["entropy_degree_of_vulnerability"], abs=EXACT)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", [False, True])
def test_multivariate_informations_equal_the_reference(name: str, target: bool) -> None:
    expected = CASES[name]["with_target_multivariate" if target else "source_multivariate"]
    measures = {
        "total_correlation": total_correlation,
        "dual_total_correlation": dual_total_correlation,
        "O_information": o_information,
        "S_information": s_information,
    }
    for key, measure in measures.items():
        assert measure(table_of(name), target=target).item() == pytest.approx(expected[key], abs=EXACT)


@pytest.mark.parametrize("name", CASES)
def test_reing_quantities_equal_the_reference(name: str) -> None:
    result, expected = reing(table_of(name)), CASES[name]["reing"]
    assert result.conditional_entropies.tolist() == pytest.approx(expected["C_k"], abs=EXACT)
    for k, difference in enumerate(result.differences.tolist()):
        if f"C({k}||{k + 1})" in expected["differences"]:
            assert difference == pytest.approx(expected["differences"][f"C({k}||{k + 1})"], abs=EXACT)
    assert result.complexity.item() == pytest.approx(expected["complexity_all_orders"], abs=EXACT)
    nninfo = float("nan") if expected["complexity_nninfo"] is None else expected["complexity_nninfo"]
    assert result.complexity_nninfo.item() == pytest.approx(nninfo, abs=EXACT, nan_ok=True)


def test_information_of_every_subset_equals_that_of_dictionaries() -> None:
    table = random_table(1, 4)
    information = subset_mutual_information(table)
    subsets = [subset for size in range(1, 5) for subset in combinations(range(4), size)]
    assert list(information) == ["{" + ",".join(str(i + 1) for i in subset) + "}" for subset in subsets]
    for value, subset in zip(information.values(), subsets, strict=True):
        assert value.item() == pytest.approx(subset_information(table, subset), abs=EXACT)


def corrected_invariants(table: JointRows, correction: str) -> tuple[float, float, float]:
    """I, r and v with every entropy corrected, from the counts of every set of columns."""

    def entropy(columns: list[int]) -> float:
        ids = torch.unique(table.rows[:, columns], dim=0, return_inverse=True)[1]
        counts = torch.zeros(int(ids.max()) + 1, dtype=torch.long).index_add(0, ids, table.weights)
        return discrete_entropy(counts, correction).value.item()

    n = table.num_sources

    def information(columns: list[int]) -> float:
        return entropy(columns) + entropy([n]) - entropy([*columns, n])

    everyone = list(range(n))
    known = information(everyone)
    lost = sum(known - information([j for j in everyone if j != i]) for i in everyone)
    return known, sum(information([i]) for i in everyone) / known, lost / known


@pytest.mark.parametrize("correction", ["none", "miller_madow", "grassberger", "chao_wang_jost"])
def test_corrections_reach_every_entropy_of_the_invariants(correction: str) -> None:
    table = random_table(6, 4, rows=60)
    result = shannon_invariants(table, correction=correction)
    found = [result.mutual_information.item(), result.redundancy.item(), result.vulnerability.item()]
    assert found == pytest.approx(corrected_invariants(table, correction), abs=EXACT)
    assert result.saturation.item() == pytest.approx(shannon_invariants(table).saturation.item(), abs=EXACT)


def test_correction_brings_a_small_sample_nearer_to_the_truth() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 2, (100_000,), generator=generator)
    sources = torch.randint(0, 4, (100_000, 3), generator=generator) + target[:, None]
    truth = shannon_invariants(joint_table(sources, target))
    few = joint_table(sources[:200], target[:200])
    plain, corrected = (shannon_invariants(few, correction=name) for name in ("none", "chao_wang_jost"))
    for key in ("mutual_information", "redundancy"):
        error, less = ((getattr(one, key) - getattr(truth, key)).abs() for one in (plain, corrected))
        assert less < error


def test_corrections_are_of_counts_of_few_sources() -> None:
    probabilities = JointRows(torch.tensor([[0, 0], [1, 1]]), torch.tensor([0.5, 0.5]))
    with pytest.raises(ValueError, match=r"shannon_invariants\(correction='nsb'\): a bias is corrected from counts"):
        shannon_invariants(probabilities, correction="nsb")
    wide = joint_table(torch.randint(0, 2, (9, 65), generator=torch.Generator().manual_seed(0)), torch.arange(9))
    with pytest.raises(ValueError, match=r"\(correction='nsb'\): got 65 sources; .*up to 64. Take groups or random"):
        shannon_invariants(wide, correction="nsb")
    with pytest.raises(ValueError, match=r"shannon_invariants\(correction='best'\): expected one of 'none'"):
        shannon_invariants(wide, correction="best")


def layer_with_near_copies(seed: int, width: int, rows: int = 400) -> JointRows:
    """Rows of which many differ from another in one column only: the case that fingerprints have to find."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 3, (rows, width), generator=generator)
    codes[rows // 2 :] = codes[: rows - rows // 2]
    changed = torch.randint(0, width, (rows,), generator=generator)
    codes[torch.arange(rows), changed] = torch.randint(0, 3, (rows,), generator=generator)
    return joint_table(codes, torch.randint(0, 4, (rows,), generator=generator))


@pytest.mark.parametrize("width", [65, 130, 200])
def test_invariants_of_wide_layers_equal_those_of_dictionaries(width: int) -> None:
    table = layer_with_near_copies(width, width)
    result = shannon_invariants(table)
    bytes_of_it = shannon_invariants(JointRows(table.rows.to(torch.uint8), table.weights))
    assert all(map(torch.equal, bytes_of_it[:-1], result[:-1]))
    columns = range(width)
    assert result.mutual_information.item() == pytest.approx(subset_information(table, columns), abs=EXACT)
    some = range(0, width, 7)
    assert result.per_source[::7].tolist() == pytest.approx([subset_information(table, [i]) for i in some], abs=EXACT)
    all_but = [subset_information(table, [j for j in columns if j != i]) for i in some]
    assert result.all_but[::7].tolist() == pytest.approx(all_but, abs=EXACT)
    assert result.all_but.lt(result.mutual_information - 1e-6).any()
    assert total_correlation(table).item() == pytest.approx(
        sum(marginal_entropy(table, [i]) for i in columns) - marginal_entropy(table, columns), abs=1e-9
    )


def test_weights_of_a_wide_table_count_like_repeated_rows() -> None:
    table = layer_with_near_copies(0, 70, rows=60)
    repeats = torch.randint(1, 600, (len(table.rows),), generator=torch.Generator().manual_seed(0))
    weighted = shannon_invariants(JointRows(table.rows, repeats))
    repeated = shannon_invariants(JointRows(table.rows.repeat_interleave(repeats, 0), torch.ones(int(repeats.sum()))))
    torch.testing.assert_close(weighted[:-1], repeated[:-1])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), num_sources=st.integers(2, 5))
def test_copies_of_a_source_add_redundancy_and_take_vulnerability(seed: int, num_sources: int) -> None:
    table = random_table(seed, num_sources)
    copied = JointRows(table.rows[:, [*range(num_sources), 0, num_sources]], table.weights)
    before, after = shannon_invariants(table), shannon_invariants(copied)
    assert after.mutual_information.item() == pytest.approx(before.mutual_information.item(), abs=EXACT)
    assert after.redundancy >= before.redundancy - EXACT
    assert after.vulnerability <= before.vulnerability + EXACT


def test_invariants_are_differentiable_in_the_probabilities() -> None:
    table = random_table(4, 3, rows=15)
    weights = torch.rand(len(table.rows), generator=torch.Generator().manual_seed(0)).double().requires_grad_()

    def values(weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
        drawn = JointRows(table.rows, weights)
        invariants = shannon_invariants(drawn)
        return invariants.redundancy, invariants.vulnerability, o_information(drawn), reing(drawn).complexity

    assert torch.autograd.gradcheck(values, (weights,))


def test_saturation_is_one_when_every_sample_is_its_own_row() -> None:
    codes = torch.arange(64)
    assert shannon_invariants(joint_table(torch.stack([codes, codes], 1), codes % 2)).saturation.item() == 1
    assert shannon_invariants(table_of("XOR")).saturation.item() == 0


def test_a_target_that_nothing_knows_of_has_no_degrees() -> None:
    rows = torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(2))
    result = shannon_invariants(joint_table(rows[:, :2], rows[:, 2]))
    assert result.redundancy.isnan()
    assert result.vulnerability.isnan()
    assert result.mutual_information.item() == pytest.approx(0, abs=EXACT)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), width=st.sampled_from([1, 3, 80]), split=st.integers(1, 49))
def test_tables_do_not_depend_on_order_or_batching(seed: int, width: int, split: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(-2, 2, (50, width), generator=generator)
    target = torch.randint(0, 3, (50,), generator=generator)
    whole = joint_table(codes, target)
    order = torch.randperm(50, generator=generator)
    shuffled = joint_table(codes[order], target[order])
    parts = [joint_table(codes[:split], target[:split]), joint_table(codes[split:], target[split:])]
    merged = joint_table(
        torch.cat([part.sources for part in parts]),
        torch.cat([part.target for part in parts]),
        weights=torch.cat([part.weights for part in parts]),
    )
    for other in (shuffled, merged):
        assert torch.equal(other.rows, whole.rows)
        assert torch.equal(other.weights, whole.weights)
    assert whole.weights.sum() == 50


def test_floating_point_codes_are_refused_with_what_to_do() -> None:
    with pytest.raises(TypeError, match=r"joint_table\(sources\): got .* float32; expected integer codes\. Quant"):
        joint_table(torch.rand(4, 2), torch.arange(4))


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"joint_table\(sources, target\): got 4 and 3 samples"):
        joint_table(torch.zeros(4, 2, dtype=torch.long), torch.arange(3))


@pytest.mark.parametrize("weights", [[1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]])
def test_weights_that_are_no_distribution_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"shannon_invariants\(weights=.*expected finite weights of at least 0"):
        shannon_invariants(JointRows(torch.tensor([[0, 0], [1, 1]]), torch.tensor(weights)))


def test_a_tensor_in_place_of_a_table_is_refused_with_how_to_build_one() -> None:
    with pytest.raises(TypeError, match=r"reing\(table\): got a .*; expected JointRows\. Build it with joint_table"):
        reing(torch.zeros(3, 3))


def test_seventeen_sources_are_too_many_for_all_subsets() -> None:
    with pytest.raises(ValueError, match=r"reing\(table\): got 17 sources; expected from 1 to 16"):
        reing(joint_table(torch.zeros(2, 17, dtype=torch.long), torch.arange(2)))
