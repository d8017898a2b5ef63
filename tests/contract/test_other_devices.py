"""Everything is measured on the training's device: run on one that knows where a tensor lies."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

HERE = Path(__file__).parent
MISTAKES = ("a tensor", "a number", "a generator", "an index", "a product", "a sum")


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch cannot be taught a device in Python",
)
def test_on_another_device_everything_stays_there_and_gives_the_same_numbers():
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.contract.run_elsewhere"],
        cwd=HERE.parents[1],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    outcomes = {outcome.pop("case"): outcome for outcome in map(json.loads, process.stdout.splitlines())}
    assert process.returncode == 0, process.stderr
    assert len(outcomes) > 200
    assert all("CPU" in outcomes.pop(f"mistake: {mistake}")["error"] for mistake in MISTAKES)
    errors = {name: outcome["error"] for name, outcome in outcomes.items() if "error" in outcome}
    assert not errors, "\n".join(f"{name}: {error}" for name, error in errors.items())
    assert all(outcome["results"] for outcome in outcomes.values())
    assert all(outcome["there"] for outcome in outcomes.values())
    assert all(outcome.get("failures", 0) == 0 for outcome in outcomes.values())
    # The same operations in the same order; only what lies differently in memory may be summed differently.
    assert max(outcome["difference"] for outcome in outcomes.values()) < 1e-9
    # The noise scale watches every step: all that it ever fetches are the steps' observations, and the values for the
    # history, at the epochs' ends.
    places = ("_noise_stream.py", "_noise_curvature.py", "history.py")
    watched = [outcome["waits"] for name, outcome in outcomes.items() if name.startswith("run with gns")]
    assert len(watched) > 5
    assert all(place.startswith(places) for waits in watched for place in waits)
