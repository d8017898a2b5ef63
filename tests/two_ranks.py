"""Running a module of the tests that starts two processes, each of which leaves a file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_two_ranks(module: str, folder: Path, suffix: str = ".pt") -> list[Path]:
    """Run a module with a folder as its argument, away from what pytest has set up; return the file of each rank."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-m", module, str(folder)]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return [folder / f"rank{rank}{suffix}" for rank in (0, 1)]
