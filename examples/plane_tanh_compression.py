"""
Compression with tanh
=====================

**Claimed** by Shwartz-Ziv & Tishby (2017, arXiv 1703.00810): a tanh network first learns the label, so that I(T;Y)
rises, and then forgets of the input what the label does not need, so that I(X;T) falls.

**Seen**, on one run: that is the picture. I(X;T) of the last hidden layer rises to 6.4 bits and falls to 2.0 with the
bins of the paper; it rises to 4.6 and falls to 1.9 bits when noise takes the place of bins. The layer before it falls
from 8.4 to 7.4 and from 6.2 to 5.6 bits; the three first ones do not fall.

**It shows** that units saturate, and that inputs of a class gather in a corner, closer than a bin or the noise.

**It does not show** that inputs are forgotten: the last hidden layer holds 4,019 different activations for 4,096
inputs, all others 4,096. Nor what the first layers know of the label: bins read 1.00 and 1.00 bits there, but 1.00 and
0.99 for shuffled labels, of which there is nothing to know; nearest neighbours read 0.72 and 0.92, and 0.00 for
shuffled ones. Nor anything on generalisation: all inputs were trained on, and ReLU learns the task without this
(:doc:`plane_relu_no_compression`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import pairwise

import pytorch_lightning as pl
import torch
from torch import nn

from lightning_foresight import InfoPlaneCallback, LogSchedule
from lightning_foresight.data import spherical
from lightning_foresight.functional import label_information

for name in ("pytorch_lightning", "lightning.pytorch"):  # where both packages are installed, they share a logger
    logging.getLogger(name).setLevel(logging.WARNING)

# %%
# The network of the paper
# ------------------------
# 12-10-7-5-4-3-2 units with tanh, on a task of 12 bits made in its manner. All 4,096 inputs are trained on and watched:
# X is uniform on them and has 12 bits, and no estimate has to reach for inputs that were not seen.

inputs, labels = spherical().tensors


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        layers = [module for a, b in pairwise((12, 10, 7, 5, 4, 3, 2)) for module in (nn.Linear(a, b), nn.Tanh())]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=5e-3)


class Quarters:
    """Four batches an epoch, sliced: a DataLoader would fetch rows of this size one by one."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for index in torch.randperm(len(inputs)).chunk(4):
            yield inputs[index], labels[index]

    def __len__(self) -> int:
        return 4


# %%
# Two rulers at once: the 30 bins of the paper, and I(X;T+N) with noise N of standard deviation 0.03 on every unit
# (Goldfeld et al. 2019), which has no bins and no bound in it. Both measure shuffled labels, too.

EPOCHS = 750
common = {"dataloader": (inputs, labels), "num_samples": 4096, "layers": nn.Tanh, "schedule": LogSchedule(EPOCHS, 10)}
binned = InfoPlaneCallback(preset="shwartz-ziv-2017", prefix="binned", **common)
noisy = InfoPlaneCallback(preset="goldfeld-2019", prefix="noisy", **common)

torch.manual_seed(2)
model = Net()
pl.Trainer(
    max_epochs=EPOCHS,
    accelerator="cpu",
    callbacks=[binned, noisy],
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
).fit(model, Quarters())
accuracy = float((model(inputs).argmax(1) == labels).float().mean())
print(f"training accuracy {accuracy:.3f}")

LAYERS = [f"net.{2 * i + 1}" for i in range(5)]


def row(callback: InfoPlaneCallback, key: str, epoch: float | None = None) -> str:
    found = [callback.history[f"{callback.prefix}/{layer}/{key}"] for layer in LAYERS]
    values = [next(r.value for r in reversed(rows) if epoch is None or r.epoch <= epoch) for rows in found]
    return "".join(f"{value:8.2f}" for value in values)


print(f"{'bits, at layer':<40}" + "".join(f"{layer:>8}" for layer in LAYERS))
for callback in (binned, noisy):
    for epoch in (0, 19, 172, 750):
        print(f"{f'{callback.prefix}: I(X;T), epoch {epoch}':<40}{row(callback, 'I_XT', epoch)}")
    print(f"{f'{callback.prefix}: I(T;Y), epoch 750':<40}{row(callback, 'I_TY')}")
    print(f"{f'{callback.prefix}: I(T;Y), labels shuffled':<40}{row(callback, 'I_TY_null')}")

# %%
# The plane with the bins of the paper
# ------------------------------------
# Dotted: the same for shuffled labels. Where it meets the solid path, the height of the path says nothing of the label.

figure_binned = binned.plot()

# %%
# The plane with noise
# --------------------

figure_noisy = noisy.plot()

# %%
# What neither says
# -----------------
# How much the first layers know of the label, which nearest neighbours tell; and whether inputs are forgotten: how many
# of the 4,096 are still told apart by the activations as they are, in float32.

model.eval()
shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
activation = inputs
neighbours, null, distinct = [], [], []
with torch.no_grad():
    for module in model.net:
        activation = module(activation)
        if isinstance(module, nn.Tanh):
            neighbours.append(float(label_information(activation, labels, estimator="ksg").value))
            null.append(float(label_information(activation, shuffled, estimator="ksg").value))
            distinct.append(len(activation.unique(dim=0)))
for name, values in {"nearest neighbours: I(T;Y)": neighbours, "nearest neighbours: labels shuffled": null}.items():
    print(f"{name:<40}" + "".join(f"{value:8.2f}" for value in values))
print(f"{'distinct activations':<40}" + "".join(f"{value:8d}" for value in distinct))
