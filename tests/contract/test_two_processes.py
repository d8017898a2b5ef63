"""In a distributed run, too, watching changes nothing, and all ranks measure the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_foresight.history import History
from tests.contract.cases import CALLBACKS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-m", "tests.contract.two_processes", str(folder)]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return [torch.load(folder / f"rank{rank}.pt") for rank in (0, 1)]


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
