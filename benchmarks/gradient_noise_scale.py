"""What the noise scale costs in the Trainer and beside peers, how often its intervals cover, what it reads on the move.

Run it with ``python benchmarks/gradient_noise_scale.py [cost] [peers] [coverage] [moving_weights]``; results go to
``benchmarks/results/gradient_noise_scale.json``, each with the machine it was measured on. ``peers`` installs
backpack-for-pytorch and opacus with pip into ``build/noise_peers``, apart from the environment that it runs in.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from _noise_cost import Module, cost, fit
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_foresight.callbacks import GradientNoiseScaleCallback
from lightning_foresight.functional import exact_noise_scale, noise_moments
from lightning_foresight.functional.gradient_noise.moments import MomentSums, mean_moments, moment_sums
from lightning_foresight.functional.gradient_noise.noise_scale import noise_scale_from_means
from lightning_foresight.functional.gradient_noise.pooled import pooled_noise_scale

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "gradient_noise_scale.json"
PEERS = HERE.parent / "build" / "noise_peers"


def peers() -> dict:
    """A step with all squared per-example norms over the plain step, in plain loops, for us and for others."""
    packages = ("backpack-for-pytorch", "opacus", "unfoldNd", "einops", "opt_einsum")
    table: dict = {"packages": {}}
    for package in packages:  # --no-deps: they use the torch that is here
        target = ["--no-deps", "--target", str(PEERS), "--upgrade"]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", *target, package],
            capture_output=True,
            text=True,
            check=False,
        )
        table["packages"][package] = "installed" if done.returncode == 0 else "pip failed"
    for info in PEERS.glob("*.dist-info"):
        table["packages"][info.name.removesuffix(".dist-info")] = "installed"
    paths = os.pathsep.join([str(HERE.parent), str(PEERS)])
    for network in ("mlp_17k", "transformer_2M"):
        for package in ("ours", "backpack", "opacus", "vmap"):
            done = subprocess.run(
                [sys.executable, str(HERE / "_noise_peers.py"), package, network],
                capture_output=True,
                text=True,
                check=False,
                env=os.environ | {"PYTHONPATH": paths},
            )
            lines = done.stdout.strip().splitlines()
            result = json.loads(lines[-1]) if done.returncode == 0 and lines else {"error": done.stderr.strip()[-300:]}
            table[f"{network}, {package}"] = result
            print(network, package, result, flush=True)
    return table


def coverage(runs: int = 2000) -> dict:
    """How often Fieller's interval holds the true ratio, for observations like those of a noise-dominated network."""
    generator = torch.Generator().manual_seed(0)
    table = {}
    signal, trace, batch, parts = 1.0, 400.0, 16, 4  # the truth: B_simple = 400 examples, a step of 64
    for count in (16, 64, 256):
        # Squared norms of Gaussian gradients in 100 dimensions, simulated as they are: nothing is normal here.
        shape = (runs, count, parts, 100)
        covered, unbounded = 0, 0
        for _ in range(0, runs, 100):
            noise = torch.randn(100, *shape[1:], generator=generator, dtype=torch.float64)
            gradients = noise * (trace / 100 / batch) ** 0.5 + (signal / 100) ** 0.5
            small = gradients.square().sum(-1).mean(-1)
            big = gradients.mean(2).square().sum(-1)
            s, g = noise_moments(small, big, batch, batch * parts)
            means = mean_moments(MomentSums(*moment_sums(s.T, g.T)))
            scale = noise_scale_from_means(means, level=0.95, dtype=torch.float64, method="")
            covered += int(((scale.b_simple.lower <= 400) & (scale.b_simple.upper >= 400)).sum())
            unbounded += int(scale.b_simple.upper.isinf().sum())
        table[str(count)] = {"coverage": covered / runs, "unbounded": unbounded / runs}
        print("coverage", count, table[str(count)], flush=True)
    for count in (32, 128):  # batches of 16 at the same weights, in 16 folds, as probe_noise_scale takes them
        covered, unbounded = 0, 0
        for _ in range(runs):
            gradients = torch.randn(count, 100, generator=generator, dtype=torch.float64) * (trace / 100 / batch) ** 0.5
            gradients += (signal / 100) ** 0.5
            sums = gradients.unflatten(0, (-1, 16)).sum(0)
            squares = gradients.square().sum(1).unflatten(0, (-1, 16)).sum(0)
            counts = torch.full((16,), count / 16, dtype=torch.float64)
            b = pooled_noise_scale(sums @ sums.T, squares, counts / batch, counts, dtype=torch.float64).b_simple
            covered += int((b.lower <= 400) & (b.upper >= 400))
            unbounded += int(b.upper.isinf())
        table[f"all pairs of {count} batches"] = {"coverage": covered / runs, "unbounded": unbounded / runs}
        print("all pairs", count, table[f"all pairs of {count} batches"], flush=True)
    return table


class Patches(nn.Module):
    """A small transformer over the rows of a digit."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, 16), nn.Linear(16, 10)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(self.embed(x.unflatten(1, (8, 8)))).mean(1))


NETWORKS = {
    "mlp": lambda: nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)),
    "cnn": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 6, 3),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 10),
    ),
    "transformer": Patches,
}
OPTIMIZERS = {
    "sgd 0.02": lambda p: torch.optim.SGD(p, lr=0.02),
    "sgd 0.2": lambda p: torch.optim.SGD(p, lr=0.2),
    "momentum 0.02": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9),
    "adam 0.001": lambda p: torch.optim.Adam(p, lr=0.001),
    "adam 0.01": lambda p: torch.optim.Adam(p, lr=0.01),
}


class Truth(pl.Callback):
    """Works out S and G2 of all examples at the weights of every step, and keeps the step's gradient."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.inputs, self.targets = inputs, targets
        self.moments: list[tuple[float, float]] = []
        self.gradients: list[torch.Tensor] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        scale = exact_noise_scale(pl_module.net, F.cross_entropy, self.inputs, self.targets)
        self.moments.append((float(scale.trace_sigma.value), float(scale.grad_sq_norm.value)))
        self.gradients.append(torch.cat([p.grad.flatten() for p in pl_module.parameters()]).clone())


def moving_weights(steps: int = 200, size: int = 8, accumulate: int = 4, across: int = 4) -> dict:
    """Estimates over the truth, both averaged over a run: within steps, and across steps as is often done."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    inputs = torch.tensor(images[:512] / 16, dtype=torch.float32)
    targets = torch.tensor(labels[:512])
    table = {}
    for name, network in NETWORKS.items():
        for rule, optimizer in OPTIMIZERS.items():
            torch.manual_seed(0)
            model = Module(network())
            model.configure_optimizers = lambda model=model, optimizer=optimizer: optimizer(model.parameters())
            truth, callback = Truth(inputs, targets), GradientNoiseScaleCallback(decay=1.0, every_n_steps=1)
            data = DataLoader(TensorDataset(inputs, targets), batch_size=size, shuffle=True, drop_last=True)
            fit(model, data, steps, [callback, truth], accumulate)
            s, g = np.mean(truth.moments, axis=0)
            # Across steps: the step's gradient is the small batch, the mean of consecutive ones the big.
            groups = torch.stack(truth.gradients).double()[: steps // across * across].unflatten(0, (-1, across))
            small, big = groups.square().sum(-1).mean(), groups.mean(1).square().sum(-1).mean()
            wrong_s, wrong_g = noise_moments(small, big, size * accumulate, size * accumulate * across)
            row = callback.history.last()["gns/b_simple"]
            table[f"{name}, {rule}"] = {
                "truth": s / g,
                "within_steps": row.value,
                "lower": row.lower,
                "upper": row.upper,
                "ratio": row.value / (s / g),
                "ratio_across_steps": float(wrong_s / wrong_g) / (s / g),
            }
            print(name, rule, table[f"{name}, {rule}"], flush=True)
    ratios = np.array([entry["ratio"] for entry in table.values()])
    across_steps = np.array([entry["ratio_across_steps"] for entry in table.values()])
    return {
        "runs": table,
        "geometric_mean": float(np.exp(np.log(np.abs(ratios)).mean())),
        "wrong_signs": int((ratios < 0).sum()),
        "wrong_signs_across_steps": int((across_steps < 0).sum()),
    }


def processor() -> str:
    """Return the processor's name where the system tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def finite(value):
    """Replace numbers that JSON has no words for: an interval without an end becomes null."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


PARTS = {"cost": cost, "peers": peers, "coverage": coverage, "moving_weights": moving_weights}


def main(names: list[str]) -> None:
    """Run the named parts, or all, and put their results into the file."""
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        sys.exit(f"unknown part {unknown[0]!r}; expected some of {', '.join(PARTS)}")
    warnings.filterwarnings("ignore")
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    torch.set_num_threads(1)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    machine = {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "pytorch_lightning": pl.__version__,
        "time": "CPU time of the process; of the thread for cost",
    }
    for name in names or PARTS:
        results[name] = {"machine": machine, "results": finite(PARTS[name]())}
        RESULTS.write_text(json.dumps(results, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
