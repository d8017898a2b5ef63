"""What the estimators of mutual information and dependence cost, and how far off they are on tasks with known answers.

Run it with ``python benchmarks/mutual_information.py [plane] [kernels] [coverage] [tasks] [peers]``; results go to
``benchmarks/results/mutual_information.json``, each with the machine it was measured on. ``tasks`` and ``peers`` make
an environment of their own with benchmark-mi and infomeasure from the package index.
"""

from __future__ import annotations

import json
import math
import platform
import resource
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
from lightning_foresight.functional import (
    hsic,
    input_information,
    label_information,
    mutual_information,
    plane_information,
)
from tests.functional.mutual_information.tasks import TASKS
from tests.reference.information import TishbyPlane

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "mutual_information.json"
ENVIRONMENT = HERE / ".venv-mutual-information"
PEERS = ["benchmark-mi", "jax==0.4.30", "jaxlib==0.4.30", "infomeasure", "scikit-learn"]


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
        "binned": ("bin", 7, {"estimator": "binned", "bin_width": 0.07}),
        "kde": ("kde64_up", 3, {"estimator": "kde"}),
        "noisy": (None, 1, {"estimator": "noisy", "noise_std": 1e-3**0.5}),
    }
    results = {}
    for name, (reference, repeats, options) in settings.items():
        values = []

        def run(options: dict = options, values: list = values) -> None:
            values[:] = [[plane_information(each, labels, **options) for each in row] for row in layers]

        results[name] = {"cpu_seconds_126_layer_epochs": best_of(repeats, run)}
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


def kernels() -> dict:
    """Time and memory of HSIC, KDE, binning and KSG as samples and widths grow."""
    results: dict[str, dict] = {"hsic": {}, "wide": {}}
    generator = torch.Generator().manual_seed(0)
    for n in (1000, 4000, 10_000, 30_000, 100_000):
        x, y = (torch.randn(n, 10, generator=generator) for _ in range(2))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = best_of(3 if n < 20_000 else 1, lambda x=x, y=y: hsic(x, y, bandwidth=2.0, std_error=False))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        results["hsic"][f"{n}x10"] = {"cpu_seconds": seconds, "peak_memory_grew_mib": grown}
    x, y = (torch.randn(4000, 1000, generator=generator) for _ in range(2))
    results["hsic"]["4000x1000"] = {"cpu_seconds": best_of(2, lambda: hsic(x, y, bandwidth=45.0, std_error=False))}
    for width in (100, 4096):
        rows = torch.randn(10_000, width, generator=generator)
        results["wide"][f"binned_10000x{width}"] = best_of(3, lambda rows=rows: input_information(rows, bins=30))
        results["wide"][f"kde_10000x{width}"] = best_of(1, lambda rows=rows: input_information(rows, estimator="kde"))
    x = torch.randn(10_000, 100, generator=generator)
    y = 0.3 * x + torch.randn(10_000, 100, generator=generator)
    results["wide"]["ksg_10000x100"] = best_of(2, lambda: mutual_information(x, y, estimator="ksg"))
    return results


def coverage(trials: int = 200) -> dict:
    """How often the 95% interval of single columns holds the known value, at n = 1,000."""
    results = {}
    for name, (sample, truth, _) in TASKS.items():
        x, _ = sample(10, torch.Generator().manual_seed(0))
        if x.shape[1] > 1:
            continue
        inside, errors = 0, []
        for seed in range(trials):
            estimate = mutual_information(*sample(1000, torch.Generator().manual_seed(seed)), base=math.e)
            low, high = estimate.interval(0.95)
            inside += int(low <= truth <= high)
            errors.append(float(estimate.value) - truth)
        results[name] = {"covered": inside / trials, "bias_nats": statistics.mean(errors)}
    return results


def environment() -> Path:
    """Make the environment of the other packages once; return its Python."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS], check=True)
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


def peers() -> dict:
    """The same tasks by other packages."""
    out = ENVIRONMENT / "peers.json"
    script = HERE / "_mutual_information_peers.py"
    subprocess.run([environment(), script, "peers", task_file(5000), out], check=True)
    result = json.loads(out.read_text())
    rows = result["tasks"]
    summary = {}
    for name in ("infomeasure_ksg", "sklearn_ksg"):
        scored = [row for row in rows if name in row]
        summary[name] = {
            "tasks": len(scored),
            "mean_absolute_error_nats": statistics.mean(abs(row[name][0] - row["truth"]) for row in scored),
            "median_cpu_seconds": statistics.median(row[name][1] for row in scored),
        }
    return {"summary": summary, **result}


def main() -> None:
    """Run the named parts and keep the others' results."""
    parts = {part.__name__: part for part in (plane, kernels, coverage, tasks, peers)}
    torch.set_num_threads(1)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    machine = {"processor": platform.processor() or platform.machine(), "threads": 1, "torch": torch.__version__}
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():
        names = [line.split(":")[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
        machine["processor"] = names[0] if names else machine["processor"]
    for name in sys.argv[1:] or list(parts):
        results[name] = {"machine": machine, "python": platform.python_version(), "results": parts[name]()}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        print(name, json.dumps(results[name]["results"], indent=1)[:2000])


if __name__ == "__main__":
    main()
