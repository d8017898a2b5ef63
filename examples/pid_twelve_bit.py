"""
From checkpoints to complexity: the 12-bit task over seeds
==========================================================

The pipeline of an experiment: train some seeds with quantised activations, keep checkpoints that are dense at first and
rarer later, measure them when the training is over, and draw the median over seeds with a band.

**Seen** with ``--full``, 10 seeds, 1,000 epochs and 29 checkpoints of each (medians over seeds): the layers of 5, 4 and
3 neurons come to know 0.90, 0.88 and 0.88 of the label's 1 bit, where shuffled labels read 0.06, 0.01 and 0.00. The
complexity of the first falls from 2.34 to 1.40 and that of the second from 1.80 to 1.06; their nulls hardly move, 2.72
to 2.48 and 1.77 to 1.88. The last has 1.28 and 1.07, within the range of seeds. At the end nearly no neuron is needed:
vulnerability falls from 1.8, 1.4 and 1.2 to 0.07, 0.03 and 0.03.

**Before training there is nothing to decompose**: the three layers then know 0.04, 0.01 and 0.00 bits, hardly more than
shuffled labels, and complexity, a ratio of such numbers, is what the null says it is.

The full run took 127 seconds on one core; the page below is a shorter one.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.utils.data import DataLoader

from lightning_foresight import LogCheckpoint, LogSchedule, PIDCallback
from lightning_foresight.data import spherical
from lightning_foresight.ensemble import SeedEnsemble
from lightning_foresight.history import History
from lightning_foresight.measure import measure_checkpoints, read_measurements
from lightning_foresight.training import QuantizeActivations

for name in ("pytorch_lightning", "lightning.pytorch"):  # where both packages are installed, they share a logger
    logging.getLogger(name).setLevel(logging.WARNING)

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--full", action="store_true", help="10 seeds, 1,000 epochs, 29 checkpoints")
FULL = parser.parse_known_args()[0].full
SEEDS, EPOCHS, CHECKPOINTS = (10, 1000, 28) if FULL else (3, 500, 12)  # and one before training

# %%
# Task and network
# ----------------
# All 4,096 inputs of 12 bits, a label that no rotation of a sphere changes, and tanh layers of 8 levels, rounded at
# random in training. An epoch is one step on all inputs.

inputs, labels = spherical().tensors


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential()
        widths = (12, 10, 7, 5, 4, 3)
        for number, (a, b) in enumerate(pairwise(widths), start=1):
            self.net.add_module(f"linear{number}", nn.Linear(a, b))
            self.net.add_module(f"tanh{number}", nn.Tanh())
            self.net.add_module(f"layer{number}_{b}_neurons", QuantizeActivations(levels=8, seed=number))
        self.net.add_module("output", nn.Linear(widths[-1], 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


# %%
# One seed: train, then measure
# -----------------------------
# Every input is measured once, so that nothing is estimated: these are values of the whole distribution. Run again, the
# second half would find all values in its file and measure nothing.


def run(seed: int) -> list[History]:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        saver = LogCheckpoint(folder, schedule=LogSchedule(EPOCHS, CHECKPOINTS))
        pl.Trainer(
            max_epochs=EPOCHS,
            accelerator="cpu",
            callbacks=[saver],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(Net(), DataLoader([(inputs, labels)], batch_size=None))
        trained = time.perf_counter()
        pid = PIDCallback(layers="net.layer[345]*", dataloader=(inputs, labels), num_samples=len(inputs))
        measure_checkpoints(Net(), saver.saved, pid, output=Path(folder) / "pid.csv")
        history = read_measurements(Path(folder) / "pid.csv")
    print(
        f"seed {seed}: training {trained - start:.1f} s, measuring {len(saver.saved)} checkpoints "
        f"{time.perf_counter() - trained:.1f} s"
    )
    return [history]


begin = time.perf_counter()
ensemble = SeedEnsemble(run, seeds=range(SEEDS)).fit()
print(f"{SEEDS} seeds of {EPOCHS} epochs and {CHECKPOINTS + 1} checkpoints: {time.perf_counter() - begin:.0f} s")

# %%
# Median and band over seeds
# --------------------------
# Dashed, the null: what the same states read about shuffled labels.

LAYERS = ("net.layer3_5_neurons", "net.layer4_4_neurons", "net.layer5_3_neurons")
summary = ensemble.summary(quantiles=(0, 1))
for layer in LAYERS:
    for key in ("complexity", "complexity_null", "mi", "mi_null", "redundancy", "vulnerability", "saturation"):
        rows = [row for row in summary if row.key == f"pid/{layer}/{key}"]
        ends = ", ".join(
            f"{row.center:.2f} [{row.lower:.2f}, {row.upper:.2f}] at {row.epoch:g}" for row in rows[:: len(rows) - 1]
        )
        print(f"{layer:<22}{key:<17}{ends}")

pictures = Figure(figsize=(9.6, 3.7), layout="constrained", dpi=140)
panels = {"complexity": "complexity C in neurons", "mi": "I(S;T) in bits", "vulnerability": "degree of vulnerability v"}
for axes, (key, title) in zip(pictures.subplots(1, 3), panels.items(), strict=True):
    for layer, color in zip(LAYERS, ("#0072B2", "#D55E00", "#009E73"), strict=True):
        rows = [row for row in summary if row.key == f"pid/{layer}/{key}"]
        null = [row for row in summary if row.key == f"pid/{layer}/{key}_null"]
        epochs = [row.epoch for row in rows]
        label = layer.removeprefix("net.").replace("_", " ")
        axes.plot(epochs, [row.center for row in rows], "o-", color=color, markersize=3, label=label)
        axes.fill_between(epochs, [r.lower for r in rows], [r.upper for r in rows], color=color, alpha=0.15, lw=0)
        axes.plot([row.epoch for row in null], [row.center for row in null], "--", color=color, lw=1)
    if null:
        axes.plot([], [], "--", color="grey", label="labels shuffled")
    axes.set_xscale("symlog", linthresh=1)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_title(title, fontsize="medium")
    axes.set(xlabel="epochs completed", xlim=(0, EPOCHS))
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")
