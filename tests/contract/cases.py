"""The callbacks and models that every contract test runs over."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_foresight.callbacks import (
    EICallback,
    ForesightCallback,
    GradientNoiseScaleCallback,
    InfoPlaneCallback,
    PIDCallback,
)

NUM_SAMPLES = 48
BATCH = 8

# A Trainer that writes nothing and says little.
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}

# Name -> a fresh instance; keyword arguments reach the constructor.
CALLBACKS = {
    "ei": lambda **kwargs: EICallback(in_bins=8, out_bins=8, **kwargs),
    "gns": lambda **kwargs: GradientNoiseScaleCallback(**kwargs),
    "info_plane": lambda **kwargs: InfoPlaneCallback(num_samples=32, **kwargs),
    "info_plane_binned": lambda **kwargs: InfoPlaneCallback(num_samples=32, estimator="binned", **kwargs),
    "info_plane_kde": lambda **kwargs: InfoPlaneCallback(num_samples=32, estimator="kde", **kwargs),
    # One bit a source and 48 samples: fewer would be saturated, and say so.
    "pid": lambda **kwargs: PIDCallback(num_samples=48, quantizer=2, sources="random:2x1", **kwargs),
}


class TinyModel(pl.LightningModule):
    """An MLP with BatchNorm and dropout: whatever disturbs modes, buffers or random state shows in its weights."""

    def __init__(self, features: int = 6, classes: int = 3) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(features, 8),
            nn.BatchNorm1d(8),
            nn.Tanh(),
            nn.Dropout(0.3),
            nn.Linear(8, 5),
            nn.ReLU(),
            nn.Linear(5, classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def tiny_model_of(lightning) -> type:
    """Return the tiny model's layers in a LightningModule of the other package, with its data."""

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = TinyModel().net

        forward = TinyModel.forward
        configure_optimizers = TinyModel.configure_optimizers

        def training_step(self, batch, batch_idx):
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def train_dataloader(self):
            return tiny_data()[0]

        def val_dataloader(self):
            return tiny_data()[1]

        def validation_step(self, batch, batch_idx):
            pass

    return Model


def tiny_data(shuffle: bool = True) -> tuple[DataLoader, DataLoader]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(NUM_SAMPLES, 6, generator=generator)
    targets = (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0).long()
    dataset = TensorDataset(inputs, targets)
    # Noise on the inputs from the global generator: a disturbed generator changes the data, too.
    return DataLoader(dataset, batch_size=BATCH, shuffle=shuffle), DataLoader(dataset, batch_size=BATCH)


def fit(
    callbacks: ForesightCallback | list | None = None,
    *,
    model: nn.Module | type | None = None,
    ckpt_path=None,
    **trainer_kwargs,
) -> pl.Trainer:
    """Train the tiny model with everything seeded; the unwatched twin of a run is the same call without callbacks."""
    torch.manual_seed(0)
    if model is None or isinstance(model, type):
        model = (model or TinyModel)()
    torch.manual_seed(1)
    defaults = {"max_epochs": 2, "num_sanity_val_steps": 0}
    trainer = pl.Trainer(callbacks=callbacks, **(QUIET | defaults | trainer_kwargs))
    trainer.fit(model, *tiny_data(), ckpt_path=ckpt_path)
    return trainer


def state_of(trainer: pl.Trainer) -> dict[str, torch.Tensor]:
    """Return everything that two equal runs share: weights, buffers, optimizer state and the global generator."""
    state = {f"model.{key}": value for key, value in trainer.model.state_dict().items()}
    for index, optimizer in enumerate(trainer.optimizers):
        for number, slots in optimizer.state_dict()["state"].items():
            state |= {f"optimizer{index}.{number}.{k}": v for k, v in slots.items() if isinstance(v, torch.Tensor)}
    state["generator"] = torch.get_rng_state()
    return state


def assert_same_run(first: pl.Trainer, second: pl.Trainer) -> None:
    a, b = state_of(first), state_of(second)
    assert a.keys() == b.keys()
    different = [key for key in a if not torch.equal(a[key], b[key])]
    assert not different, f"watching changed {different}"
