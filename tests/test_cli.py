from __future__ import annotations

import csv

import pytest
import pytorch_lightning as pl
import yaml

from lightning_foresight import LogCheckpoint
from lightning_foresight.schedule import Every
from tests.contract.cases import fit, tiny_data

pytest.importorskip("jsonargparse")
from lightning_foresight.cli import main


class TinyData(pl.LightningDataModule):
    def train_dataloader(self):
        return tiny_data()[0]

    def val_dataloader(self):
        return tiny_data()[1]


def test_checkpoints_are_measured_from_a_yaml_file(tmp_path, capsys):
    fit(LogCheckpoint(tmp_path / "checkpoints", schedule=Every(1)), max_epochs=2)
    config = {
        "model": {"class_path": "tests.contract.cases.TinyModel"},
        "data": {"class_path": "tests.test_cli.TinyData"},
        "callbacks": [
            {"class_path": "lightning_foresight.EICallback", "init_args": {"measures": ["weights"]}},
            {"class_path": "lightning_foresight.InfoPlaneCallback", "init_args": {"num_samples": 16}},
        ],
        "checkpoints": [str(tmp_path / "checkpoints" / "*.ckpt")],
        "output": str(tmp_path / "values.csv"),
    }
    (tmp_path / "measure.yaml").write_text(yaml.safe_dump(config))
    assert main(["measure", "--config", str(tmp_path / "measure.yaml")]) == 0
    assert "3 of 3 checkpoints measured" in capsys.readouterr().out
    with open(tmp_path / "values.csv") as file:
        lines = list(csv.DictReader(file))
    assert {float(line["epoch"]) for line in lines} == {0.0, 1.0, 2.0}
    assert {"ei/network", "info_plane/net.2/I_XT"} <= {line["key"] for line in lines}
    assert main(["measure", "--config", str(tmp_path / "measure.yaml")]) == 0
    assert "0 of 3 checkpoints measured" in capsys.readouterr().out


def test_a_pattern_that_matches_nothing_is_named(tmp_path, capsys):
    arguments = ["measure", "--model", "tests.contract.cases.TinyModel", "--data", "tests.test_cli.TinyData"]
    arguments += ["--callbacks", '[{"class_path": "lightning_foresight.EICallback"}]']
    arguments += ["--checkpoints", f'["{tmp_path}/*.ckpt"]', "--output", str(tmp_path / "x.csv")]
    assert main(arguments) == 1
    assert f"no file matches {tmp_path}/*.ckpt" in capsys.readouterr().err


class OnlyTrainingData(pl.LightningDataModule):
    def train_dataloader(self):
        return tiny_data()[0]


def test_without_validation_data_the_training_data_is_measured(tmp_path):
    fit(LogCheckpoint(tmp_path / "checkpoints", epochs=(1,)), max_epochs=1)
    arguments = ["measure", "--model", "tests.contract.cases.TinyModel", "--data", "tests.test_cli.OnlyTrainingData"]
    arguments += ["--callbacks", '[{"class_path": "lightning_foresight.InfoPlaneCallback"}]']
    arguments += ["--checkpoints", f'["{tmp_path}/checkpoints/*.ckpt"]', "--output", str(tmp_path / "x.csv")]
    assert main(arguments) == 0
    assert (tmp_path / "x.csv").exists()
