"""Training runs that work out their own gradient noise, step by step, with nothing but autograd.grad in float64."""

from __future__ import annotations

from typing import ClassVar

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Observed(pl.LightningModule):
    """Classifies random data; ``signal`` and ``noise`` hold the observations of all steps by definition."""

    optimizer: ClassVar = lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9)

    def __init__(self, net: nn.Module | None = None, *, signs=None, examples: bool = False) -> None:
        super().__init__()
        self.net = net or nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        self.signs = signs  # a function of (length, step): compare halves of a batch, not micro-batches
        self.examples = examples  # compare single examples
        self.micro_batches: list[tuple[torch.Tensor, int]] = []
        self.differences: list[tuple[torch.Tensor, int]] = []
        self.squares: list[torch.Tensor] = []
        self.noise: list[float] = []
        self.signal: list[float] = []

    def losses(self, batch):
        return F.cross_entropy(self.net(batch[0]), batch[1], reduction="none")

    def training_step(self, batch, batch_idx):
        losses = self.losses(batch)
        loss = losses.mean()
        self.observe(losses, loss)
        return loss

    def observe(self, losses, loss):
        self.micro_batches.append((self.flat_gradient(loss), len(losses)))
        if self.examples:
            self.squares.append(torch.stack([self.flat_gradient(one).square().sum() for one in losses]).mean())
        if self.signs is not None and len(self.micro_batches) == 1:
            signs = self.signs(len(losses), self.global_step)
            self.differences.append((self.flat_gradient((signs * losses).mean()), len(losses)))

    def flat_gradient(self, loss):
        parameters = [p for p in self.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        pieces = [
            torch.zeros(p.numel(), dtype=torch.float64) if g is None else g.to_dense().double().flatten()
            for p, g in zip(parameters, gradients, strict=True)
        ]
        return torch.cat(pieces)

    def on_before_optimizer_step(self, optimizer):
        seen, self.micro_batches = self.micro_batches, []
        halves, self.differences = self.differences, []
        squares, self.squares = self.squares, []
        overflow = any(p.grad is not None and not p.grad.to_dense().isfinite().all() for p in self.parameters())
        if not seen or overflow:
            return
        gradients = torch.stack([gradient for gradient, _ in seen])
        inverse_size = sum(1 / size for _, size in seen) / len(seen)
        big = gradients.mean(0).square().sum()
        if self.signs is not None:
            found = [half.square().sum() * size**2 / (size // 2 * 2) for half, size in halves]
            noise = torch.stack(found).mean()  # over ranks
        elif self.examples:
            noise = (torch.stack(squares).mean() - big) / (1 - inverse_size / len(seen))
        elif len(seen) > 1:
            noise = (gradients.square().sum(1).mean() - big) / (inverse_size * (1 - 1 / len(seen)))
        else:
            return  # one micro-batch alone says nothing
        self.noise.append(float(noise))
        self.signal.append(float(big - noise * inverse_size / len(seen)))

    def configure_optimizers(self):
        return type(self).optimizer([p for p in self.parameters() if p.requires_grad])


def loader(samples: int = 44, size: int = 8, seed: int = 0) -> DataLoader:
    """Batches of ``size`` and a smaller last one."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, 6, generator=generator)
    return DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0).long()), batch_size=size)


def fit(model, callbacks, *, data=None, seed=0, **settings):
    torch.manual_seed(seed)
    defaults = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(callbacks=callbacks, **(defaults | settings))
    trainer.fit(model, data or loader())
    return trainer
