from __future__ import annotations

import pytest
import torch

from lightning_foresight.functional.partial_information.lattice import antichain_code, antichain_key, lattice
from tests.reference.partial_information import antichains, key_of


@pytest.mark.parametrize(("num_sources", "count"), [(1, 1), (2, 4), (3, 18), (4, 166), (5, 7579)])
def test_lattices_have_dedekinds_numbers_of_antichains(num_sources: int, count: int) -> None:
    codes = lattice(num_sources).codes
    assert len(codes) == count
    assert torch.equal(codes, codes.unique())


@pytest.mark.parametrize("num_sources", [1, 2, 3])
def test_keys_are_those_of_all_antichains_found_by_trying_every_family(num_sources: int) -> None:
    keys = {antichain_key(code, num_sources) for code in lattice(num_sources).codes.tolist()}
    assert keys == {key_of(alpha) for alpha in antichains(num_sources)}


def test_reading_a_key_gives_back_the_code_it_was_written_from() -> None:
    for code in lattice(4).codes.tolist():
        assert antichain_code(antichain_key(code, 4), 4) == code


@pytest.mark.parametrize("num_sources", [2, 3, 4])
def test_moebius_inverts_the_sum_over_the_antichains_below(num_sources: int) -> None:
    structure = lattice(num_sources)
    atoms = torch.rand(2, len(structure), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # beta is below alpha when its up-set holds that of alpha.
    below = (structure.codes[:, None] & ~structure.codes) == 0
    torch.testing.assert_close(structure.moebius(atoms @ below.T.double()), atoms)


def test_moebius_of_five_sources_takes_35510_subtractions() -> None:
    assert sum(len(lower) for lower, _ in lattice(5).steps()) == 35510


@pytest.mark.parametrize("num_sources", [2, 3, 4, 5])
def test_degree_of_synergy_is_the_size_of_the_smallest_set(num_sources: int) -> None:
    structure = lattice(num_sources)
    for code, degree in list(zip(structure.codes.tolist(), structure.degree_of_synergy().tolist(), strict=True))[::7]:
        assert degree == min(part.count(",") + 1 for part in antichain_key(code, num_sources)[1:-1].split("}{"))
