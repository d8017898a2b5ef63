"""In a distributed run, too, watching changes nothing, and all ranks measure the same."""

from __future__ import annotations

import pytest
import torch

from lightning_foresight.history import History
from tests.contract.cases import CALLBACKS

pytestmark = pytest.mark.xdist_group("two ranks")


@pytest.fixture(scope="module")
def ranks(two_ranks):
    return two_ranks("tests.contract.two_processes")


def test_two_processes_end_with_the_same_bits(ranks):
    for rank in ranks:
        assert rank["watched"].keys() == rank["unwatched"].keys()
        different = [key for key, value in rank["watched"].items() if not torch.equal(value, rank["unwatched"][key])]
        assert not different


def _rows(state):
    history = History()
    history.load_state_dict(state)
    return history.rows


@pytest.mark.parametrize("name", CALLBACKS)
def test_both_ranks_hold_the_same_history(ranks, name):
    first, second = (rank["histories"][name] for rank in ranks)
    assert ranks[0]["failures"][name] == ranks[1]["failures"][name] == 0
    assert len(first["value"]) > 0
    assert _rows(first) == _rows(second)
