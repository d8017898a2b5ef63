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
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from _noise_networks import gpt_batch, linear_gpt, mlp, mlp_batch, torch_gpt
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


class Module(pl.LightningModule):
    """Trains a network."""

    def __init__(self, net: nn.Module, lr: float = 1e-3, optimizer: type = torch.optim.AdamW) -> None:
        super().__init__()
        self.net, self.lr, self.optimizer_class = net, lr, optimizer

    def training_step(self, batch, batch_idx):
        inputs, targets = batch
        return F.cross_entropy(self.net(inputs).flatten(0, -2), targets.flatten())

    def configure_optimizers(self):
        return self.optimizer_class(self.parameters(), lr=self.lr)


def fit(model: pl.LightningModule, data: DataLoader, steps: int, callbacks: list, accumulate: int = 1) -> pl.Trainer:
    trainer = pl.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accumulate_grad_batches=accumulate,
        callbacks=callbacks,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    return trainer


class Clock(pl.Callback):
    """CPU time from the first optimizer step but ``skip`` to the last; listed before the callback that is measured."""

    def __init__(self, skip: int) -> None:
        self.skip, self.begun, self.seconds = skip, 0.0, 0.0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.skip and not self.begun:
            self.begun = time.process_time()

    def on_train_epoch_end(self, trainer, pl_module):
        self.seconds = time.process_time() - self.begun


class Empty(pl.Callback):
    """Overrides nothing: what Lightning charges for having one more callback."""


def idle_callback() -> pl.Callback:
    """Return a callback whose hooks are those of ours, and do nothing."""
    ours = {name for kind in GradientNoiseScaleCallback.__mro__ for name in vars(kind) if name.startswith("on_")}
    hooks = {name: lambda self, *args: None for name in ours if hasattr(pl.Callback, name)}
    return type("Idle", (pl.Callback,), hooks)()


class Case(NamedTuple):
    """A run with and without the callback."""

    network: str
    micro_batches: int
    arguments: dict
    steps: int
    repeats: int
    period: int  # of the steps that are observed by default; the runs themselves observe as ``arguments`` say
    target: float | None
    idle: bool = False  # whether to time callbacks that do nothing, too


NETWORKS_OF_COST = {
    "transformer": (torch_gpt, gpt_batch, 8),
    "transformer of linear layers": (linear_gpt, gpt_batch, 8),
    "mlp_17k": (mlp, mlp_batch, 32),
}
EVERY_STEP = {"every_n_steps": 1}
COST_CASES = {
    "transformer, micro_batches": Case("transformer", 4, {}, 8, 4, 1, 1.03),
    "mlp_17k, micro_batches": Case("mlp_17k", 4, {}, 120, 9, 4, 1.10),
    "mlp_17k, micro_batches, every step": Case("mlp_17k", 4, EVERY_STEP, 120, 9, 1, None),
    "transformer, split, observed step": Case("transformer", 1, EVERY_STEP, 12, 5, 50, None),
    "mlp_17k, split, observed step": Case("mlp_17k", 1, EVERY_STEP, 200, 5, 100, None),
    "mlp_17k, default on one device": Case("mlp_17k", 1, {}, 700, 15, 100, 1.02, idle=True),
    "transformer of linear layers, per_example, observed step": Case(
        "transformer of linear layers", 1, EVERY_STEP | {"method": "per_example"}, 12, 5, 50, 1.20
    ),
}


def run_seconds(case: Case, kind: str) -> float:
    torch.manual_seed(0)
    network, batch, size = NETWORKS_OF_COST[case.network]
    count = case.steps * case.micro_batches
    inputs, targets = batch(min(count * size, 4096))
    repeats = math.ceil(count * size / len(inputs))
    data = DataLoader(
        TensorDataset(inputs.repeat(repeats, 1), targets.repeat(repeats, *[1] * (targets.ndim - 1))), size
    )
    clock, callback = Clock(skip=2), GradientNoiseScaleCallback(log_figures=False, **case.arguments)
    further = {"plain": [], "empty": [Empty()], "idle": [idle_callback()], "observed": [callback]}[kind]
    fit(Module(network()), data, case.steps, [clock, *further], case.micro_batches)
    assert callback.num_failures == 0
    return clock.seconds


def cost() -> dict:
    """CPU time of a run over that of the same run without the callback, one after the other, median over pairs."""
    table = {}
    for name, case in COST_CASES.items():
        kinds = ["plain", "observed", *(["empty", "idle"] if case.idle else [])]
        seconds: dict = {kind: [] for kind in kinds}
        run_seconds(case, "observed")  # warms up
        for repeat in range(case.repeats):
            for position in range(len(kinds)):  # each goes first as often as the others
                kind = kinds[(position + repeat) % len(kinds)]
                seconds[kind].append(run_seconds(case, kind))
        plain = np.array(seconds["plain"])
        ratios = np.array(seconds["observed"]) / plain
        ratio = float(np.median(ratios))
        every_step = case.arguments.get("every_n_steps") == 1
        table[name] = {
            "ratio": ratio,
            "quartiles": [float(q) for q in np.quantile(ratios, [0.25, 0.75])],
            "at_the_default_period": 1 + (ratio - 1) / case.period if every_step else ratio,
            "period": case.period,
            "target": case.target,
            "step_ms": 1e3 * float(np.median(plain)) / (case.steps - 2),
        }
        for kind in kinds[2:]:  # callbacks that do nothing
            table[name][kind] = float(np.median(np.array(seconds[kind]) / plain))
        print(name, table[name], flush=True)
    return table


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
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    torch.set_num_threads(1)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "pytorch_lightning": pl.__version__,
        "time": "CPU time of the process",
    }
    for name in names or PARTS:
        results[name] = {"machine": machine, "results": finite(PARTS[name]())}
        RESULTS.write_text(json.dumps(results, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
