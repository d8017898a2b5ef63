"""Effective information by perturbation: deep-ei from the package index against ours, error and time.

Run on one core, with nothing else on the machine:

    OMP_NUM_THREADS=1 python benchmarks/effective_information.py [--converged] [--repeats 5]

The first run makes an environment for deep-ei beside this file (it shares this one's torch). ``--converged`` adds
deep-ei's own convergence loop on the 64->32 layer, several minutes. Times are minima over repetitions, by the clock on
the wall and by the processor's. Results go to ``benchmarks/results/effective_information.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sysconfig
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lightning_foresight.functional import ei_parts
from lightning_foresight.functional.effective_information.causal import causal_measures

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "effective_information.json"
ENVIRONMENT = HERE / ".venv-deep-ei"
PEER = ("deep-ei==0.7.0", "networkx==2.5.1", "decorator<5", "fast-histogram")
# deep-ei is measured as it comes, which is 20 samples a batch, and with batches that suit it better.
BATCH_SIZES = {"deep_ei_as_it_comes": {}, "deep_ei": {"batch_size": 1000}}
LAYERS = ((5, 5), (20, 10), (64, 32))
SAMPLES = (100, 1_000, 10_000, 100_000)


def layer_of(inputs: int, outputs: int) -> nn.Linear:
    torch.manual_seed(0)
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.uniform_(layer.weight, -3 / math.sqrt(inputs), 3 / math.sqrt(inputs))
    return layer


def peer_python() -> Path:
    """Return the interpreter of deep-ei's environment; make it at the first call."""
    python = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", *PEER], check=True)
        paths = subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            capture_output=True,
            text=True,
        )
        # torch, numpy and scikit-learn are this environment's: hundreds of megabytes that need not be fetched twice.
        (Path(paths.stdout.strip()) / "host.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


class Peer:
    """deep-ei in its own process, fed with one job a line."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [peer_python(), "-W", "ignore", HERE / "_deep_ei.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, layer: nn.Linear, function: str, seed: int = 0, **options: Any) -> dict[str, float]:
        job = {"weight": layer.weight.tolist(), "function": function, "seed": seed, "options": options}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def timed(function: Callable[[], Any], repeats: int) -> dict[str, Any]:
    walls, cpus, value = [], [], None
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        value = function()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {"value": float(value.sum()), "wall_s": min(walls), "cpu_s": min(cpus)}


def root_mean_square(errors: list[float]) -> float:
    return math.sqrt(statistics.fmean(error**2 for error in errors))


def compare(peer: Peer, repeats: int) -> list[dict[str, Any]]:
    """Error of the sum over pairs, against the exact value, and time, at the same numbers of samples."""
    rows = []
    for inputs, outputs in LAYERS:
        layer = layer_of(inputs, outputs)
        exact = timed(lambda layer=layer: ei_parts(layer, nn.Sigmoid(), in_range=(0, 1)), max(5, repeats))
        row: dict[str, Any] = {"layer": f"{inputs}->{outputs}", "exact": exact, "sampled": []}
        for samples in SAMPLES:
            seeds = range(5 if samples < 100_000 else repeats)
            runs: dict[str, list[dict[str, Any]]] = {name: [] for name in (*BATCH_SIZES, "lightning_foresight")}
            for seed in seeds:  # in turns, so that whatever else the machine does meets all
                for name, batches in BATCH_SIZES.items():
                    runs[name].append(peer(layer, "ei_parts", seed, samples=samples, **batches))
                runs["lightning_foresight"].append(
                    timed(
                        lambda seed=seed, samples=samples, layer=layer: ei_parts(
                            layer,
                            nn.Sigmoid(),
                            in_range=(0, 1),
                            method="sampled",
                            num_samples=samples,
                            generator=torch.Generator().manual_seed(seed),
                        ),
                        1,
                    )
                )
            row["sampled"].append(
                {
                    "samples": samples,
                    **{
                        name: {
                            "rms_error_bits": root_mean_square([run["value"] - exact["value"] for run in some]),
                            "wall_s": min(run["wall_s"] for run in some),
                            "cpu_s": min(run["cpu_s"] for run in some),
                        }
                        for name, some in runs.items()
                    },
                }
            )
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def growth(repeats: int) -> list[dict[str, Any]]:
    """Cost of the exact method as inputs x outputs grows by 4, 16 and 64, and at 784 -> 100."""
    rows = []
    for inputs, outputs in ((64, 32), (128, 64), (256, 128), (512, 256), (784, 100)):
        layer = layer_of(inputs, outputs)
        row = timed(lambda layer=layer: ei_parts(layer, nn.Sigmoid(), in_range=(0, 1)), repeats)
        rows.append({"layer": f"{inputs}->{outputs}", "pairs": inputs * outputs, **row})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def large() -> list[dict[str, Any]]:
    """Layers of which EICallback measures a choice of pairs: the stated standard error, and the exact sum."""
    rows = []
    for inputs, outputs, most, known in (
        (784, 100, 4_096, True),
        (576, 64, 4_096, True),
        (1152, 256, 4_096, False),
        (4096, 4096, 4_096, False),
        (4096, 4096, 65_536, False),
    ):
        layer = layer_of(inputs, outputs)
        exact = float(causal_measures(layer, nn.Sigmoid(), in_range=(0, 1)).parts.value) if known else None
        wall, cpu = time.perf_counter(), time.process_time()
        parts = causal_measures(layer, nn.Sigmoid(), in_range=(0, 1), max_pairs=most).parts
        row = {
            "layer": f"{inputs}->{outputs}",
            "max_pairs": most,
            "wall_s": time.perf_counter() - wall,
            "cpu_s": time.process_time() - cpu,
            "parts": float(parts.value),
            "std_error": float(parts.std_error),
            "exact": exact,
        }
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--converged", action="store_true", help="add deep-ei's own convergence loop on 64->32")
    options = parser.parse_args()
    torch.set_num_threads(1)
    peer = Peer()
    results: dict[str, Any] = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": 1,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "compare": compare(peer, options.repeats),
        "growth": growth(options.repeats),
        "large": large(),
    }
    if options.converged:
        results["converged"] = {"layer": "64->32", "deep_ei": peer(layer_of(64, 32), "ei_parts", batch_size=1000)}
        print(json.dumps(results["converged"]), flush=True)
    elif RESULTS.exists():
        before = json.loads(RESULTS.read_text())
        results.update({"converged": before["converged"]} if "converged" in before else {})
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
