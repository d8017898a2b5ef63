"""What the estimators of mutual information and dependence cost, and how far off they are on tasks with known answers.

Run it with ``python benchmarks/mutual_information.py``, or with the parts to run: ``plane kernels coverage unseen tasks
wide peers``; results go to ``benchmarks/results/mutual_information.json``, each with the machine it was measured on.
``coverage`` counts how often intervals hold: an hour, or its families one by one: ``coverage_columns
coverage_labels coverage_large coverage_layers coverage_slices coverage_tables coverage_dependence``.
``tasks``, ``wide`` and ``peers`` make an environment of their own with benchmark-mi, infomeasure and torch-mist from
the package index. Without names all parts run, which takes two hours; ``plane`` alone takes half a minute.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks._coverage import count
from benchmarks._coverage_cases import FAMILIES
from benchmarks._mutual_information_peers import grid, pair
from lightning_foresight.functional import (
    hsic,
    input_information,
    label_information,
    mutual_information,
    plane_information,
)
from tests.functional.mutual_information.tasks import (
    TASKS,
    gaussian,
    gaussian_information,
    mapped,
    student,
    student_information,
    uniform_plus_uniform,
)
from tests.reference.information import TishbyPlane

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "mutual_information.json"
ENVIRONMENT = HERE / ".venv-mutual-information"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
PEERS = ["benchmark-mi", "jax==0.4.30", "jaxlib==0.4.30", "infomeasure", "scikit-learn"]
# What torch-mist needs beside torch, which the environment borrows: a second one would weigh gigabytes.
TORCH_MIST = ["torch-mist", "hydra-core<2", "mpld3", "pyro-ppl<2", "pyro-api", "omegaconf<2.4", "PyYAML"]
TORCH_MIST += ["antlr4-python3-runtime==4.9.3"]


def best_of(repeats: int, run: Callable[[], object]) -> float:
    """Least CPU seconds of several runs: other processes on the machine add to each."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def plane() -> dict:
    """The 126 layer-epochs of the 12-bit tanh net, all 4,096 inputs, against published values."""
    net = TishbyPlane()
    labels = torch.from_numpy(net.labels)
    layers = [[torch.from_numpy(each) for each in net.activations(snapshot)] for snapshot in range(21)]
    settings = {
        "binned": ("bin", 15, {"estimator": "binned", "bin_width": 0.07}),
        "kde": ("kde64_up", 3, {"estimator": "kde"}),
        "noisy": (None, 1, {"estimator": "noisy", "noise_std": 1e-3**0.5}),
    }
    results = {}
    for name, (reference, repeats, options) in settings.items():
        values = []

        def run(options: dict = options, values: list = values) -> None:
            values[:] = [[plane_information(each, labels, **options) for each in row] for row in layers]

        def run_epochs(options: dict = options) -> None:
            for row in layers:
                plane_information(dict(enumerate(row)), labels, **options)

        results[name] = {"cpu_seconds_126_layer_epochs": best_of(repeats, run)}
        if name == "binned":
            results[name]["cpu_seconds_21_epochs_of_6_layers_at_once"] = best_of(repeats, run_epochs)
        if reference:
            found = np.array([[[float(e.value) for e in pair] for pair in row] for row in values])
            results[name]["largest_error_bits"] = float(np.abs(found - net.reference(reference)).max())
    shuffled = labels[torch.randperm(4096, generator=torch.Generator().manual_seed(0))]
    results["label_information_real_and_shuffled_last_epoch"] = {
        name: [
            [round(float(label_information(each, y, estimator=name, **options).value), 4) for y in (labels, shuffled)]
            for each in layers[-1][:5:2]
        ]
        for name, options in {"binned": {"bin_width": 0.07}, "kde": {}, "ksg": {}, "probe": {}}.items()
    }
    return results


def memory_mib(what: str) -> float:
    """Return a line of /proc/self/status in MiB: ``VmRSS`` is the memory in use, ``VmHWM`` its peak."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(what + ":")), float("nan"))


def begin_peak() -> float:
    """Begin the peak of memory anew, where the system can (what ran before has long reached its own), and return it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what an earlier part freed would hide what this one takes
        Path("/proc/self/clear_refs").write_text("5")
    return memory_mib("VmHWM")


def kernels() -> dict:
    """Time and memory of HSIC, KDE, binning and KSG as samples and widths grow."""
    results: dict[str, dict] = {"hsic": {}, "wide": {}}
    generator = torch.Generator().manual_seed(0)
    for n in (1000, 4000, 10_000, 30_000, 100_000):
        x, y = (torch.randn(n, 10, generator=generator) for _ in range(2))
        before = begin_peak()
        seconds = best_of(3 if n < 20_000 else 1, lambda x=x, y=y: hsic(x, y, bandwidth=2.0, std_error=False))
        grown = memory_mib("VmHWM") - before
        results["hsic"][f"{n}x10"] = {"cpu_seconds": seconds, "peak_memory_grew_mib": grown}
    x, y = (torch.randn(4000, 1000, generator=generator) for _ in range(2))
    results["hsic"]["4000x1000"] = {"cpu_seconds": best_of(2, lambda: hsic(x, y, bandwidth=45.0, std_error=False))}
    for width in (100, 4096):
        rows = torch.randn(10_000, width, generator=generator)
        results["wide"][f"binned_10000x{width}"] = best_of(
            3, lambda rows=rows: input_information(rows, estimator="binned", bins=30)
        )
        results["wide"][f"kde_10000x{width}"] = best_of(1, lambda rows=rows: input_information(rows, estimator="kde"))
    x = torch.randn(10_000, 100, generator=generator)
    y = 0.3 * x + torch.randn(10_000, 100, generator=generator)
    results["wide"]["ksg_10000x100"] = best_of(2, lambda: mutual_information(x, y, estimator="ksg"))
    return results


def unseen() -> dict:
    """``auto`` on pairs that it was not made on: closed forms of our own, three seeds, n = 5,000, in nats."""
    rho = [0.8, 0.6, 0.4, 0.2]
    more = {
        "normal-10": (gaussian(rho, 10), gaussian_information(rho)),
        "cubed-4": (mapped(gaussian(rho, 4), lambda t: t**3), gaussian_information(rho)),
        "normal-6-weak": (gaussian([0.2] * 6, 6), gaussian_information([0.2] * 6)),
        "student-4-4": (student(4, 4), student_information(4, 4)),
        "student-8-3": (student(8, 3), student_information(8, 3)),
        "uniform-sum-1-narrow": (uniform_plus_uniform(0.1), 0.1 - math.log(0.2)),
    }
    names = ("auto", "ksg", "gaussian_copula")
    rows = []
    for task, (sample, truth) in {**{name: each[:2] for name, each in TASKS.items()}, **more}.items():
        for seed in (11, 12, 13):
            x, y = sample(5000, torch.Generator().manual_seed(seed))
            values = {
                name: float(mutual_information(x.float(), y.float(), estimator=name, base=math.e).value)
                for name in names
            }
            rows.append({"task": task, "seed": seed, "truth": truth, **values})
    means = {name: statistics.mean(abs(row[name] - row["truth"]) for row in rows) for name in names}
    return {"mean_absolute_error_nats": means, "tasks": rows}


def environment() -> Path:
    """Make the environment of the other packages once; return its Python."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
        install = [python, "-m", "pip", "install", "-q"]
        subprocess.run([*install, *PEERS], check=True)
        subprocess.run([*install, "--no-deps", *TORCH_MIST], check=True)
        site = next(ENVIRONMENT.glob("lib/python*/site-packages"))
        (site / "torch_of_the_package.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
    return python


def task_file(samples: int) -> Path:
    path = ENVIRONMENT / f"tasks_{samples}.npz"
    python = environment()
    if not path.exists():
        subprocess.run([python, HERE / "_mutual_information_peers.py", "tasks", path, str(samples)], check=True)
    return path


def tasks() -> dict:
    """``auto`` and its parts on the 40 tasks of benchmark-mi at n = 5,000, in nats."""
    file = np.load(task_file(5000))
    rows = []
    for index in range(len(file.files) // 4):
        x, y = torch.from_numpy(file[f"x{index}"]), torch.from_numpy(file[f"y{index}"])
        row = {"task": str(file[f"name{index}"]), "truth": float(file[f"mi{index}"])}
        for estimator in ("auto", "ksg", "gaussian_copula"):
            start = time.process_time()
            estimate = mutual_information(x, y, estimator=estimator, base=math.e)
            row[estimator] = [float(estimate.value), time.process_time() - start]
        rows.append(row)
    summary = {
        name: {
            "mean_absolute_error_nats": statistics.mean(abs(row[name][0] - row["truth"]) for row in rows),
            "median_cpu_seconds": statistics.median(row[name][1] for row in rows),
        }
        for name in ("auto", "ksg", "gaussian_copula")
    }
    return {"summary": summary, "tasks": rows}


def wide(limit: int = 240) -> dict:
    """Nearest neighbours of 10,000 samples of 100 and 100 columns; infomeasure is ended at ``limit`` CPU seconds."""
    x, y = (torch.from_numpy(rows) for rows in pair(10_000, 100))
    command = [environment(), HERE / "_mutual_information_peers.py", "wide", str(limit)]
    run = subprocess.run(command, check=False, env=os.environ | ONE_THREAD, capture_output=True, text=True)
    if run.returncode not in (0, -signal.SIGXCPU, -signal.SIGKILL):
        raise RuntimeError(run.stderr)
    return {
        "lightning_foresight ksg": best_of(3, lambda: mutual_information(x, y, estimator="ksg")),
        "infomeasure KSG": float(run.stdout) if run.returncode == 0 else f"not finished after {limit}",
    }


def peers(limit: float = 8.0, own_limit: float = 30.0) -> dict:
    """The same tasks by other packages, and the time of theirs and ours as samples and columns grow."""
    out = ENVIRONMENT / "peers.json"
    script = HERE / "_mutual_information_peers.py"
    command = [environment(), script, "peers", task_file(5000), out, str(limit)]
    subprocess.run(command, check=True, env=os.environ | ONE_THREAD)
    result = json.loads(out.read_text())
    summary = {}
    for name in sorted({key for row in result["tasks"] for key in row} - {"task", "truth"}):
        scored = [row for row in result["tasks"] if isinstance(row.get(name), list) and math.isfinite(row[name][0])]
        summary[name] = {
            "tasks": len(scored),
            "mean_absolute_error_nats": statistics.mean(abs(row[name][0] - row["truth"]) for row in scored),
            "median_cpu_seconds": statistics.median(row[name][1] for row in scored),
        }

    return {"summary": summary, "tasks": result["tasks"], "cpu_seconds": {**own(own_limit), **result["cpu_seconds"]}}


def own(limit: float) -> dict:
    """The time of ours as samples and columns grow."""

    def bits(estimator: str) -> Callable:
        return lambda x, y: mutual_information(torch.from_numpy(x), torch.from_numpy(y), estimator=estimator).value

    def kernel(x: np.ndarray, y: np.ndarray) -> torch.Tensor:
        return hsic(torch.from_numpy(x), torch.from_numpy(y), std_error=False).value

    methods = {name: bits(name) for name in ("auto", "ksg", "gaussian_copula", "binned")} | {"hsic": kernel}
    return grid({f"lightning_foresight {name}": method for name, method in methods.items()}, {}, limit)


def finite(value: object) -> object:
    """Replace numbers that JSON does not know by None."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main() -> None:
    """Run the named parts and keep the others' results."""
    coverage = {name: functools.partial(lambda family: count(family()), family) for name, family in FAMILIES.items()}
    parts = {part.__name__: part for part in (plane, kernels, unseen, tasks, wide, peers)} | coverage
    asked = [name for each in sys.argv[1:] or parts for name in (coverage if each == "coverage" else [each])]
    torch.set_num_threads(1)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    machine = {"processor": platform.processor() or platform.machine(), "threads": 1, "torch": torch.__version__}
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():
        names = [line.split(":")[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
        machine["processor"] = names[0] if names else machine["processor"]
    for name in asked:
        results[name] = {"machine": machine, "python": platform.python_version(), "results": finite(parts[name]())}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
        print(name, json.dumps(results[name]["results"], indent=1)[:2000])


if __name__ == "__main__":
    main()
