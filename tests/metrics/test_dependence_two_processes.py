"""A measure of one's own, too, reads on two processes what it reads on one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_foresight.functional import distance_correlation
from tests.metrics.dependence_two_processes import measures, samples, values

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-m", "tests.metrics.dependence_two_processes", str(folder)]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return [torch.load(folder / f"rank{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", measures().keys())
def test_two_processes_read_what_one_reads(ranks, name):
    alone = measures()
    alone.update(*samples())
    expected = values(alone)[name]
    # The rows come in another order: sums of float32 differ in the last digits.
    assert ranks[0][name] == pytest.approx(expected, rel=1e-4)
    assert ranks[0][name] == ranks[1][name]


def test_distance_correlation_in_ten_lines_is_that_of_the_package():
    metrics = measures()
    metrics.update(*samples())
    assert values(metrics)["own"] == pytest.approx(float(distance_correlation(*samples()).value), rel=1e-4)
