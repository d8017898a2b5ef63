"""
The noise scale in a plain loop and in Fabric
=============================================

``GradientNoiseScale`` is a torchmetrics metric: it needs no Trainer. In a loop of one's own the squared norms come from
:class:`~lightning_foresight.probes.gradients.GradientNormProbe`, whose hooks see the gradient of each micro-batch
before it is added to ``.grad``.
"""

from __future__ import annotations

import logging

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_foresight.functional import exact_noise_scale, suggest_batch_size
from lightning_foresight.metrics import GradientNoiseScale
from lightning_foresight.probes import probe_noise_scale
from lightning_foresight.probes.gradients import GradientNormProbe

logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
MICRO_BATCHES, SIZE = 4, 8


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))


def loader() -> DataLoader:
    return DataLoader(TensorDataset(images, labels), batch_size=SIZE, shuffle=True, drop_last=True)


# %%
# A plain loop
# ------------
# Ten lines are the measure's own; they are marked.

net = network()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
metric = GradientNoiseScale(decay=0.98)  # 1
probe = GradientNormProbe(net.parameters())  # 2
probe.attach()  # 3
probe.listening = True  # 4
curve, squares = [], []
for _ in range(6):
    for index, (x, y) in enumerate(loader(), start=1):
        (F.cross_entropy(net(x), y) / MICRO_BATCHES).backward()
        squares.append(probe.collect().norms.square().sum() * MICRO_BATCHES**2)  # 5
        if index % MICRO_BATCHES == 0:
            big = sum(p.grad.square().sum() for p in net.parameters())  # 6
            metric.update(sum(squares) / MICRO_BATCHES, big, SIZE, MICRO_BATCHES * SIZE)  # 7
            squares.clear()  # 8
            optimizer.step()
            optimizer.zero_grad()
    squares.clear()  # 9
    curve.append(metric.compute().b_simple)  # 10
probe.remove()

b = curve[-1]
print(f"plain loop: {b.value:.0f} examples, {b.lower:.0f} to {b.upper:.0f}")
print(suggest_batch_size(float(b.value), float(b.lower), float(b.upper), batch_size=MICRO_BATCHES * SIZE).reason)

# %%
# At rest
# -------
# The weights as they are now, from the gradients of all single examples, and by a probe that wants 10 %: an epoch of
# batches of 8 is not enough for that here, and its standard error says so.

exact = exact_noise_scale(net, F.cross_entropy, images, labels).b_simple
probed = probe_noise_scale(net, F.cross_entropy, loader(), rtol=0.1).b_simple
print(f"all examples: {exact.value:.0f}")
print(f"probe: {probed.value:.0f} ± {probed.std_error:.0f} from {probed.num_samples} batches")

# %%
# Lightning Fabric
# ----------------
# The same ten lines, for any number of processes: hooks see a rank's own gradients, so their squared norms are averaged
# over ranks, and the big batch is that of all ranks.

fabric = Fabric(accelerator="cpu", devices=1)
net = network()
net, optimizer = fabric.setup(net, torch.optim.SGD(net.parameters(), lr=0.1))
data = fabric.setup_dataloaders(loader())
metric, probe = (
    fabric.to_device(GradientNoiseScale(decay=0.98, sync_on_compute=False)),
    GradientNormProbe(net.parameters()),
)
probe.attach()
probe.listening = True
squares = []
for _ in range(6):
    for index, (x, y) in enumerate(data, start=1):
        fabric.backward(F.cross_entropy(net(x), y) / MICRO_BATCHES)
        squares.append(probe.collect().norms.square().sum() * MICRO_BATCHES**2)
        if index % MICRO_BATCHES == 0:
            big = sum(p.grad.square().sum() for p in net.parameters())
            small = fabric.all_reduce(sum(squares) / MICRO_BATCHES, reduce_op="mean")
            metric.update(small, big, SIZE, MICRO_BATCHES * SIZE * fabric.world_size)
            squares.clear()
            optimizer.step()
            optimizer.zero_grad()
    squares.clear()
b = metric.compute().b_simple
print(f"Fabric: {b.value:.0f} examples, {b.lower:.0f} to {b.upper:.0f}")

# %%
# The noise scale grows as the loss falls, and soon leaves the batch of 32 behind: 240 examples (139 to 768) after six
# epochs, where the gradients of all single examples give 285.

figure = Figure(figsize=(6.4, 4), layout="constrained", dpi=110)
axes = figure.subplots()
epochs = range(1, len(curve) + 1)
axes.fill_between(epochs, [b.lower for b in curve], [b.upper for b in curve], alpha=0.2, label="interval")
axes.plot(epochs, [b.value for b in curve], "o-", label="B_simple")
axes.axhline(MICRO_BATCHES * SIZE, linestyle="--", color="tab:orange", label="batch size")
axes.set(xlabel="epoch", ylabel="examples", title="Gradient noise scale in a plain loop")
axes.set_ylim(bottom=0)
axes.legend()
