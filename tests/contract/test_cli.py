"""Callbacks can be configured from the command line and from YAML, in both Lightning packages."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

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


@pytest.mark.filterwarnings("ignore")
def test_the_file_in_the_documentation_makes_every_callback_and_runs(tmp_path, monkeypatch):
    pl = pytest.importorskip("pytorch_lightning")
    from pytorch_lightning.cli import LightningCLI

    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "callbacks.md").read_text()
    (text,) = re.findall(r"^```yaml\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    config = yaml.safe_load(text)
    config["trainer"] |= QUIET
    Path("config.yaml").write_text(yaml.safe_dump(config))
    trial = ["fit", "--config", "config.yaml", "--trainer.fast_dev_run", "2"]
    made = LightningCLI(tiny_model_of(pl), args=trial, save_config_callback=None)
    ours = {type(callback).__name__: callback for callback in made.trainer.callbacks}
    names = ["EICallback", "GradientNoiseScaleCallback", "InfoPlaneCallback", "PIDCallback", "LogCheckpoint"]
    assert [name for name in ours if name in names] == names
    assert all(ours[name].num_failures == 0 for name in names[:-1])
    assert ours["EICallback"].schedule.points[-1] == 100
    assert all(len(ours[name].history) > 0 for name in names[:-1])
