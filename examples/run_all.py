"""Run every example in a folder of its own that is thrown away, and say how long each takes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    failed = []
    for script in sorted(HERE.glob("*.py")):
        if script == Path(__file__).resolve():
            continue
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            run = subprocess.run(
                [sys.executable, script],
                cwd=folder,
                env=os.environ | {"MPLBACKEND": "agg"},
                capture_output=True,
                text=True,
                check=False,
            )
        print(
            f"{script.name:<40} {'ok' if run.returncode == 0 else 'FAILED':<8}{time.perf_counter() - start:6.1f} s",
            flush=True,
        )
        if run.returncode:
            failed.append(script.name)
            print(run.stdout[-2000:], run.stderr[-4000:], sep="\n")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
