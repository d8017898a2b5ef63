"""Callbacks can be configured from the command line and from YAML, in both Lightning packages."""

from __future__ import annotations

import importlib

import pytest
import yaml

from tests.contract.cases import QUIET, tiny_model_of

pytest.importorskip("jsonargparse")

CONFIG = {
    "trainer": {
        **QUIET,
        "max_epochs": 1,
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

    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    made = cli.LightningCLI(
        tiny_model_of(pl), args=["fit", "--config", str(tmp_path / "config.yaml")], save_config_callback=None
    )
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
