"""
Does the noise scale predict the batch size that pays?
======================================================

**Claimed** by McCandlish, Kaplan, Amodei et al. (2018, `arXiv 1812.06162 <https://arxiv.org/abs/1812.06162>`_): steps S
and examples E to a target loss lie on the hyperbola (S / S_min - 1)(E / E_min - 1) = 1 as the batch size varies; the
batch at its bend, B_crit, is predicted by the noise scale that is measured during a single run, and grows as the
target falls.

**Seen** for a small MLP on digits, with the learning rate of plain SGD tuned for each of eight batch sizes and three
seeds: the points do lie on hyperbolas, and B_crit grows, from 11.1 to 15.2 and 23.1 examples for losses of 1, 0.5 and
0.25. The noise scale gets the order of magnitude, and not the growth: averaged over a run to these losses, B_noise is
27.2, 23.8 and 26.0 examples and B_simple 33.4, 28.4 and 33.1. To the lowest loss, B_noise is 1.1 and B_simple 1.4 times
too large; to the highest, which takes 20 to 30 steps, they are 2.5 and 3 times too large. The callback's interval says
how little a run this short can tell: at its end it has no upper end.
"""

from __future__ import annotations

import logging
import math
import warnings

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_foresight import GradientNoiseScaleCallback
from lightning_foresight.functional import hessian_noise_scale

for name in ("pytorch_lightning", "lightning.pytorch"):  # where both packages are installed, they share a logger
    logging.getLogger(name).setLevel(logging.WARNING)
warnings.filterwarnings("ignore")

images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)

# %%
# Steps to a target loss, for every batch size at its best learning rate
# ----------------------------------------------------------------------
# Nine learning rates and three seeds of the same network train side by side, as one network with an axis of copies:
# otherwise this page would take minutes. The loss is taken over every third image, at geometrically spaced steps.

BATCH_SIZES = (2, 4, 8, 16, 32, 64, 128, 256)
TARGETS = (1.0, 0.5, 0.25)
RATES = 2.0 ** torch.arange(-3.0, 1.3, 0.5)
SEEDS = 3
RATE_OF_COPY = RATES.repeat_interleave(SEEDS)
COPIES, HIDDEN = len(RATE_OF_COPY), 32


def initial_weights() -> list[Tensor]:
    """As nn.Linear draws them, the same for every learning rate."""
    layers = []
    for fan_in, fan_out in ((64, HIDDEN), (HIDDEN, 10)):
        for shape in ((fan_in, fan_out), (1, fan_out)):
            draw = torch.empty(SEEDS, *shape).uniform_(-1, 1) / math.sqrt(fan_in)
            layers.append(draw.repeat(len(RATES), 1, 1).requires_grad_())
    return layers


def losses(weights: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Mean loss of each copy on its own batch, x (copies, batch, 64), y (copies, batch)."""
    hidden = torch.tanh(torch.baddbmm(weights[1], x, weights[0]))
    logits = torch.baddbmm(weights[3], hidden, weights[2])
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape).mean(1)


def steps_to_targets(batch: int) -> Tensor:
    """Steps of each copy to each target, (targets, copies); infinite if it does not get there."""
    torch.manual_seed(0)
    weights = initial_weights()
    reached = torch.full((len(TARGETS), COPIES), torch.inf)
    look = 4.0
    for step in range(1, 3000):
        # The seeds see different batches; the learning rates of a seed see the same ones.
        rows = torch.randint(len(images), (SEEDS, batch)).repeat(len(RATES), 1)
        slopes = torch.autograd.grad(losses(weights, images[rows], labels[rows]).sum(), weights)
        with torch.no_grad():
            torch._foreach_sub_(weights, [RATE_OF_COPY.view(-1, 1, 1) * slope for slope in slopes])
            if step >= look:
                everywhere = losses(weights, images[::3].expand(COPIES, -1, -1), labels[::3].expand(COPIES, -1))
                for row, target in zip(reached, TARGETS, strict=True):
                    row[(everywhere <= target) & row.isinf()] = step
                look *= 1.06
                # The best rate is among the first to bring all seeds to the lowest target.
                if reached[-1].view(-1, SEEDS).isfinite().all(1).sum() >= 4:
                    break
    return reached


steps = torch.stack([steps_to_targets(batch) for batch in BATCH_SIZES])  # (batch sizes, targets, copies)
by_rate = steps.log().view(*steps.shape[:2], -1, SEEDS).mean(3).exp()
best_steps, best_rate = by_rate.min(2)
for batch, taken, chosen in zip(BATCH_SIZES, best_steps, RATES[best_rate], strict=True):
    print(
        f"batch {batch:>3}: " + "  ".join(f"{s:5.0f} steps at rate {r:.2f}" for s, r in zip(taken, chosen, strict=True))
    )

# %%
# The trade-off
# -------------
# The paper's curve is (S / S_min - 1)(E / E_min - 1) = 1 for S steps and E = B S examples: S = S_min (1 + B_crit / B),
# fitted to the logarithms by least squares over a grid of B_crit.


def fit_trade_off(taken: Tensor) -> tuple[float, float]:
    """Return S_min and B_crit."""
    grid = torch.logspace(-1, 3, 2000)
    excess = taken.log() - torch.log1p(grid.unsqueeze(1) / torch.tensor(BATCH_SIZES))
    chosen = excess.var(1).argmin()
    return float(excess[chosen].mean().exp()), float(grid[chosen])


fits = [fit_trade_off(taken) for taken in best_steps.T]

# %%
# The noise scale on the way there
# --------------------------------
# An ordinary Lightning run at batches of 32, in 8 micro-batches of 4, at its best learning rate. The callback measures
# B_simple; every fourth step B_noise is worked out from all of the data at the weights of that step.


class Classifier(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.7)


class Curvature(pl.Callback):
    """Loss and curvature-weighted noise over all of the data."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, float, float, float]] = []
        self.order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if (batch_idx + 1) % 8 or trainer.global_step % 4:
            return
        x, y = images[self.order], labels[self.order]
        scale = hessian_noise_scale(pl_module.net, F.cross_entropy, x, y, num_blocks=16)
        with torch.no_grad():
            loss = float(F.cross_entropy(pl_module.net(x), y))
        parts = (float(scale.trace_h_sigma.value), float(scale.grad_h_grad.value))
        self.rows.append((trainer.global_step, loss, *parts))
        trainer.should_stop = loss < min(TARGETS)


histories, curvatures = [], []
for seed in range(SEEDS):
    pl.seed_everything(seed, verbose=False)
    loader = DataLoader(TensorDataset(images, labels), batch_size=4, shuffle=True, drop_last=True)
    gns, curvature = GradientNoiseScaleCallback(every_n_steps=1, decay=0.9, log_figures=False), Curvature()
    trainer = pl.Trainer(
        max_steps=120,
        max_epochs=-1,
        accumulate_grad_batches=8,
        callbacks=[gns, curvature],
        log_every_n_steps=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(), loader)
    histories.append(gns.history)
    curvatures.append(curvature.rows)

# %%
# What the noise scales predict
# -----------------------------
# A step at batch B makes 1 / (1 + noise scale / B) of the progress of a step without noise. The paper's B_crit is the
# noise scale averaged over that progress, from the start to the target. Numerators and denominators are averaged over
# the seeds before they are divided.


def pooled(runs: list[dict[int, tuple[float, float]]]) -> dict[int, tuple[float, float]]:
    """Mean numerator and denominator at every step that all seeds have."""
    common = sorted(set.intersection(*(set(run) for run in runs)))
    return {step: tuple(torch.tensor([run[step] for run in runs]).mean(0).tolist()) for step in common}


def average(parts: dict[int, tuple[float, float]], last: float, batch: int = 32) -> float:
    """Noise scale averaged over progress up to a step; where the denominator is negative there is none."""
    ratios = [
        numerator / denominator for step, (numerator, denominator) in parts.items() if denominator > 0 and step <= last
    ]
    progress = [1 / (1 + ratio / batch) for ratio in ratios]
    return sum(w * ratio for w, ratio in zip(progress, ratios, strict=True)) / sum(progress)


simple = pooled(
    [
        {s.step: (s.value, g.value) for s, g in zip(h["gns/trace_sigma"], h["gns/grad_sq_norm"], strict=True)}
        for h in histories
    ]
)
noise = pooled([{step: (numerator, denominator) for step, _, numerator, denominator in rows} for rows in curvatures])
bent = sum(denominator <= 0 for rows in curvatures for *_, denominator in rows)
print(f"curvature along the gradient: not positive in {bent} of {sum(map(len, curvatures))} looks")
print(f"{'target loss':<14}{'B_crit':>10}{'B_noise':>10}{'B_simple':>10}")
for target, (_, critical) in zip(TARGETS, fits, strict=True):
    end = sum(next((s for s, loss, *_ in rows if loss <= target), rows[-1][0]) for rows in curvatures) / SEEDS
    print(f"{target:<14}{critical:>10.1f}{average(noise, end):>10.1f}{average(simple, end):>10.1f}")

# %%
# Left, every point is a batch size, the lines are the fitted curves, and the crosses B_crit on them. Right, the noise
# scales over the run, with the callback's interval.

figure = Figure(figsize=(11, 4.4), layout="constrained", dpi=110)
left, right = figure.subplots(1, 2)
dense = torch.logspace(0, 3, 200)
for i, target in enumerate(TARGETS):
    fewest, critical = fits[i]
    (line,) = left.plot(
        fewest * (1 + critical / dense), dense * fewest * (1 + critical / dense), label=f"loss {target}"
    )
    left.plot(best_steps[:, i], best_steps[:, i] * torch.tensor(BATCH_SIZES), "o", color=line.get_color())
    left.plot(2 * fewest, 2 * fewest * critical, "x", color="black", markersize=9)
left.set(xscale="log", yscale="log", xlabel="steps", ylabel="examples", title="Steps against examples to a target loss")
left.set_xlim(10, 600)
left.legend(fontsize="small")
b_simple = [row for row in histories[0]["gns/b_simple"] if row.value > 0]
x = [row.step for row in b_simple]
right.fill_between(x, [max(1, r.lower) for r in b_simple], [min(1e4, r.upper) for r in b_simple], alpha=0.2)
right.plot(x, [row.value for row in b_simple], label="B_simple (callback), one seed")
positive = [(step, numerator / denominator) for step, (numerator, denominator) in noise.items() if denominator > 0]
right.plot(*zip(*positive, strict=True), "s-", label="B_noise (with curvature), 3 seeds")
colors = [line.get_color() for line in left.get_lines()[::3]]
for i, target in enumerate(TARGETS):
    right.axhline(fits[i][1], linestyle=":", color=colors[i], label=f"B_crit to loss {target}")
right.set(yscale="log", ylim=(1, 1000), xlabel="step", ylabel="examples", title="Noise scales on the way")
right.legend(fontsize="small")
