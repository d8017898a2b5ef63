"""
No compression with ReLU, but with bins that grow
=================================================

**Claimed** by Saxe et al. (2018, ICLR; J. Stat. Mech. 2019, 124020): networks with ReLU do not compress, and the
compression seen with tanh comes from its two saturated ends and from binning.

**Seen**, on one run: whether the last two hidden layers compress is a property of the ruler. From epoch 19 to 750 their
I(X;T) goes

- with noise of fixed size from 10.4 to 11.3 and from 7.8 to 8.4 bits (in between the last reaches 8.9),
- in bins of fixed width from 6.1 to 8.3 and from 4.6 to 6.2 bits,
- in 30 bins over the range of the layer at that moment from 8.7 to 8.1 and from 7.2 to 5.8 bits: "compression".

The largest activation grows from 7 to 16 and from 5 to 19 in this time, and the third kind of bins with it. The same
holds for noise in proportion to the layer, which ``estimator="auto"`` declares: to compare epochs, fix the noise.

**It does not show** that ReLU networks never compress, nor that they forget nothing: I(X;T) of a deterministic network
has no value without a ruler. The null warns as before: the first three layers read 0.95 bits and more for shuffled
labels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import pairwise

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from torch import nn

from lightning_foresight import ForesightCallback, InfoPlaneCallback, LogSchedule
from lightning_foresight.data import spherical
from lightning_foresight.probes.activations import capture_activations
from lightning_foresight.probes.isolation import undisturbed

for name in ("pytorch_lightning", "lightning.pytorch"):  # where both packages are installed, they share a logger
    logging.getLogger(name).setLevel(logging.WARNING)

# %%
# The network of :doc:`plane_tanh_compression` with ReLU in place of tanh.

inputs, labels = spherical().tensors


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        layers = [module for a, b in pairwise((12, 10, 7, 5, 4, 3, 2)) for module in (nn.Linear(a, b), nn.ReLU())]
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
# Three rulers on one run: noise of fixed size; bins of fixed width; and 30 bins from the smallest to the largest
# activation of the layer at that moment, which widen as activations grow. How far they grow is measured beside them, by
# a callback of our own.


class LargestActivation(ForesightCallback):
    default_prefix = "largest"

    def measure(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, torch.Tensor]:
        modules = {name: module for name, module in pl_module.named_modules() if isinstance(module, nn.ReLU)}
        with undisturbed(pl_module):
            captured = capture_activations(modules, [inputs], pl_module)
        return {f"{layer}/activation": rows.max() for layer, rows in captured.items()}


EPOCHS = 750
schedule = LogSchedule(EPOCHS, 10)
common = {"dataloader": (inputs, labels), "num_samples": 4096, "layers": nn.ReLU, "schedule": schedule}
noisy = InfoPlaneCallback(preset="goldfeld-2019", prefix="noise_of_fixed_size", **common)
fixed = InfoPlaneCallback(estimator="binned", options={"bin_width": 0.5}, prefix="bins_of_fixed_width", **common)
growing = InfoPlaneCallback(estimator="binned", options={"bins": 30}, prefix="bins_that_grow", **common)
largest = LargestActivation(schedule=schedule)

torch.manual_seed(1)
model = Net()
pl.Trainer(
    max_epochs=EPOCHS,
    accelerator="cpu",
    callbacks=[noisy, fixed, growing, largest],
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
).fit(model, Quarters())
accuracy = float((model(inputs).argmax(1) == labels).float().mean())
print(f"training accuracy {accuracy:.3f}")

LAYERS = [f"net.{2 * i + 1}" for i in range(5)]


def row(callback: ForesightCallback, key: str, epoch: float | None = None) -> str:
    found = [callback.history[f"{callback.prefix}/{layer}/{key}"] for layer in LAYERS]
    values = [next(r.value for r in reversed(rows) if epoch is None or r.epoch <= epoch) for rows in found]
    return "".join(f"{value:8.2f}" for value in values)


print(f"{'bits, at layer':<40}" + "".join(f"{layer:>8}" for layer in LAYERS))
for callback in (noisy, fixed, growing):
    for epoch in (0, 19, 83, 750):
        print(f"{f'{callback.prefix}: I(X;T), {epoch}':<40}{row(callback, 'I_XT', epoch)}")
    print(f"{f'{callback.prefix}: I(T;Y), 750':<40}{row(callback, 'I_TY')}")
    print(f"{f'{callback.prefix}: shuffled':<40}{row(callback, 'I_TY_null')}")
for epoch in (0, 19, 83, 750):
    print(f"{f'largest activation, {epoch}':<40}{row(largest, 'activation', epoch)}")

# %%
# The same run, three answers
# ---------------------------
# The last two hidden layers. Whether they compress is a property of the ruler.

figure_rulers = Figure(figsize=(9, 4), layout="constrained", dpi=110)
panels = figure_rulers.subplots(1, 2)
for axes, layer in zip(panels, LAYERS[-2:], strict=True):
    for callback, marker in ((noisy, "o"), (fixed, "s"), (growing, "^")):
        rows = callback.history[f"{callback.prefix}/{layer}/I_XT"]
        label = callback.prefix.replace("_", " ")
        axes.plot([r.epoch + 1 for r in rows], [r.value for r in rows], f"{marker}-", label=label)
    axes.plot([], [], "k:", label="largest activation (right)")
    right = axes.twinx()
    rows = largest.history[f"largest/{layer}/activation"]
    right.plot([r.epoch + 1 for r in rows], [r.value for r in rows], "k:")
    right.set(ylabel="largest activation", ylim=(0, None))
    axes.set(title=layer, xscale="log", xlabel="1 + epochs completed", ylabel="I(X;T) in bits")
    axes.legend(fontsize="small")

# %%
# The plane with noise of fixed size
# ----------------------------------

figure_noisy = noisy.plot()

# %%
# The plane with bins that grow
# -----------------------------

figure_growing = growing.plot()
