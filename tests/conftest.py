"""Seeds all that is drawn: a test fails always or never. Starts the two processes of those tests that take two."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("seeded", derandomize=True, deadline=None)
settings.load_profile("seeded")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """What a test draws without a seed of its own is the same whatever ran before it."""
    torch.manual_seed(2024)


@pytest.fixture(scope="session")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list]:
    """Run all jobs of ``two_ranks.py``, away from what pytest has set up; return what gives both ranks' results of one.

    Its tests are marked as one group for pytest-xdist, so that a single worker starts the processes.
    """
    folder, root = tmp_path_factory.mktemp("ranks"), Path(__file__).parents[1]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    command = [sys.executable, "-W", "ignore", "-m", "tests.two_ranks", str(folder)]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300, check=False)

    def results_of(job: str) -> list:
        files = [folder / f"{job}{rank}.pt" for rank in (0, 1)]
        # A job that fails leaves those before it with their results.
        assert all(file.exists() for file in files), run.stderr[-3000:]
        return [torch.load(file) for file in files]

    return results_of
