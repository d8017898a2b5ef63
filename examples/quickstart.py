"""
Quickstart: what two networks do while they learn digits
========================================================

Trains a small MLP and a small CNN on scikit-learn's digits (1,797 images of 8 x 8, no download) with three callbacks,
and writes TensorBoard logs and pictures. Run it with ``make demo``.

**Look at** the noise scale, which falls from 160 (MLP) and 180 (CNN) examples to 40 and 17 in four epochs, and grows
again, past the batch size of 64 or towards it; at EI_parts, which hardly moves in the MLP, while two layers of the CNN
lose more than half of it; and at the information plane, where paths rise towards H(Y), far above the crosses of
shuffled labels. How far to the right a path lies means something in the last two layers of the MLP only: all others end
at log2 n, where I(X;T) counts the samples.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.loggers import TensorBoardLogger
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from lightning_foresight import EICallback, GradientNoiseScaleCallback, InfoPlaneCallback

# %%
# An ordinary LightningModule: it knows nothing of the callbacks.


class Classifier(pl.LightningModule):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        self.log("val_accuracy", (self(batch[0]).argmax(1) == batch[1]).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 32),
        nn.Tanh(),
        nn.Linear(32, 16),
        nn.Tanh(),
        nn.Linear(16, 8),
        nn.Tanh(),
        nn.Linear(8, 10),
    )


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def digits(batch_size: int = 64) -> tuple[DataLoader, DataLoader]:
    images, labels = load_digits(return_X_y=True)
    inputs = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    dataset = TensorDataset(inputs, torch.tensor(labels))
    train, val = random_split(dataset, [1297, 500], generator=torch.Generator().manual_seed(0))
    return DataLoader(train, batch_size=batch_size, shuffle=True, drop_last=True), DataLoader(val, batch_size=500)


# %%
# The three callbacks are all that is added.


def train(name: str, make_net: Callable[[], nn.Module], epochs: int, folder: Path, progress: bool) -> list:
    pl.seed_everything(0, verbose=False)
    callbacks = [
        EICallback(),
        GradientNoiseScaleCallback(every_n_steps=1),  # a run of 240 steps is too short for the default period
        InfoPlaneCallback(),
    ]
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=TensorBoardLogger(folder.parent, name=folder.name, version=name),
        callbacks=[*callbacks],  # a copy: the Trainer appends its own to the list
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        log_every_n_steps=10,
    )
    trainer.fit(Classifier(make_net()), *digits())
    accuracy = float(trainer.callback_metrics["val_accuracy"])
    print(f"\n{name}: validation accuracy {accuracy:.3f} after {epochs} epochs")
    return callbacks


# %%
# The last value of every measure with its interval. An exact value has none. I(X;T) has a bracket instead of a 95%
# interval: it is what the samples say, and what they leave open when they stand for a larger set: everything, where it
# is saturated.


def table(callbacks: list) -> str:
    lines = [f"{'measure':<30}{'value':>9}   {'interval':<21}kind"]
    for callback in callbacks:
        for key, measured in callback.history.last().items():
            row = callback.as_logged(measured)
            interval = f"[{row.lower:.4g}, {row.upper:.4g}]" if row.has_interval else ""
            bracket = " (bracket)" if key.endswith("/I_XT") else ""
            line = f"{key:<30}{row.value:>9.4g}   {interval:<21}{row.kind.replace('plain', '')}{bracket}"
            lines.append(line.rstrip())
    return "\n".join(lines)


# %%
# What the values say, in words.


def reading(callbacks: list) -> str:
    _, gns, plane = (callback.history.last() for callback in callbacks)
    noise, progress = gns["gns/b_simple"], gns["gns/efficiency"].value
    saturation = {key.split("/")[1]: row for key, row in plane.items() if key.endswith("/saturation")}
    full = [layer for layer, row in saturation.items() if row.value > 0.95]
    return (
        f"  ei and info_plane are in bits, gns/b_simple and batch_size in examples\n"
        f"  noise scale {noise.value:.0f} [{noise.lower:.0f}, {noise.upper:.0f}] at batches of "
        f"{gns['gns/batch_size'].value:.0f}: a step gets {progress:.0%} as far as one with all the data would\n"
        f"  I(X;T) is saturated, and says nothing, in: {', '.join(full) or 'no layer'}"
    )


def save_pictures(callbacks: list, folder: Path) -> dict[Path, Figure]:
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        folder / f"{callback.prefix}_{key}.png": figure
        for callback in callbacks
        for key, figure in callback.figures().items()
    }
    for path, figure in pictures.items():
        figure.savefig(path)
    return pictures


# %%
# Both networks, one after the other.


def main(epochs: int, folder: Path, progress: bool) -> dict[Path, Figure]:
    pictures: dict[Path, Figure] = {}
    for name, make_net in {"mlp": mlp, "cnn": cnn}.items():
        callbacks = train(name, make_net, epochs, folder, progress)
        print(table(callbacks))
        print(f"In words:\n{reading(callbacks)}\n")
        pictures |= save_pictures(callbacks, folder / name / "pictures")
    print("Pictures:")
    print("\n".join(f"  {path}" for path in pictures))
    print("What to look at:")
    print("  causal_plane  sensitivity and degeneracy grow with the weights; beside them EI_parts, their difference")
    print("  noise_scale   the batch size beyond which more parallelism buys little; it falls at first, then grows")
    print("  plane         I(T;Y) rises towards H(Y); crosses are the same estimate for shuffled labels, near 0")
    print(f"All curves:\n  .venv/bin/tensorboard --logdir {folder}")
    return pictures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What two networks do while they learn digits.")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--folder", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    arguments = parser.parse_args()
    # Data loading is not what this example is about.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    for name in ("pytorch_lightning", "lightning.pytorch"):  # where both packages are installed, they share a logger
        logging.getLogger(name).setLevel(logging.WARNING)
    figures = main(arguments.epochs, arguments.folder, not arguments.no_progress)
