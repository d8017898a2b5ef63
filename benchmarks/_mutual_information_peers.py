"""Runs in an environment of its own: draws the tasks of benchmark-mi, and times and scores other packages.

``python _mutual_information_peers.py tasks OUT.npz SAMPLES``, ``... peers IN.npz OUT.json LIMIT`` or
``... wide LIMIT``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np

# Critics, and trees in many columns, take seconds to minutes a task: they see these only.
CRITIC_TASKS = ("1v1-normal-0.75", "multinormal-sparse-25-25-2-2.0", "student-identity-5-5-2")
WIDTHS, SAMPLES = (1, 10, 100, 1000, 4096), (1000, 10_000, 100_000)


def pair(n: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples of the timings: correlated Gaussian columns."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((n, width), dtype=np.float32)
    return x, np.float32(0.3) * x + generator.standard_normal((n, width), dtype=np.float32)


def timed(call: Callable[[], object]) -> tuple[float, float]:
    start = time.process_time()
    value = float(call())
    return value, time.process_time() - start


def grid(methods: dict[str, Callable], widths_of: dict[str, tuple], limit: float) -> dict[str, dict]:
    """CPU seconds of each method at each size; a size that should take longer than ``limit`` is left out and says so.

    What it should take is judged by the sizes before it: at most with the square of the samples, and with the columns.
    """
    results: dict[str, dict] = {}
    for name, method in methods.items():
        times: dict[tuple[int, int], float] = {}
        results[name] = {}
        for n in SAMPLES:
            for width in widths_of.get(name, WIDTHS):
                before = [
                    seconds * max(1, (n / m) ** 2) * max(1, width / w)
                    for (m, w), seconds in times.items()
                    if m <= n and w <= width
                ]
                expected = min(before, default=0.0)
                key = f"{n}x{width}"
                if expected > limit:
                    results[name][key] = f"left out: about {expected:.0f} s expected"
                else:
                    x, y = pair(n, width)
                    try:
                        times[n, width] = timed(lambda x=x, y=y, method=method: method(x, y))[1]
                        results[name][key] = times[n, width]
                    except Exception as error:
                        results[name][key] = f"failed: {type(error).__name__}"
    return results


def npeet_like(x: np.ndarray, y: np.ndarray, k: int = 3) -> float:
    """KSG by trees of the maximum norm, as NPEET does it (its licence and code are its own)."""
    from scipy.spatial import cKDTree
    from scipy.special import digamma

    generator = np.random.default_rng(0)
    x, y = (rows + 1e-10 * generator.standard_normal(rows.shape) for rows in (x, y))
    reach = cKDTree(np.hstack([x, y])).query(np.hstack([x, y]), k + 1, p=np.inf)[0][:, k] - 1e-15
    near = [cKDTree(rows).query_ball_point(rows, reach, p=np.inf, return_length=True) for rows in (x, y)]
    return float(digamma(k) + digamma(len(x)) - sum(digamma(each).mean() for each in near))


def write_tasks(path: str, samples: int) -> None:
    import bmi

    arrays = {}
    for index, (name, task) in enumerate(bmi.benchmark.BENCHMARK_TASKS.items()):
        x, y = task.sample(samples, 0)
        arrays[f"x{index}"], arrays[f"y{index}"] = np.asarray(x, np.float32), np.asarray(y, np.float32)
        arrays[f"mi{index}"], arrays[f"name{index}"] = float(task.mutual_information), name
    np.savez(path, **arrays)


def score_peers(path: str, out: str, limit: float) -> None:
    import bmi
    import infomeasure
    import torch
    from sklearn.feature_selection import mutual_info_regression
    from torch_mist import estimate_mi

    torch.set_num_threads(1)

    def mist(name: str) -> Callable:
        def measure(x: np.ndarray, y: np.ndarray) -> float:
            cut = len(x) * 4 // 5
            result = estimate_mi(
                data=(x[:cut], y[:cut]),
                test_data=(x[cut:], y[cut:]),
                estimator=name,
                max_epochs=20,
                hidden_dims=[128, 128],
                patience=5,
                verbose=False,
            )
            return result[0] if isinstance(result, tuple) else result

        return measure

    nearest: dict[str, Callable] = {
        "infomeasure KSG": lambda x, y: infomeasure.mutual_information(x, y, approach="ksg", k=3, base="e"),
        "NPEET-like KSG": npeet_like,
        "scikit-learn KSG": lambda x, y: mutual_info_regression(x, y[:, 0], n_neighbors=3, random_state=0)[0],
    }
    critics: dict[str, Callable] = {
        "torch-mist SMILE": mist("smile"),
        "torch-mist MINE": mist("mine"),
        "benchmark-mi InfoNCE": lambda x, y: bmi.estimators.InfoNCEEstimator(
            max_n_steps=1000, test_every_n_steps=250, verbose=False
        ).estimate(x, y),
    }
    tasks = np.load(path)
    rows = []
    for index in range(len(tasks.files) // 4):
        x, y = tasks[f"x{index}"].astype(float), tasks[f"y{index}"].astype(float)
        row = {"task": str(tasks[f"name{index}"]), "truth": float(tasks[f"mi{index}"])}
        for name, method in {**nearest, **critics}.items():
            if name.startswith("scikit") and (x.shape[1] > 1 or y.shape[1] > 1):
                continue
            # Trees take some ten seconds each in 25 columns.
            if (name in critics or x.shape[1] > 10) and row["task"] not in CRITIC_TASKS:
                row[name] = "left out: too long"
                continue
            data = (x, y) if name in nearest else (x.astype(np.float32), y.astype(np.float32))
            try:
                row[name] = list(timed(lambda method=method, data=data: method(*data)))
            except Exception as error:
                row[name] = f"failed: {type(error).__name__}"
        rows.append(row)
        print(row, flush=True)
    times = grid(nearest, {"scikit-learn KSG": (1,)}, limit)
    with open(out, "w") as file:
        json.dump({"tasks": rows, "cpu_seconds": times}, file)


def time_wide(limit: int) -> None:
    """Print infomeasure's CPU seconds for 10,000 samples of 100 and 100 columns; the system ends it at the limit."""
    import resource

    import infomeasure

    x, y = pair(10_000, 100)
    so_far = int(time.process_time()) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (so_far + limit, so_far + limit))
    print(timed(lambda: infomeasure.mutual_information(x, y, approach="ksg", k=3, base="e"))[1])


if __name__ == "__main__":
    if sys.argv[1] == "tasks":
        write_tasks(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1] == "wide":
        time_wide(int(sys.argv[2]))
    else:
        score_peers(sys.argv[2], sys.argv[3], float(sys.argv[4]))
