"""What the noise scale costs in the Trainer, how often its intervals cover, and what it reads on moving weights.

Run it with ``python benchmarks/gradient_noise_scale.py [cost] [coverage] [moving_weights]``; results go to
``benchmarks/results/gradient_noise_scale.json``, each with the machine it was measured on.
"""

from __future__ import annotations

import json
import platform
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_foresight.callbacks import GradientNoiseScaleCallback
from lightning_foresight.functional import exact_noise_scale, noise_moments
from lightning_foresight.functional.gradient_noise.moments import MomentSums, mean_moments, moment_sums
from lightning_foresight.functional.gradient_noise.noise_scale import noise_scale_from_means

RESULTS = Path(__file__).parent / "results" / "gradient_noise_scale.json"


class GPT(nn.Module):
    """A causal transformer of 1.8 million parameters with a tied head."""

    def __init__(self, vocabulary: int = 1000, width: int = 192, depth: int = 4, length: int = 64) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        block = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, depth, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.token.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        hidden = self.token(tokens) + self.place(torch.arange(tokens.shape[1]))
        return self.head(self.norm(self.blocks(hidden, mask=mask, is_causal=True)))


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


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


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


def cost_setting(name: str) -> tuple[nn.Module, DataLoader]:
    generator = torch.Generator().manual_seed(0)
    if name == "transformer_1.8M":
        tokens = torch.randint(0, 1000, (512, 65), generator=generator)
        return GPT(), DataLoader(TensorDataset(tokens[:, :-1], tokens[:, 1:]), batch_size=8)
    images = torch.randn(4096, 64, generator=generator)
    labels = torch.randint(0, 10, (4096,), generator=generator)
    return mlp(), DataLoader(TensorDataset(images, labels), batch_size=32)


class Alternate:
    """Observes five steps, leaves five alone, and so on: a busy moment of the machine falls on both."""

    unit = "steps"

    def __call__(self, count: int) -> bool:
        return (count // 5) % 2 == 0


class StepTimes(pl.Callback):
    """CPU time at the first micro-batch of each step; listed before the callback that is measured."""

    def __init__(self) -> None:
        self.begun: dict[int, float] = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.begun.setdefault(trainer.global_step, time.process_time())


COST_CASES = (  # network, micro-batches a step, method, steps, one observed step in
    ("transformer_1.8M", 4, "micro_batches", 30, 1),
    ("transformer_1.8M", 1, "split", 50, 34),
    ("mlp_17k", 4, "micro_batches", 1200, 4),
    ("mlp_17k", 1, "split", 1500, 34),
    ("mlp_17k", 1, "per_example", 1500, 34),
)


def cost() -> dict:
    """CPU time of an observed step over that of its neighbours, and of training at the default period."""
    table = {}
    for name, accumulate, method, steps, period in COST_CASES:
        torch.manual_seed(0)
        net, data = cost_setting(name)
        times = StepTimes()
        callback = GradientNoiseScaleCallback(method=method, schedule=Alternate(), log_figures=False)
        fit(Module(net), data, steps, [times, callback], accumulate)
        assert callback.num_failures == 0
        durations = np.diff([times.begun[step] for step in range(steps)])
        blocks = np.split(durations[4:], range(5, len(durations) - 4, 5))[:-1]
        medians = np.array([np.median(block) for block in blocks])
        observed = np.array([Alternate()(5 + 5 * index) for index in range(len(medians))])
        ratios = [
            medians[i] / ((medians[i - 1] + medians[i + 1]) / 2) for i in range(1, len(medians) - 1) if observed[i]
        ]
        ratio = float(np.median(ratios))
        table[f"{name}, {method}"] = {
            "observed_step": ratio,
            "quartiles": [float(q) for q in np.quantile(ratios, [0.25, 0.75])],
            "period": period,
            "training": 1 + (ratio - 1) / period,
            "step_ms": 1e3 * float(np.median(medians[~observed])),
        }
        print(name, method, table[f"{name}, {method}"], flush=True)
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


def main(parts: list[str]) -> None:
    """Run the named parts, or all, and put their results into the file."""
    warnings.filterwarnings("ignore")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "pytorch_lightning": pl.__version__,
        "time": "CPU time of the process; the machine was shared",
    }
    for part in parts or ["cost", "coverage", "moving_weights"]:
        results[part] = {
            "machine": machine,
            "results": {"cost": cost, "coverage": coverage}.get(part, moving_weights)(),
        }
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
