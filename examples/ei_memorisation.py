"""
Does a network that memorises move differently from one that generalises?
=========================================================================

**Asked** in deep-ei's README, and left open: does EI evolve in different ways in the causal plane when a network
memorises a dataset and when it generalises? The test proposed there: shuffle the labels of the training images.

**Seen**, on 300 digits with 3 seeds: yes. With true labels the network is right on 94 % of unseen images, with shuffled
ones on 10 %; both know all training images by heart. The one that memorises goes further: its first layer ends at 4,550
bits of sensitivity and 12.4 of EI_parts, against 3,830 and 15.9 (standard deviation between seeds at most 110 and 0.9),
its hidden layer at 2,450 and 16.7 against 2,240 and 17.8.

But memorising needs larger weights, and that is enough to explain it: multiplied to the same norms, the network that
*generalises* ends up as far out or further (5,130 and 10.6; 2,510 and 16.5). In these networks the plane shows how
large the weights are, rather than what they have learned.
"""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn

from lightning_foresight.functional import causal_measures

images, digits = load_digits(return_X_y=True)
images, digits = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(digits)
LAYERS = ("first", "hidden", "last")


def place(net: nn.Sequential) -> Tensor:
    """Return sensitivity and EI_parts of every layer, (layers, 2)."""
    questions = ((net[0], net[1], (0, 1)), (net[2], net[3], (-1, 1)), (net[4], None, (-1, 1)))
    measured = [causal_measures(layer, activation, in_range=ends) for layer, activation, ends in questions]
    return torch.stack([torch.stack([layer.sensitivity.value, layer.parts.value]) for layer in measured])


# %%
# Training
# --------
# The same network, images, initial weights and batches; only the labels of the 300 training images differ.

MOMENTS = (0, 30, 100, 300, 1000)


def train(shuffled: bool, seed: int) -> tuple[nn.Sequential, Tensor, dict[str, float]]:
    """Return the network, its places (moments, layers, 2) and how well it did."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 10))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)
    seen, unseen = order[:300], order[300:]
    labels = digits[seen]
    if shuffled:
        labels = labels[torch.randperm(300, generator=torch.Generator().manual_seed(seed + 1))]
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    places = []
    for step in range(MOMENTS[-1] + 1):
        if step in MOMENTS:
            places.append(place(net))
        batch = torch.randint(300, (100,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images[seen[batch]]), labels[batch]).backward()
        optimizer.step()
    with torch.no_grad():
        training = (net(images[seen]).argmax(1) == labels).float().mean()
        test = (net(images[unseen]).argmax(1) == digits[unseen]).float().mean()
    return net, torch.stack(places), {"training accuracy": float(training), "test accuracy": float(test)}


# %%
# Is it more than the size of the weights?
# ----------------------------------------
# Memorising needs larger weights, and all measures depend on their scale. So the network that generalises is measured
# a second time, its layers multiplied to the norms of the one that memorises: the directions of the weights stay.


def scaled_like(net: nn.Sequential, other: nn.Sequential) -> nn.Sequential:
    for layer, model in zip(net[::2], other[::2], strict=True):
        factor = model.weight.norm() / layer.weight.norm()
        layer.weight.data *= factor
        layer.bias.data *= factor
    return net


paths: dict[str, list[Tensor]] = {"true labels": [], "random labels": []}
rescaled = []
for seed in range(3):
    general, path, scores = train(shuffled=False, seed=seed)
    paths["true labels"].append(path)
    print(f"seed {seed}, true labels:   {scores}")
    memory, path, scores = train(shuffled=True, seed=seed)
    paths["random labels"].append(path)
    print(f"seed {seed}, random labels: {scores}")
    rescaled.append(place(scaled_like(general, memory)))

ends = {name: torch.stack([run[-1] for run in runs]) for name, runs in paths.items()}
ends["true, rescaled"] = torch.stack(rescaled)
for name, places in ends.items():
    for index, layer in enumerate(LAYERS):
        (sensitivity, parts), (sensitivity_std, parts_std) = places[:, index].mean(0), places[:, index].std(0)
        print(
            f"{name:<15}{layer:<8}sensitivity {sensitivity:7.1f} ± {sensitivity_std:5.1f}  "
            f"EI_parts {parts:5.2f} ± {parts_std:.2f}"
        )

# %%
# The paths
# ---------
# EI_parts against sensitivity, a line for each seed, from its start in a circle to the right. Degeneracy, their
# difference, differs from sensitivity by so little that the usual axes would show a diagonal only.

plane = Figure(figsize=(9.6, 3.7), layout="constrained", dpi=140)
for index, (axes, layer) in enumerate(zip(plane.subplots(1, 3), LAYERS, strict=True)):
    for (name, runs), color in zip(paths.items(), ("#0072B2", "#D55E00"), strict=True):
        for run in runs:
            sensitivity, parts = run[:, index].T
            axes.plot(sensitivity, parts, "o-", color=color, markersize=4, label=name if run is runs[0] else None)
            axes.plot(sensitivity[:1], parts[:1], "o", color="grey", markersize=8, fillstyle="none")
    axes.plot(*ends["true, rescaled"][:, index].T, "x", color="#0072B2", markersize=8, label="true labels, rescaled")
    axes.set(title=f"{layer} layer", xlabel="sensitivity in bits", ylabel="EI_parts in bits")
    axes.plot([], [], "o", color="grey", markersize=7, fillstyle="none", label="start")
    axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
    axes.legend(fontsize="small", loc="lower left")
