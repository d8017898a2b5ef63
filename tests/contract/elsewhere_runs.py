"""Whole runs on two devices: callbacks whose history is compared, and models to watch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_foresight import metrics
from lightning_foresight.callbacks import (
    EICallback,
    ForesightCallback,
    GradientNoiseScaleCallback,
    InfoPlaneCallback,
    PIDCallback,
)
from lightning_foresight.history import History
from lightning_foresight.measure import measure_checkpoints, read_measurements
from tests.contract.cases import CALLBACKS, TinyModel, tiny_data


class Run(NamedTuple):
    """A callback to make anew for each run, and what it watches."""

    callback: Callable[[], ForesightCallback]
    model: type[TinyModel] = TinyModel
    options: tuple[tuple[str, Any], ...] = ()  # of the Trainer


class Saver(pl.Callback):
    """Saves a checkpoint in the middle of an epoch."""

    def __init__(self, path: str) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 3:
            trainer.save_checkpoint(self.path)


class Normed(TinyModel):
    """One with layers that `norm_layers` looks at, and an example to trace it with."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3))
        self.example_input_array = torch.linspace(-1, 1, 12).view(2, 6)


class Larger(Normed):
    """One whose batches are long enough for the curvature, and whose optimizer has a metric."""

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        return batch[0].repeat(2, 1), batch[1].repeat(2)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


class Odd(TinyModel):
    """One with layers that have to be asked, and convolutions."""

    def __init__(self) -> None:
        super().__init__()
        body = nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3), nn.Tanh(), nn.AvgPool1d(2), nn.Flatten()
        self.net = nn.Sequential(*body, nn.LayerNorm(4), nn.Softmax(dim=1), nn.Linear(4, 3))


class Correlation(metrics.DependenceMetric):
    """A measure of one's own, which gets labels one-hot."""

    def dependence(self, a: Tensor, b: Tensor) -> Tensor:
        return (a[:, 0] * b[:, 0]).mean()


class NumStates(metrics.JointTable):
    """One's own of a table."""

    def compute(self) -> Tensor:
        return torch.tensor(float(len(self.table().rows)), device=self.device)


def _noise(**options: Any) -> Callable[[], ForesightCallback]:
    return lambda: GradientNoiseScaleCallback(every_n_steps=1, **options)


def _plane(**options: Any) -> Callable[[], ForesightCallback]:
    return lambda: InfoPlaneCallback(num_samples=48, **options)


def _pid(**options: Any) -> Callable[[], ForesightCallback]:
    return lambda: PIDCallback(num_samples=48, **{"quantizer": 2, "sources": "random:2x1", **options})


def _of_the_host(batch: tuple[Tensor, Tensor]) -> Tensor:
    return (batch[0][:, 0].cpu() > 0).long()


def _ei(**options: Any) -> Callable[[], ForesightCallback]:
    return lambda: EICallback(in_bins=4, out_bins=4, **options)


EVERY, ODD = ("weights", "parts", "sensitivity", "vector"), ["net.1", "net.3", "net.5", "net.7"]
RUNS: dict[str, Run] = {
    **{name: Run(callback) for name, callback in CALLBACKS.items()},
    "gns by accumulation": Run(
        _noise(method="micro_batches", groups="layers"), options=(("accumulate_grad_batches", 2),)
    ),
    "gns of a window": Run(_noise(method="split", window=3), Normed),
    "gns per example": Run(_noise(method="per_example", decay=0.9), Normed),
    "gns of norm layers": Run(_noise(method="norm_layers"), Normed),
    "gns by curvature": Run(_noise(hessian=5), Larger),
    "gns with Adam": Run(_noise(method="split", preconditioner="adam"), Larger),
    "ei of all kinds": Run(_ei(measures=EVERY, num_samples=256, layers=ODD), Odd, (("precision", "64-true"),)),
    "ei of few pairs": Run(_ei(max_pairs=8, norm="soft", out_range="dynamic"), Normed),
    "info_plane by critics": Run(
        _plane(layers=["net.5"], estimator="infonce", options={"hidden": 4, "max_steps": 2}, targets=_of_the_host)
    ),
    "info_plane by a metric": Run(_plane(estimator=Correlation(), adjacent=True)),
    "info_plane between layers": Run(_plane(estimator="noisy", adjacent=True, layers=["net.5", "net.6"])),
    "pid of metrics": Run(_pid(layers=["net.5"], measure=[NumStates(), "invariants"], target="prediction")),
    "pid of groups": Run(_pid(layers=["net.6"], sources="groups:2", bootstrap=2, correction="miller_madow")),
    "pid of the input": Run(_pid(layers=["net.5"], measure="invariants", target="input", limits="data")),
    "pid of noise": Run(_pid(layers=["net.5"], target=_of_the_host, quantizer="noisy:2x0.3", measure="complexity")),
}
# Those that go on from a checkpoint.
RESUMED: dict[str, Run] = {
    "gns of a window": RUNS["gns of a window"],
    "gns by curvature": RUNS["gns by curvature"],
    "gns of norm layers": RUNS["gns of norm layers"],
    "info_plane by critics": RUNS["info_plane by critics"],
}


def measured_later(device: torch.device) -> History:
    """Measure a checkpoint when its run is over."""
    torch.manual_seed(0)
    state = {"state_dict": TinyModel().double().state_dict(), "global_step": 6, "epoch": 1}
    train, val = tiny_data()
    with TemporaryDirectory() as folder:
        path, output = Path(folder, "last.ckpt"), Path(folder, "later.csv")
        torch.save(state, path)
        callbacks = [CALLBACKS[name]() for name in ("ei", "info_plane_binned")]
        model = TinyModel()
        measure_checkpoints(
            model, path, callbacks, train_dataloader=train, val_dataloader=val, output=output, device=str(device)
        )
        assert model.device.type == device.type
        return read_measurements(output)
