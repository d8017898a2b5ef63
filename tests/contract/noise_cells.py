"""The runs in which the gradient noise scale is held to plain autograd, and the verdict on each method there.

A verdict is ``YES``, or what the refusal says. The table of docs/gradient_noise_scale.md lists the same cells.
"""

from __future__ import annotations

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import BaseFinetuning
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from lightning_foresight.functional._random import own_generator
from lightning_foresight.probes.gradient_split import balanced_signs
from tests.reference.noise_runs import Observed

YES = "yes"
EXACT = 1e-5


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))[:, :3]


class SparseEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(5, 4, sparse=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.table((x * 2).long().clamp(-2, 2) + 2).mean(1))


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.used, self.after = nn.Linear(6, 3), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x):
        return self.used(x)


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8)), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(checkpoint(self.body, x, use_reentrant=False))


class ReentrantlyCheckpointed(Checkpointed):
    def forward(self, x):
        return self.head(checkpoint(self.body, x.requires_grad_(), use_reentrant=True))

    def plain(self, x):
        return self.head(self.body(x))


class ByTwin(Observed):
    """Worked out on the plain network, since the graph of the run's own cannot be passed through again."""

    def training_step(self, batch, batch_idx):
        plain = F.cross_entropy(self.net.plain(batch[0]), batch[1], reduction="none")
        self.observe(plain, plain.mean())
        return self.losses(batch).mean()


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(1, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.block(self.embed(x.unsqueeze(-1))).mean(1))


def mlp(*between):
    return nn.Sequential(nn.Linear(6, 8), *between, nn.Tanh(), nn.Linear(8, 3))


def frozen_first():
    net = mlp()
    net[0].requires_grad_(False)
    return net


def normed():
    net = mlp()
    parametrizations.weight_norm(net[0])
    return net


class Unfreeze(BaseFinetuning):
    def freeze_before_training(self, pl_module):
        self.freeze(pl_module.net[0])

    def finetune_function(self, pl_module, epoch, optimizer):
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.net[0], optimizer)


class SkipsSome(Observed):
    def training_step(self, batch, batch_idx):
        return None if batch_idx in (1, 3) else super().training_step(batch, batch_idx)


class SkipsFirst(Observed):
    def training_step(self, batch, batch_idx):
        return None if batch_idx == 0 else super().training_step(batch, batch_idx)


class SkipsAll(Observed):
    def training_step(self, batch, batch_idx):
        return None if batch_idx < 4 else super().training_step(batch, batch_idx)


class Manual(Observed):
    """Two batches make a step; their losses are not divided."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        losses = self.losses(batch)
        self.observe(losses, losses.mean())
        self.manual_backward(losses.mean())
        if batch_idx % 2 == 1:
            optimizer.step()
            optimizer.zero_grad()


class ZeroedInPlace(Manual):
    """Gradients become zeros, not ``None``."""

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        if batch_idx % 2 == 0:
            optimizer.zero_grad(set_to_none=False)
        losses = self.losses(batch)
        self.observe(losses, losses.mean())
        self.manual_backward(losses.mean())
        if batch_idx % 2 == 1:
            optimizer.step()


class GivenUp(Manual):
    """Gradients of the first batch of an epoch are dropped without a step, in place."""

    def training_step(self, batch, batch_idx):
        if batch_idx == 0:
            self.manual_backward(self.losses(batch).mean())
            self.optimizers().zero_grad(set_to_none=False)
        else:
            super().training_step(batch, batch_idx)


class StepsTwice(Manual):
    """Every third batch steps once more without a backward pass."""

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        if batch_idx % 3 < 2:
            losses = self.losses(batch)
            self.observe(losses, losses.mean())
            self.manual_backward(losses.mean())
        if batch_idx % 3 > 0:
            optimizer.step()
            optimizer.zero_grad()


class ManualAcrossEpochs(Manual):
    """Lightning's recipe: every fourth batch steps, and losses are divided; steps do not end with the epochs."""

    num_batches = 0

    def training_step(self, batch, batch_idx):
        losses = self.losses(batch) / 4
        self.observe(losses, losses.mean())
        self.manual_backward(losses.mean())
        self.num_batches += 1
        if self.num_batches % 4 == 0:
            self.optimizers().step()
            self.optimizers().zero_grad()


class OneIsSlower(pl.LightningModule):
    """Two optimizers on two networks; the second steps at every third batch, the first at all."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.nets = nn.ModuleList([nn.Linear(6, 3), nn.Linear(6, 3)])
        self.num_batches = 0

    def training_step(self, batch, batch_idx):
        self.num_batches += 1
        for net, optimizer, period in zip(self.nets, self.optimizers(), (1, 3), strict=True):
            self.manual_backward(F.cross_entropy(net(batch[0]), batch[1]))
            if self.num_batches % period == 0:
                optimizer.step()
                optimizer.zero_grad()

    def configure_optimizers(self):
        return [torch.optim.SGD(net.parameters(), lr=0.1) for net in self.nets]


class DictBatch(Observed):
    def losses(self, batch):
        return F.cross_entropy(self.net(batch["x"]), batch["y"], reduction="none")

    def on_before_batch_transfer(self, batch, dataloader_idx):
        return {"x": batch[0], "y": batch[1]}


class Penalised(Observed):
    """A penalty on the weights is part of every gradient and no noise."""

    def training_step(self, batch, batch_idx):
        losses = self.losses(batch)
        penalty = 0.1 * sum(p.square().sum() for p in self.parameters())
        self.observe(losses, losses.mean() + penalty)
        return losses.mean() + penalty


class TimeFirst(Observed):
    """The batch is on the second axis of the inputs."""

    def losses(self, batch):
        return F.cross_entropy(self.net(batch[0].sum(0)), batch[1], reduction="none")

    def on_before_batch_transfer(self, batch, dataloader_idx):
        return torch.stack([batch[0], batch[0].sin(), batch[0].cos()]), batch[1]


class Adam(Observed):
    optimizer = staticmethod(lambda parameters: torch.optim.AdamW(parameters, lr=0.01))


class InAdamsMetric(Adam):
    """Gradients in the metric that the optimizer's state gives, written out; none at the first step."""

    def flat_gradient(self, loss):
        gradient, roots = super().flat_gradient(loss), []
        for parameter in self.parameters():
            state = self.optimizers().optimizer.state[parameter]
            if state:
                v_hat = state["exp_avg_sq"].double() / (1 - 0.999 ** float(state["step"]))
                roots.append((1 / (v_hat.sqrt() + 1e-8)).sqrt().flatten())
        return gradient * torch.cat(roots) if roots else gradient * torch.nan

    def on_before_optimizer_step(self, optimizer):
        super().on_before_optimizer_step(optimizer)
        if self.trainer.global_step == 0:
            self.noise, self.signal = [], []


class PlainSGD(Observed):
    optimizer = staticmethod(lambda parameters: torch.optim.SGD(parameters, lr=0.05))


class Lbfgs(Observed):
    optimizer = staticmethod(lambda parameters: torch.optim.LBFGS(parameters))


class GAN(pl.LightningModule):
    """Two optimizers; the generator's backward pass leaves gradients on the discriminator, too."""

    to_none = True

    def __init__(self, net=None, *, signs=None, examples=False):
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = nn.Linear(2, 6), nn.Linear(6, 1)
        self.by_example = examples
        self.seen = {"/optimizer_0": ([], []), "/optimizer_1": ([], [])}

    def training_step(self, batch, batch_idx):
        for_generator, for_discriminator = self.optimizers()
        real, size = batch[0], len(batch[0])
        fake = self.generator(torch.randn(size, 2))
        losses = -F.logsigmoid(self.discriminator(fake)).squeeze(1)
        self.step(for_generator, "/optimizer_0", self.generator, losses)
        losses = (F.softplus(self.discriminator(fake.detach())) + F.softplus(-self.discriminator(real))).squeeze(1)
        self.step(for_discriminator, "/optimizer_1", self.discriminator, losses)

    def step(self, optimizer, key, part, losses):
        optimizer.zero_grad(set_to_none=self.to_none)
        size = len(losses)

        def square(loss):
            gradients = torch.autograd.grad(loss, list(part.parameters()), retain_graph=True)
            return float(sum(g.double().square().sum() for g in gradients))

        big = square(losses.mean())
        if self.by_example:
            noise = (sum(square(loss) for loss in losses) / size - big) / (1 - 1 / size)
        else:
            signs = balanced_signs(size, own_generator("cpu", self.trainer.global_step))
            noise = square((signs * losses).mean()) * size**2 / (size // 2 * 2)
        self.seen[key][0].append(noise)
        self.seen[key][1].append(big - noise / size)
        self.manual_backward(losses.mean())
        optimizer.step()

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.generator, self.discriminator)]


class GANZeroedInPlace(GAN):
    to_none = False


class Convolutional(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
        )


def compiled():
    net = torch.compile(mlp(), backend="aot_eager")
    net.plain = net._orig_mod.forward
    return net


def scaled(accumulate):
    # Under accumulation the scale is too large at first, so that some steps overflow and are skipped.
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0 ** (18 if accumulate == 4 else 8), growth_interval=4)
    return MixedPrecision("16-mixed", "cpu", scaler=scaler)


def signs(length, step):
    return balanced_signs(length, own_generator("cpu", step))


NEVER_SEES = "method='per_example' never sees a gradient to precondition"
NO_OUTER = "no outer products for net"
LBFGS = "LBFGS evaluates the gradient several times a step"
# Every run has six batches an epoch, the last one smaller: under accumulation of 4 the last window is partial.
# name: model class, network, settings of the Trainer, arguments of the callback, tolerance,
#       verdicts on micro_batches, split, per_example
CELLS = {
    "unequal batches, partial windows": (Observed, mlp, {}, {}, EXACT, (YES, YES, YES)),
    "momentum-free SGD": (PlainSGD, mlp, {}, {}, EXACT, (YES, YES, YES)),
    "Adam": (Adam, mlp, {}, {}, EXACT, (YES, YES, YES)),
    "Adam's metric": (InAdamsMetric, mlp, {}, {"preconditioner": "adam"}, EXACT, (YES, YES, NEVER_SEES)),
    "convolutions, GroupNorm": (Observed, Convolutional, {}, {}, EXACT, (YES, YES, YES)),
    "attention": (Observed, Transformer, {}, {}, EXACT, (YES, YES, NO_OUTER + ".block.self_attn.in_proj_weight")),
    "BatchNorm": (Observed, lambda: mlp(nn.BatchNorm1d(8)), {}, {}, EXACT, (YES, YES, "'net.1' is in training mode")),
    "dropout": (Observed, lambda: mlp(nn.Dropout(0.5)), {}, {}, EXACT, (YES, YES, YES)),
    "shared parameters": (Observed, Tied, {}, {}, EXACT, (YES, YES, YES)),
    "sparse gradients": (PlainSGD, SparseEmbedding, {}, {}, EXACT, (YES, YES, YES)),
    "parameters without gradient": (Observed, Unused, {}, {}, EXACT, (YES, YES, YES)),
    "frozen parameters": (Observed, frozen_first, {}, {}, EXACT, (YES, YES, YES)),
    "unfreezing": (Observed, mlp, {"callbacks": [Unfreeze]}, {}, EXACT, (YES, YES, YES)),
    "parametrizations": (Observed, normed, {}, {}, EXACT, (YES, YES, NO_OUTER)),
    "penalty on the weights": (Penalised, mlp, {}, {}, EXACT, (YES, YES, NO_OUTER)),
    "activation checkpointing": (Observed, Checkpointed, {}, {}, EXACT, (YES, YES, YES)),
    "reentrant checkpointing": (ByTwin, ReentrantlyCheckpointed, {}, {}, EXACT, (YES, "use_reentrant=False", NO_OUTER)),
    "torch.compile": (ByTwin, compiled, {}, {}, EXACT, (YES, "donated_buffer = False", NO_OUTER)),
    "torch.compile, no donated buffers": (Observed, compiled, {"donated": False}, {}, EXACT, (YES, YES, NO_OUTER)),
    "clipping by norm": (Observed, mlp, {"gradient_clip_val": 1e-3}, {}, EXACT, (YES, YES, YES)),
    "clipping by value": (
        Observed,
        mlp,
        {"gradient_clip_val": 1e-4, "gradient_clip_algorithm": "value"},
        {},
        EXACT,
        (YES, YES, YES),
    ),
    "training_step returns None": (SkipsSome, mlp, {}, {}, EXACT, (YES, YES, YES)),
    "None on the first batch": (SkipsFirst, mlp, {}, {}, EXACT, (YES, YES, YES)),
    "None for a whole step": (SkipsAll, mlp, {}, {}, EXACT, (YES, YES, YES)),
    "mappings as batches": (DictBatch, mlp, {}, {}, EXACT, (YES, YES, YES)),
    "time first": (TimeFirst, mlp, {}, {"batch_size": lambda batch: batch[0].shape[1]}, EXACT, (YES, YES, YES)),
    "manual optimization": (Manual, mlp, {"accumulate_grad_batches": 1}, {}, EXACT, (YES, YES, YES)),
    "manual optimization, steps across epochs": (
        ManualAcrossEpochs,
        mlp,
        {"accumulate_grad_batches": 1, "max_epochs": 4},
        {},
        EXACT,
        (YES, YES, YES),
    ),
    "manual optimization, gradients zeroed in place": (
        ZeroedInPlace,
        mlp,
        {"accumulate_grad_batches": 1},
        {},
        EXACT,
        (YES, YES, YES),
    ),
    "manual optimization, gradients given up": (
        GivenUp,
        mlp,
        {"accumulate_grad_batches": 1},
        {},
        EXACT,
        (YES, YES, YES),
    ),
    "manual optimization, steps without a backward pass": (
        StepsTwice,
        mlp,
        {"accumulate_grad_batches": 1},
        {},
        EXACT,
        (YES, YES, YES),
    ),
    "several optimizers, gradients zeroed in place": (
        GANZeroedInPlace,
        mlp,
        {"accumulate_grad_batches": 1},
        {},
        EXACT,
        (None, YES, YES),
    ),
    "several optimizers": (GAN, mlp, {"accumulate_grad_batches": 1}, {}, EXACT, (None, YES, YES)),
    "LBFGS": (Lbfgs, mlp, {}, {}, EXACT, (LBFGS, LBFGS, LBFGS)),
    "float64": (Observed, mlp, {"precision": "64-true"}, {}, EXACT, (YES, YES, YES)),
    # Half precision rounds the loss's scale or the reduced gradients differently from the unscaled twin.
    "bf16-mixed": (Observed, mlp, {"precision": "bf16-mixed"}, {}, 2e-2, (YES, YES, YES)),
    "bf16-true": (Observed, mlp, {"precision": "bf16-true"}, {}, 5e-2, (YES, YES, YES)),
    "16-mixed, loss scaling, skipped steps": (Observed, mlp, {"plugins": scaled}, {}, 1e-2, (YES, YES, YES)),
}
METHODS = {"micro_batches": 4, "split": 1, "per_example": 2}  # with how many accumulated batches each is tried
