"""What GradientNoiseScaleCallback costs in the Trainer, against the same Trainer without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from _noise_networks import gpt_batch, linear_gpt, mlp, mlp_batch, torch_gpt
from _turns import take_turns
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_foresight.callbacks import GradientNoiseScaleCallback


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
    """Train for some steps, with nothing but the callbacks."""
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


class Empty(pl.Callback):
    """Overrides nothing: what Lightning charges for having one more callback."""


def idle_callback() -> pl.Callback:
    """Return a callback whose hooks are those of ours, and do nothing."""
    ours = {name for kind in GradientNoiseScaleCallback.__mro__ for name in vars(kind) if name.startswith("on_")}
    hooks = {name: lambda self, *args: None for name in ours if hasattr(pl.Callback, name)}
    return type("Idle", (pl.Callback,), hooks)()


class Case(NamedTuple):
    """Runs with and without the callback, in turns."""

    network: str
    micro_batches: int
    arguments: dict
    period: int  # of the steps that are observed by default; the runs themselves observe as ``arguments`` say
    length: int  # steps of a turn: whole periods, where ``arguments`` leave the period alone
    untimed: int  # of them, at the beginning
    first: int  # steps before the first turn, so that what is untimed is not observed
    rounds: int
    repeats: int  # runs from the start, with other places in memory
    target: float | None
    idle: bool = False  # whether to time callbacks that do nothing, too


NETWORKS_OF_COST = {
    "transformer": (torch_gpt, gpt_batch, 8),
    "transformer of linear layers": (linear_gpt, gpt_batch, 8),
    "mlp_17k": (mlp, mlp_batch, 32),
}
EVERY_STEP, NEVER = {"every_n_steps": 1}, {"every_n_steps": 10**6}
COST_CASES = {
    "transformer, micro_batches": Case("transformer", 4, {}, 1, 1, 0, 2, 25, 4, 1.03),
    "mlp_17k, micro_batches": Case("mlp_17k", 4, {}, 5, 50, 1, 102, 20, 8, 1.10),
    "mlp_17k, micro_batches, every step": Case("mlp_17k", 4, EVERY_STEP, 1, 50, 1, 102, 10, 4, None),
    "transformer, split, observed step": Case("transformer", 1, EVERY_STEP, 50, 3, 1, 2, 20, 3, None),
    "transformer, split, other steps": Case("transformer", 1, NEVER, 50, 2, 0, 2, 30, 4, None),
    "mlp_17k, split, observed step": Case("mlp_17k", 1, EVERY_STEP, 200, 50, 1, 102, 10, 4, None),
    "mlp_17k, default on one device": Case("mlp_17k", 1, {}, 200, 200, 1, 227, 20, 8, 1.02, idle=True),
    "transformer of linear layers, per_example, observed step": Case(
        "transformer of linear layers", 1, EVERY_STEP | {"method": "per_example"}, 50, 3, 1, 2, 20, 3, 1.20
    ),
}


def turns_of(case: Case, seed: int) -> dict[str, np.ndarray]:
    """Return the seconds of every turn of each kind of run."""
    network, batch, size = NETWORKS_OF_COST[case.network]
    inputs, targets = batch(min(512 * size, 4096))
    generator = np.random.default_rng(seed)

    def train(callbacks: Callable[[], list]) -> Callable[[pl.Callback], None]:
        gaps = generator.integers(1, 20_000, 8).tolist()  # of a few pages: how addresses fall moves times by a percent

        def one(clock: pl.Callback) -> None:
            torch.manual_seed(0)
            kept, further = [torch.empty(gap) for gap in gaps], callbacks()
            data = DataLoader(TensorDataset(inputs, targets), size)
            steps = case.first + case.rounds * case.length + 1
            fit(Module(network()), data, steps, [clock, *further], case.micro_batches)
            assert kept
            assert all(getattr(callback, "num_failures", 0) == 0 for callback in further)

        return one

    kinds: dict[str, Callable[[], list]] = {
        "plain": list,
        "null": list,
        "observed": lambda: [GradientNoiseScaleCallback(log_figures=False, **case.arguments)],
    }
    if case.idle:
        kinds |= {"empty": lambda: [Empty()], "idle": lambda: [idle_callback()]}
    names = generator.permutation(list(kinds))
    return take_turns(
        {name: train(kinds[name]) for name in names},
        rounds=case.rounds,
        first=case.first * case.micro_batches,
        length=case.length * case.micro_batches,
        untimed=case.untimed * case.micro_batches,
    )


def measure(case: Case) -> dict:
    """Return the ratios of turns to those of the plain run in the same round, and how much repeats differ."""
    runs = [turns_of(case, seed) for seed in range(case.repeats)]
    plain = np.stack([run["plain"] for run in runs])
    found: dict = {}
    for kind in runs[0].keys() - {"plain"}:
        ratios = np.stack([run[kind] for run in runs]) / plain  # (repeats, rounds)
        found[kind] = {
            "ratio": float(np.median(ratios)),
            "quartiles": [float(q) for q in np.quantile(ratios, [0.25, 0.75])],
            "std_error": float(np.median(ratios, 1).std(ddof=1) / case.repeats**0.5),
        }
    observed = found.pop("observed")
    every_step = case.arguments.get("every_n_steps") == 1
    return observed | {
        "at_the_default_period": 1 + (observed["ratio"] - 1) / case.period if every_step else observed["ratio"],
        "period": case.period,
        "target": case.target,
        "step_ms": 1e3 * float(np.median(plain)) / (case.length - case.untimed),
        "turns": plain.size,
        **dict(sorted(found.items())),
    }


def put_together(observed: dict, others: dict) -> dict:
    """Return what a whole period costs whose turns would take seconds, in which a virtual machine changes its speed."""
    share = 1 / observed["period"]
    ratio = observed["ratio"] * share + others["ratio"] * (1 - share)
    return {
        "ratio": ratio,
        "std_error": float(np.hypot(observed["std_error"] * share, others["std_error"] * (1 - share))),
        "at_the_default_period": ratio,
        "period": observed["period"],
        "target": 1.02,
        "put_together": True,
    }


def cost() -> dict:
    """CPU time of runs with the callback over that of the same run without, in turns of the same rounds."""
    table = {}
    for name, case in COST_CASES.items():
        table[name] = measure(case)
        print(name, table[name], flush=True)
    name, parts = "transformer, default on one device", ("observed step", "other steps")
    table[name] = put_together(*(table[f"transformer, split, {part}"] for part in parts))
    print(name, table[name], flush=True)
    return table
