"""
Phases of the weights' EI in a single-layer softmax network
===========================================================

**Claimed.** torch-foresight's documentation shows the EI of a network without hidden layers while it learns MNIST: fast
growth while both losses drop, then decay and levelling off, then slow growth while the training loss still falls and
the test loss rises. It reads the last phase as overfitting.

**Seen**, on scikit-learn's digits with 5 runs: the three phases are there. The EI of the weights grows from 1.35 to
1.61 bits in 13 steps, falls to 1.56 by step 125 (with 300 training images) and grows to 1.63 again. But the slow growth
begins some ten times earlier than overfitting, at step 125 against 1,600, while the test loss still falls from 0.54 to
0.20. And with 1,297 images, where the test loss falls to the end, the growth is as large (1.56 to 1.63) and over by
step 1,200. In these runs the last phase belongs to late training, with or without overfitting; EI does not tell the two
apart.
"""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn

from lightning_foresight.functional import weight_effective_information

images, digits = load_digits(return_X_y=True)
images, digits = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(digits)

# %%
# Training
# --------
# torch-foresight's network and optimiser: 64 inputs, 10 outputs, no bias, Adam, batches of 20. Five runs with their own
# initial weights and batches are trained at once, as one tensor of weights.

RUNS, STEPS = 5, 5000
MOMENTS = sorted({0} | {round(STEPS ** (i / 30)) for i in range(31)})


def network_ei(weight: Tensor) -> float:
    layer = nn.Linear(64, 10, bias=False)
    layer.weight.data = weight
    return float(weight_effective_information(layer, images[:1]).ei)


def train(num_images: int) -> dict[str, Tensor]:
    """Return EI, training loss and test loss, each (moments, runs)."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(images), generator=generator)
    seen, unseen = order[:num_images], order[-500:]
    weights = (torch.rand(RUNS, 10, 64, generator=generator) * 2 - 1) / 8
    optimizer = torch.optim.Adam([weights.requires_grad_()], lr=0.01)

    def losses(rows: Tensor) -> Tensor:
        """Cross entropy of every run; ``rows`` are the same for all runs or (runs, batch)."""
        logits = images[rows] @ weights.mT
        labels = digits[rows].expand(logits.shape[:2])
        return nn.functional.cross_entropy(logits.mT, labels, reduction="none").mean(1)

    curves: dict[str, list] = {"EI": [], "training": [], "test": []}
    for step in range(STEPS + 1):
        if step in MOMENTS:
            with torch.no_grad():
                curves["EI"].append(torch.tensor([network_ei(weight) for weight in weights]))
                curves["training"].append(losses(seen))
                curves["test"].append(losses(unseen))
        batch = seen[torch.randint(num_images, (RUNS, 20), generator=generator)]
        optimizer.zero_grad()
        losses(batch).sum().backward()
        optimizer.step()
    return {name: torch.stack(rows) for name, rows in curves.items()}


results = {num_images: train(num_images) for num_images in (300, 1297)}

# %%
# Phases
# ------
# Lines are means of the runs, bands reach from the least to the largest. Early runs differ much, for their initial
# weights do; what they learn is much the same. The second growth, of 0.07 bits, is far above the spread of 0.02
# that is left by then.

BLUE, ORANGE = "#0072B2", "#D55E00"
phases = Figure(figsize=(9.6, 6.4), layout="constrained", dpi=140)
for column, (num_images, curves) in zip(phases.subplots(2, 2, sharex=True).T, results.items(), strict=True):
    ei = curves["EI"]
    column[0].fill_between(MOMENTS, ei.amin(1), ei.amax(1), color=BLUE, alpha=0.2, linewidth=0, label="range of 5 runs")
    column[0].plot(MOMENTS, ei.mean(1), color=BLUE, label="mean of 5 runs")
    column[0].set(title=f"{num_images:,} training images", ylabel="EI of the weights in bits", ylim=(1.2, 1.75))
    for name, color in (("training", BLUE), ("test", ORANGE)):
        column[1].plot(MOMENTS, curves[name].mean(1), color=color, label=f"{name} loss")
    lowest = int(curves["test"].mean(1).argmin())
    for axes in column:
        axes.axvline(MOMENTS[lowest], color="grey", linestyle=":", label="test loss is lowest")
    column[1].set(xscale="symlog", yscale="log", xlabel="optimizer steps", ylabel="cross entropy in nats")
    column[0].legend(fontsize="small", loc="lower right")
    column[1].legend(fontsize="small")
    print(f"{num_images:,} images; test loss lowest at step {MOMENTS[lowest]:,}")
    for i in (*range(0, len(MOMENTS), 2), len(MOMENTS) - 1):
        print(
            f"  step {MOMENTS[i]:>5,}: EI {ei[i].mean():.3f} ± {ei[i].std():.3f}, "
            f"training loss {curves['training'][i].mean():.4f}, test loss {curves['test'][i].mean():.3f}"
        )
