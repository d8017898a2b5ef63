"""Cost of partial information decomposition: ours, dit, and a plain twin of the published double loop, in one run.

Run on one core, with nothing else on the machine; dit is measured where it is installed (``pip install dit==2.3``, in
an environment of its own), and keeps its earlier results where it is not:

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/partial_information.py

It takes about three minutes; ``--skip six_sources`` leaves out the longest part.

Layers are simulated: labels, a mean for each label and neuron, noise, tanh, 8 levels. Minima over rounds of the wall
clock and of the processor's time (on a busy machine the second is the one to read) are written to
``benchmarks/results/partial_information.json`` and drawn for the docs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lightning_foresight.functional import (
    JointRows,
    broja_pid,
    joint_table,
    quantize,
    representational_complexity,
    shannon_invariants,
    sx_pid,
)

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the slow twins of the tests
from tests.reference.partial_information import random_table, shared_exclusions_pid, table_of

RESULTS = Path(__file__).parent / "results" / "partial_information.json"
PICTURE = Path(__file__).parents[1] / "docs" / "_static" / "partial_information_cost.svg"


def layer(neurons: int, samples: int = 60_000, labels: int = 10, levels: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, labels, (samples,), generator=generator)
    means = torch.randn(labels, neurons, generator=generator)
    codes = torch.empty(samples, neurons, dtype=torch.uint8)
    for start in range(0, samples, 2000):
        part = slice(start, start + 2000)
        noise = torch.randn(len(target[part]), neurons, generator=generator)
        codes[part] = quantize(torch.tanh(0.3 * means[target[part]] + 0.33 * noise), levels, limits=(-1, 1))
    return codes, target


def measure(function: Callable[[], Any], rounds: int) -> dict[str, float]:
    walls, processor = [], []
    for _ in range(rounds):
        wall, used = time.perf_counter(), time.process_time()
        function()
        walls.append(time.perf_counter() - wall)
        processor.append(time.process_time() - used)
    return {"wall_s": round(min(walls), 5), "cpu_s": round(min(processor), 5)}


def headline() -> dict[str, Any]:
    results: dict[str, Any] = {}
    table = joint_table(*layer(5))
    results["rows_of_5_neurons"] = len(table.rows)
    results["sx_pid_7579_atoms"] = measure(lambda: sx_pid(table), 5)
    results["complexity_of_5_neurons"] = measure(lambda: representational_complexity(table), 5)
    ten = joint_table(*layer(10))
    results["rows_of_10_neurons"] = len(ten.rows)
    results["broja_45_pairs_gap_1e-6"] = measure(lambda: broja_pid(ten, tol=1e-6), 5)
    results["broja_largest_gap"] = float(broja_pid(ten, tol=1e-6).gap.max())
    twenty_thousand = joint_table(*layer(10, samples=20_000))
    clock = lambda: representational_complexity(twenty_thousand, method="clock")  # noqa: E731
    estimate = clock()
    results["clock_10_neurons_rows"] = len(twenty_thousand.rows)
    results["clock_10_neurons"] = measure(clock, 2) | {"std_error": float(estimate.std_error)}
    return results


def wide() -> dict[str, Any]:
    results = {}
    for neurons in (512, 2048, 8192):
        table = joint_table(*layer(neurons), dtype=torch.uint8)
        results[str(neurons)] = measure(lambda table=table: shannon_invariants(table), 2)
    return results


def growth_with_sources() -> dict[str, Any]:
    """Time of all atoms against sources, for ours and, up to 4, for the twin; 60 rows."""
    results = {}
    for sources in (2, 3, 4, 5):
        table = random_table(0, sources, levels=8, targets=10, rows=60)
        results[str(sources)] = {"ours": measure(lambda table=table: sx_pid(table, parts=True), 5)}
        if sources < 5:  # with 5 sources the twin would list 2 ** 31 families of sets to find the antichains
            results[str(sources)]["double_loop"] = measure(lambda table=table: shared_exclusions_pid(table), 1)
    return results


def growth_with_neurons() -> dict[str, Any]:
    """Time against the neurons of a layer of 5,000 samples: complexity (sampled above 5), all pairs, and invariants."""
    results = {}
    codes, target = layer(10, samples=5000)
    for neurons in (2, 3, 4, 5, 6, 8, 10):
        table = joint_table(codes[:, :neurons], target)
        results[str(neurons)] = {
            "rows": len(table.rows),
            "complexity": measure(lambda table=table: representational_complexity(table, std_error=0.01), 1),
            "broja_all_pairs": measure(lambda table=table: broja_pid(table, tol=1e-6), 2),
            "invariants": measure(lambda table=table: shannon_invariants(table), 2),
        }
    return results


def six_sources() -> dict[str, Any]:
    codes, target = layer(6, samples=1200)
    table = joint_table(codes, target)
    table = JointRows(table.rows[:1000], table.weights[:1000])
    found = measure(lambda: sx_pid(table), 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return found | {"rows": len(table.rows), "peak_memory_of_the_process_gib": round(peak, 2)}


def growth() -> dict[str, Any]:
    """Time against rows, for the twin of the double loop and for ours, 3 sources."""
    results = {}
    for rows in (50, 100, 200, 400):
        table = random_table(0, 3, levels=12, targets=10, rows=rows)
        results[str(len(table.rows))] = {
            "ours": measure(lambda table=table: sx_pid(table, parts=True), 5),
            "double_loop": measure(lambda table=table: shared_exclusions_pid(table), 1),
        }
    return results


def against_dit() -> dict[str, Any] | None:
    try:
        import dit
    except ImportError:
        return None
    results: dict[str, Any] = {"version": dit.__version__}
    for name in ("AND", "RAND2_3x4t3", "RAND3_2t2"):
        table = table_of(name)
        outcomes = ["".join(map(str, row)) for row in table.rows.tolist()]
        distribution = dit.Distribution(outcomes, table.probabilities().tolist())
        sources = [[i] for i in range(table.num_sources)]
        found: dict[str, Any] = {"ours_sx": measure(lambda table=table: sx_pid(table), 5)}
        pids = [("dit_sx", "PID_SX")] + ([("dit_broja", "PID_BROJA")] if table.num_sources == 2 else [])
        for key, which in pids:
            pid = getattr(dit.pid, which, None)
            if pid is None:
                continue
            target = [table.num_sources]
            found[key] = measure(lambda pid=pid, d=distribution, s=sources, t=target: pid(d, s, t), 1)
            if which == "PID_BROJA":
                ours = broja_pid(table)
                found["ours_broja"] = measure(lambda table=table: broja_pid(table), 5)
                theirs = float(pid(distribution, sources, target).get_pi(((0, 1),)))
                found["broja_synergy"] = {"ours": float(ours.synergy), "gap": float(ours.gap), "dit": theirs}
        results[name] = found
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skip", nargs="*", default=[], help="parts to leave as they are in the results")
    skipped = parser.parse_args().skip
    torch.set_num_threads(1)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["machine"] = {
        "processor": _processor(),
        "cores_used": 1,
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    parts = {
        "six_sources": six_sources,  # first, so that the peak of memory is its own
        "headline": headline,
        "growth_with_rows_3_sources": growth,
        "growth_with_sources_60_rows": growth_with_sources,
        "growth_with_neurons_5000_samples": growth_with_neurons,
        "dit": against_dit,
        "invariants_of_60000_samples_by_neurons": wide,
    }
    for name, part in parts.items():
        if name in skipped:
            continue
        found = part()
        if found is not None:  # a peer that is not installed keeps its earlier results
            results[name] = found
            print(name, json.dumps(results[name], indent=1), flush=True)
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    draw(results)


def draw(results: dict[str, Any]) -> None:
    """Draw the three growths for the documentation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    rows, sources, neurons = figure.subplots(1, 3)
    names = {"double_loop": ("published double loop", "s--"), "ours": ("lightning_foresight", "o-")}
    for axes, part in ((rows, "growth_with_rows_3_sources"), (sources, "growth_with_sources_60_rows")):
        for key, (label, style) in names.items():
            points = [(int(size), one[key]["cpu_s"]) for size, one in results[part].items() if key in one]
            axes.plot(*zip(*points, strict=True), style, label=label)
    for key in ("complexity", "broja_all_pairs", "invariants"):
        points = [(int(size), one[key]["cpu_s"]) for size, one in results["growth_with_neurons_5000_samples"].items()]
        neurons.plot(*zip(*points, strict=True), "o-", label=key.replace("_", " "))
    rows.set(title="all atoms of 3 sources", xlabel="distinct rows", xscale="log")
    rows.minorticks_off()
    sizes = list(results["growth_with_rows_3_sources"])
    rows.set_xticks([int(size) for size in sizes], labels=sizes)
    sources.set(title="all atoms of 60 rows", xlabel="sources", xticks=[2, 3, 4, 5])
    neurons.set(title="layer of 5,000 samples and 8 levels", xlabel="neurons")
    for axes in (rows, sources, neurons):
        axes.set(yscale="log", ylabel="seconds of one core")
        axes.grid(alpha=0.25)
        axes.legend(fontsize="small")
    figure.savefig(PICTURE)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
