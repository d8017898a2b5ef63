"""Callbacks can be configured from the command line and from YAML, in both Lightning packages."""

from __future__ import annotations

import importlib

import pytest
import torch
import yaml

from tests.contract.cases import TinyModel, tiny_data

pytest.importorskip("jsonargparse")

CONFIG = {
    "trainer": {
        "max_epochs": 1,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [
            {
                "class_path": "lightning_foresight.EICallback",
                "init_args": {"measures": ["weights"], "norm": "soft", "layers": ["net.*"], "every_n_steps": 2},
            },
            {
                "class_path": "lightning_foresight.InfoPlaneCallback",
                "init_args": {
                    "estimator": "kde",
                    "options": {"noise_variance": 0.1},
                    "schedule": {
                        "class_path": "lightning_foresight.LogSchedule",
                        "init_args": {"max_epochs": 5, "num": 3},
                    },
                },
            },
            {
                "class_path": "lightning_foresight.InfoPlaneCallback",
                "init_args": {
                    "estimator": {"class_path": "tests.metrics.dependence_two_processes.DistanceCorrelation"},
                    "prefix": "own",
                },
            },
            {
                "class_path": "lightning_foresight.GradientNoiseScaleCallback",
                "init_args": {"decay": 0.9, "every_n_steps": 1},
            },
        ],
    },
}


@pytest.mark.parametrize("package", ["pytorch_lightning", "lightning.pytorch"])
def test_a_yaml_file_makes_the_callbacks(package, tmp_path):
    pl = pytest.importorskip(package)
    cli = importlib.import_module(f"{package}.cli")

    class Model(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = TinyModel().net

        forward = TinyModel.forward
        configure_optimizers = TinyModel.configure_optimizers

        def training_step(self, batch, batch_idx):
            return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

        def train_dataloader(self):
            return tiny_data()[0]

        def val_dataloader(self):
            return tiny_data()[1]

        def validation_step(self, batch, batch_idx):
            pass

    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    made = cli.LightningCLI(Model, args=["fit", "--config", str(tmp_path / "config.yaml")], save_config_callback=None)
    ours = [
        callback for callback in made.trainer.callbacks if type(callback).__module__.startswith("lightning_foresight")
    ]
    assert [type(callback).__name__ for callback in ours] == [
        "EICallback",
        "InfoPlaneCallback",
        "InfoPlaneCallback",
        "GradientNoiseScaleCallback",
    ]
    assert all(len(callback.history) > 0 for callback in ours)
    assert ours[0].norm == "soft"
    assert ours[1].schedule.points == (1, 2, 5)
    assert type(ours[2].estimator).__name__ == "DistanceCorrelation"
