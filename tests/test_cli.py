from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

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
    assert capsys.readouterr().out.endswith("values.csv: 3 of 3 checkpoints measured\n")
    with open(tmp_path / "values.csv") as file:
        lines = list(csv.DictReader(file))
    assert {float(line["epoch"]) for line in lines} == {0.0, 1.0, 2.0}
    assert {"ei/network", "info_plane/net.2/I_XT"} <= {line["key"] for line in lines}
    assert main(["measure", "--config", str(tmp_path / "measure.yaml")]) == 0
    assert capsys.readouterr().out.endswith("values.csv: 0 of 3 checkpoints measured, all were there already\n")
    fit(LogCheckpoint(tmp_path / "checkpoints", schedule=Every(1)), max_epochs=3)
    assert main(["measure", "--config", str(tmp_path / "measure.yaml")]) == 0
    told = capsys.readouterr().out
    assert told.endswith("values.csv: 1 of 4 checkpoints measured, the others were there already\n")


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


def _arguments(folder, callback, *more):
    arguments = ["measure", "--model", "tests.contract.cases.TinyModel", "--data", "tests.test_cli.TinyData"]
    arguments += ["--callbacks", f'[{{"class_path": "lightning_foresight.{callback}"}}]', *more]
    return [*arguments, "--checkpoints", f'["{folder}/checkpoints/*.ckpt"]', "--output", str(folder / "x.csv")]


@pytest.mark.parametrize(
    ("callback", "more", "text"),
    [
        ("EICallback", ["--model.init_args.features", "7"], "measure_checkpoints(model=TinyModel): the weights of"),
        ("GradientNoiseScaleCallback", [], "GradientNoiseScaleCallback'): it needs gradients of a run"),
        ("EICallback", ["--callbacks.init_args.num_samples", "-1"], "EICallback(num_samples=-1)"),
        ("EICallback", ["--callbacks.init_args.layers", "fc9"], "EICallback(layers=['fc9'])"),
    ],
    ids=["other model", "needs a run", "argument", "layer"],
)
def test_a_mistake_is_told_in_a_line(callback, more, text, tmp_path, capsys):
    fit(LogCheckpoint(tmp_path / "checkpoints", epochs=(1,)), max_epochs=1)
    assert main(_arguments(tmp_path, callback, *more)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("foresight measure: ")
    assert text in line


def test_an_error_of_the_users_own_code_keeps_its_traceback(tmp_path, monkeypatch):
    fit(LogCheckpoint(tmp_path / "checkpoints", epochs=(1,)), max_epochs=1)
    monkeypatch.setattr(TinyData, "setup", lambda self, stage: int("no number"))
    with pytest.raises(ValueError, match="no number"):
        main(_arguments(tmp_path, "EICallback"))


def test_help_names_classes_and_what_is_required(capsys):
    with pytest.raises(SystemExit):
        main(["measure", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "<class" not in text
    assert "The model, made as for the run. (required" in text
    assert "any but GradientNoiseScaleCallback" in text


def test_the_installed_command_finds_a_project_in_the_working_directory(tmp_path):
    command = shutil.which("foresight", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("the package is not installed")
    fit(LogCheckpoint(tmp_path / "checkpoints", epochs=(1,)), max_epochs=1)
    (tmp_path / "my_project.py").write_text(
        "from tests.contract.cases import TinyModel\nfrom tests.test_cli import TinyData\n"
        "class Model(TinyModel): pass\nclass Data(TinyData): pass\n"
    )
    config = {
        "model": {"class_path": "my_project.Model"},
        "data": {"class_path": "my_project.Data"},
        "callbacks": [{"class_path": "lightning_foresight.EICallback", "init_args": {"measures": ["weights"]}}],
        "checkpoints": ["checkpoints/*.ckpt"],
        "output": "values.csv",
    }
    (tmp_path / "measure.yaml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [command, "measure", "--config", "measure.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "2 of 2 checkpoints measured" in done.stdout
    assert "deprecated" not in done.stderr
