r"""
Iris and images in the causal plane
===================================

**Claimed.** Marrow, Michaud & Hoel 2020 (arXiv 2010.13871) follow the layers of trained networks through the causal
plane, sensitivity against degeneracy. On the page of videos beside the paper, layers of networks trained on MNIST
"differentiate in the causal plane", and the authors take this for a sign of distinct roles.

**Seen**, with exact values and 64 bins:

- On Iris with 3 seeds, all layers slide along the diagonal while the loss falls: sensitivity grows 1.7 to 2.6 times and
  degeneracy with it, while EI, the distance from the diagonal, ends within 1.0 bits of where it began.
- On digits (one run), layers end up far apart in the plane, but by their size: 64 -> 30 at 4,950 bits of sensitivity,
  30 -> 10 at 760, and the two of one size, 30 -> 30, side by side at 2,440 and 2,270: no sign of distinct roles.
- EI_parts of a wide layer is nearly a constant before training. An output that sums many inputs is close to Gaussian,
  and its inputs share :math:`\sum_a \rho_a^2 / (2 \ln 2) = 0.72` bits, whatever the weights: 21.6 bits for 30 outputs
  and 7.2 for 10. Measured: 21.7 to 22.1, and 7.4. Training takes it to 19.6 to 21.9, and 6.2.
"""

from __future__ import annotations

import logging
import warnings
from itertools import pairwise

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits, load_iris
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

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
MOMENTS = range(0, 2001, 200)


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


iris = Figure(figsize=(12, 4), layout="constrained", dpi=110)
panels = iris.subplots(1, 3)
for seed, style in enumerate(("-", "--", ":")):
    places, losses = train_iris(seed)
    parts, sensitivity = places.unbind(2)
    panels[0].plot(MOMENTS, losses, style, color="black", label=f"seed {seed}")
    for layer in range(3):
        panels[1].plot(sensitivity[:, layer] - parts[:, layer], sensitivity[:, layer], style, color=f"C{layer}")
        panels[2].plot(MOMENTS, parts[:, layer], style, color=f"C{layer}", label=None if seed else f"layer {layer + 1}")
        print(
            f"Iris, seed {seed}, layer {layer + 1}: EI_parts {parts[0, layer]:.2f} -> {parts[-1, layer]:.2f} bits, "
            f"sensitivity {sensitivity[0, layer]:.1f} -> {sensitivity[-1, layer]:.1f}"
        )
panels[0].set(title="Iris: training loss", xlabel="epochs", ylabel="squared error a flower")
panels[1].set(title="Causal plane", xlabel="degeneracy in bits", ylabel="sensitivity in bits")
panels[1].axline((0, 0), slope=1, color="grey", linewidth=0.8)
panels[2].set(title="Distance from the diagonal", xlabel="epochs", ylabel="EI_parts in bits", ylim=(0, None))
panels[0].legend(fontsize="small")
panels[2].legend(fontsize="small")

# %%
# Images
# ------
# 64-30-30-30-10 on digits, in a Trainer with :class:`~lightning_foresight.EICallback`, and with Adam, so that it takes
# 24 epochs and not hundreds.


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


logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", ".*does not have many workers.*")

images, digits = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(digits))
pl.seed_everything(0, verbose=False)
train_data, test_data = torch.utils.data.random_split(data, [1297, 500])
ei = EICallback(measures=("parts", "sensitivity"), in_range=(0, 1), schedule=lambda epoch: epoch % 3 == 0)
trainer = pl.Trainer(
    max_epochs=24, accelerator="cpu", logger=False, callbacks=[ei],
    enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False,
)  # fmt: skip
model = DigitsNet()
trainer.fit(model, DataLoader(train_data, batch_size=25, shuffle=True))
inputs, labels = test_data[:]
print(f"digits: test accuracy {(model(inputs).argmax(1) == labels).float().mean():.3f}")
for key, columns in ei.history.to_dict().items():
    print(f"{key:<22}" + " ".join(f"{value:8.2f}" for value in columns["value"]))
digits_plane = ei.plot()
