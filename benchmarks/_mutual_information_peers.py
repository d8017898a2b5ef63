"""Runs in an environment of its own: draws the tasks of benchmark-mi, and times and scores other packages.

``python _mutual_information_peers.py tasks OUT.npz SAMPLES`` or ``... peers IN.npz OUT.json``.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np


def write_tasks(path: str, samples: int) -> None:
    import bmi

    arrays = {}
    for index, (name, task) in enumerate(bmi.benchmark.BENCHMARK_TASKS.items()):
        x, y = task.sample(samples, 0)
        arrays[f"x{index}"], arrays[f"y{index}"] = np.asarray(x, np.float32), np.asarray(y, np.float32)
        arrays[f"mi{index}"], arrays[f"name{index}"] = float(task.mutual_information), name
    np.savez(path, **arrays)


def score_peers(path: str, out: str) -> None:
    import infomeasure
    from sklearn.feature_selection import mutual_info_regression

    tasks = np.load(path)
    rows = []
    for index in range(len(tasks.files) // 4):
        x, y, truth = tasks[f"x{index}"].astype(float), tasks[f"y{index}"].astype(float), float(tasks[f"mi{index}"])
        row = {"task": str(tasks[f"name{index}"]), "truth": truth}
        start = time.process_time()
        value = infomeasure.mutual_information(x, y, approach="ksg", k=3, base="e")
        row["infomeasure_ksg"] = [float(value), time.process_time() - start]
        if x.shape[1] == y.shape[1] == 1:
            start = time.process_time()
            value = mutual_info_regression(x, y[:, 0], n_neighbors=3, random_state=0)[0]
            row["sklearn_ksg"] = [float(value), time.process_time() - start]
        rows.append(row)
    generator = np.random.default_rng(0)
    x = generator.standard_normal((10_000, 100))
    y = 0.3 * x + generator.standard_normal((10_000, 100))
    start = time.process_time()
    infomeasure.mutual_information(x, y, approach="ksg", k=3, base="e")
    timing = {"infomeasure_ksg_10000x100": time.process_time() - start}
    with open(out, "w") as file:
        json.dump({"tasks": rows, "timing": timing}, file)


if __name__ == "__main__":
    if sys.argv[1] == "tasks":
        write_tasks(sys.argv[2], int(sys.argv[3]))
    else:
        score_peers(sys.argv[2], sys.argv[3])
