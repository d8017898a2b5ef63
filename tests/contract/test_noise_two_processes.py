"""Two processes over gloo, in one go since starting them is most of the time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.noise_two_processes import RUNS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-m", "tests.contract.noise_two_processes", str(folder)]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", RUNS)
def test_both_ranks_report_the_noise_of_all_micro_batches(ranks, name):
    for result in (rank["watched"][name] for rank in ranks):
        assert result["failures"] == 0
        noise, num_observations = result["reported"]["gns/trace_sigma"]
        assert noise == pytest.approx(result["noise"], rel=1e-5)
        # 40 examples in batches of 8 on 2 ranks: 3 batches each, the last of 4.
        assert num_observations == result["count"] == (4 if "accumulation" in name else 6)
        signal, _ = result["reported"]["gns/grad_sq_norm"]
        assert signal == pytest.approx(result["signal"], abs=1e-5 * result["noise"])
        assert result["reported"]["gns/batch_size"][0] == pytest.approx(8)  # the last step: 4 on each rank
        of_fsdp = ranks[0]["unwatched"]["FSDP2, accumulation"]["hooks"]
        assert result["hooks"] == (of_fsdp if "FSDP2" in name else 0)
    assert ranks[0]["watched"][name]["reported"] == ranks[1]["watched"][name]["reported"]


@pytest.mark.parametrize("name", ["DDP, accumulation", "FSDP2, accumulation"])
def test_watching_leaves_the_weights_of_two_processes_alone(ranks, name):
    for rank in ranks:
        assert rank["watched"][name]["weights"] == rank["unwatched"][name]["weights"]


@pytest.mark.parametrize("method", ["split", "per_example"])
def test_methods_that_need_whole_parameters_are_refused_on_shards(ranks, method):
    for rank in ranks:
        assert f'(method=\'{method}\'): expected "auto" or "micro_batches" under' in rank["refused"][method]
