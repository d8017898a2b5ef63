"""Run every example in a folder of its own that is thrown away, as many at once as there are cores."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent


def run(script: Path) -> tuple[Path, float, subprocess.CompletedProcess[str]]:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, script],
            cwd=folder,
            env={"OMP_NUM_THREADS": "1", **os.environ, "MPLBACKEND": "agg"},
            capture_output=True,
            text=True,
            check=False,
        )
    return script, time.perf_counter() - start, done


def main() -> int:
    scripts = sorted(script for script in HERE.glob("*.py") if script != Path(__file__).resolve())
    failed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for script, seconds, done in pool.map(run, scripts):
            print(f"{script.name:<40} {'FAILED' if done.returncode else 'ok':<8}{seconds:6.1f} s", flush=True)
            if done.returncode:
                failed += 1
                print(done.stdout[-2000:], done.stderr[-4000:], sep="\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
