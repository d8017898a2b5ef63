"""Two processes of DDP over gloo, in one go since starting them is most of the time."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        environment = os.environ | {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": "2",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": "2",
            "GROUP_RANK": "0",
            "TORCHELASTIC_RUN_ID": "gns",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "tests.callbacks.run_gradient_noise_ddp", str(folder)]
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True))
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("accumulate", ["1", "2"])
def test_both_ranks_report_the_noise_of_all_micro_batches(ranks, accumulate):
    for result in (rank[accumulate] for rank in ranks):
        assert result["failures"] == 0
        noise, num_observations = result["reported"]["gns/trace_sigma"]
        assert noise == pytest.approx(result["noise"], rel=1e-5)
        # 40 examples in batches of 8 on 2 ranks: 3 batches each, the last of 4.
        assert num_observations == result["count"] == {"1": 6, "2": 4}[accumulate]
        signal, _ = result["reported"]["gns/grad_sq_norm"]
        assert signal == pytest.approx(result["signal"], abs=1e-5 * result["noise"])
    assert ranks[0][accumulate]["reported"] == ranks[1][accumulate]["reported"]


def test_the_batch_size_counts_all_ranks(ranks):
    assert ranks[0]["1"]["reported"]["gns/batch_size"][0] == pytest.approx(8)  # the last step: 4 on each rank


def test_watching_leaves_the_weights_alone(ranks):
    assert ranks[0]["2"]["weights"] == ranks[0]["unwatched"]["weights"]
