r"""
Iris and images in the causal plane
===================================

**Claimed.** Marrow, Michaud & Hoel 2020 (arXiv 2010.13871) follow the layers of trained networks through the causal
plane, sensitivity against degeneracy. On the page of videos beside the paper, layers of networks trained on MNIST
"differentiate in the causal plane", and the authors take this for a sign of distinct roles.

**Seen**, with exact values and 64 bins:

- On Iris with 3 seeds, all layers slide along the diagonal while the loss falls: sensitivity grows 1.7 to 2.6 times and
  degeneracy with it, while EI, the distance from the diagonal, ends within 1.0 bits of where it began.
- On digits with 3 seeds, layers end up far apart in the plane, but by their size: 64 -> 30 at 5,010 bits of
  sensitivity, 30 -> 10 at 730, and the two of one size, 30 -> 30, side by side at 2,460 and 2,340 (means; seeds differ
  by 80 and 120): little sign of distinct roles.
- EI_parts of a wide layer is nearly a constant before training. An output that sums many inputs is close to Gaussian,
  and its inputs share :math:`\sum_a \rho_a^2 / (2 \ln 2) = 0.72` bits, whatever the weights: 21.6 bits for 30 outputs
  and 7.2 for 10. Measured: 21.7 to 22.1, and 7.3. Training takes it to 19.1 in the first layer and to 6.4 in the last;
  the hidden ones stay at 22.4.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import pairwise

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits, load_iris
from torch import Tensor, nn

from lightning_foresight import EICallback
from lightning_foresight.functional import causal_measures


def sigmoid_net(*sizes: int) -> nn.Sequential:
    """deep-ei's networks: no biases, sigmoids everywhere, weights uniform in ±1/sqrt(inputs)."""
    net = nn.Sequential()
    for inputs, outputs in pairwise(sizes):
        net.extend([nn.Linear(inputs, outputs, bias=False), nn.Sigmoid()])
        nn.init.uniform_(net[-2].weight, -(inputs**-0.5), inputs**-0.5)
    return net


def squared_error(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    outputs = net(batch[0])
    return (outputs - nn.functional.one_hot(batch[1], outputs.shape[1])).square().sum()


# %%
# Iris
# ----
# deep-ei's 4-5-5-3, squared error, 100 flowers to learn from; its 4,000 epochs in batches of 10 are 2,000 steps of all
# flowers at twice the rate here. A loop of one's own calls
# :func:`~lightning_foresight.functional.causal_measures`.

flowers, species = load_iris(return_X_y=True)
flowers, species = torch.tensor(flowers / 8, dtype=torch.float32), torch.tensor(species)
MOMENTS = (0, 200, 400, 800, 1400, 2000)


def train_iris(seed: int) -> tuple[Tensor, list[float]]:
    """Return (moments, layers, EI_parts and sensitivity) and the training losses a flower."""
    torch.manual_seed(seed)
    net = sigmoid_net(4, 5, 5, 3)
    seen = torch.randperm(150)[:100]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
    places, losses = [], []
    for epoch in range(MOMENTS[-1] + 1):
        loss = squared_error(net, (flowers[seen], species[seen]))
        if epoch in MOMENTS:
            measured = [causal_measures(layer, nn.Sigmoid(), in_range=(0, 1)) for layer in net[::2]]
            places.append(torch.stack([torch.stack([m.parts.value, m.sensitivity.value]) for m in measured]))
            losses.append(loss.item() / 100)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.stack(places), losses


def draw(task: str, layers: list[str], moments: list[int], runs: list[tuple[Tensor, list[float]]]) -> Figure:
    """Draw losses, the causal plane and EI_parts: a colour for each layer, a line style for each seed."""
    figure = Figure(figsize=(9.6, 4), layout="constrained", dpi=140)
    loss_axes, plane, parts_axes = figure.subplots(1, 3)
    for (places, losses), style in zip(runs, ("-", "--", ":"), strict=True):
        parts, sensitivity = places.unbind(2)
        loss_axes.plot(moments, losses, style, color="black")
        for layer, color in enumerate(("#0072B2", "#D55E00", "#009E73", "#CC79A7")[: len(layers)]):
            degeneracy = sensitivity[:, layer] - parts[:, layer]
            plane.plot(degeneracy, sensitivity[:, layer], style, color=color)
            plane.plot(degeneracy[-1:], sensitivity[-1:, layer], "o", color=color, markersize=5)
            parts_axes.plot(moments, parts[:, layer], style, color=color)
            print(
                f"{task}, {layers[layer]}: EI_parts {parts[0, layer]:.2f} -> {parts[-1, layer]:.2f} bits, "
                f"sensitivity {sensitivity[0, layer]:.1f} -> {sensitivity[-1, layer]:.1f}"
            )
    for layer, color in zip(layers, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=False):
        plane.plot([], [], color=color, label=layer)
    for seed, style in enumerate(("-", "--", ":")):
        plane.plot([], [], style, color="black", label=f"seed {seed}")
    plane.plot([], [], "o", color="grey", markersize=5, label="end of training")
    loss_axes.set(xlabel="epochs", ylabel="squared error an example", ylim=(0, None))
    loss_axes.set_title(f"{task}: training loss", fontsize="medium")
    plane.axline((0, 0), slope=1, color="grey", linewidth=0.8, zorder=0)
    plane.set(xlabel="degeneracy in bits", ylabel="sensitivity in bits")
    plane.set_title("Causal plane", fontsize="medium")
    parts_axes.set(xlabel="epochs", ylabel="EI_parts in bits", ylim=(0, None))
    parts_axes.set_title("Height above the diagonal", fontsize="medium")
    figure.legend(loc="outside lower center", ncols=4, fontsize="small", frameon=False)
    return figure


iris = draw("Iris", ["4 -> 5", "5 -> 5", "5 -> 3"], list(MOMENTS), [train_iris(seed) for seed in range(3)])

# %%
# Images
# ------
# 64-30-30-30-10 on digits, in a Trainer with :class:`~lightning_foresight.EICallback`, and with Adam, so that it takes
# 24 epochs and not hundreds.

EPOCHS = (0, 4, 8, 16, 24)


class DigitsNet(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = sigmoid_net(64, 30, 30, 30, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return squared_error(self, batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.005)


class Batches:
    """Slices of 25: a DataLoader would fetch such small images one by one."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.randperm(1297).split(25):
            yield images[index], digits[index]

    def __len__(self) -> int:
        return -(-1297 // 25)


for name in ("pytorch_lightning", "lightning.pytorch"):  # where both packages are installed, they share a logger
    logging.getLogger(name).setLevel(logging.WARNING)

images, digits = load_digits(return_X_y=True)
images, digits = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(digits)
order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
images, digits = images[order], digits[order]


class TrainingLoss(pl.Callback):
    """The loss on all training images, when the callback measures."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch in EPOCHS:
            self.look(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.look(pl_module)

    def look(self, pl_module: pl.LightningModule) -> None:
        with torch.no_grad():
            self.losses.append(float(squared_error(pl_module, (images[:1297], digits[:1297]))) / 1297)


def train_digits(seed: int) -> tuple[Tensor, list[float]]:
    """Return (moments, layers, EI_parts and sensitivity) and the training losses an image."""
    pl.seed_everything(seed, verbose=False)
    ei, losses = (
        EICallback(measures=("parts", "sensitivity"), in_range=(0, 1), schedule=EPOCHS.__contains__),
        TrainingLoss(),
    )
    model = DigitsNet()
    pl.Trainer(
        max_epochs=EPOCHS[-1], accelerator="cpu", logger=False, callbacks=[ei, losses],
        enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False,
    ).fit(model, Batches())  # fmt: skip
    with torch.no_grad():
        accuracy = (model(images[1297:]).argmax(1) == digits[1297:]).float().mean()
    print(f"digits, seed {seed}: test accuracy {accuracy:.3f}")
    table = ei.history.to_dict()
    places = [[table[f"ei/net.{layer}/{key}"]["value"] for key in ("parts", "sensitivity")] for layer in (0, 2, 4, 6)]
    return torch.tensor(places).permute(2, 0, 1), losses.losses


LAYERS = ["64 -> 30", "first 30 -> 30", "second 30 -> 30", "30 -> 10"]
digits_plane = draw("Digits", LAYERS, list(EPOCHS), [train_digits(seed) for seed in range(3)])
