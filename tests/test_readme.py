"""Every code block of the README runs, in order, as a newcomer would paste them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.contract.cases import TinyModel, tiny_data

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.filterwarnings("ignore")
def test_every_python_block_runs(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    train_loader, val_loader = tiny_data()
    # What the reader has already: a model and loaders.
    namespace = {"model": TinyModel(), "train_loader": train_loader, "val_loader": val_loader}
    blocks = _blocks(README, "python")
    assert len(blocks) >= 5
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    assert (tmp_path / "information_plane.csv").stat().st_size > 0
    assert (tmp_path / "information_plane.png").stat().st_size > 0


def test_every_command_is_a_target_of_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    commands = re.findall(r"^make ([a-z]+)", "\n".join(_blocks(README, "bash")), flags=re.MULTILINE)
    assert commands == ["demo", "test"]
    assert set(re.findall(r"`make ([a-z]+)`", README)) <= targets


def test_every_picture_and_page_is_there():
    links = re.findall(r"\]\(((?!http)[^)]+)\)", README)
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing


def test_costs_are_those_that_were_measured():
    results = {path.stem: json.loads(path.read_text()) for path in (ROOT / "benchmarks" / "results").glob("*.json")}
    weights = results["weight_effective_information"]["resnet18_batch_128"]["lin"]
    layers = {row["layer"]: row["cpu_s"] for row in results["effective_information"]["growth"]}
    large = {
        row["layer"]: row["cpu_s"] for row in results["effective_information"]["large"] if row["max_pairs"] == 4096
    }
    noise = results["gradient_noise_scale"]["cost"]["results"]
    measured = {
        r"weights: ([\d.]+) ms": weights["median_ms"],
        r"ms, ([\d.]+)% of a step of ResNet-18": weights["percent_of_step"],
        r"([\d.]+) s \(64 -> 32\)": layers["64->32"],
        r"([\d.]+) s \(4096 -> 4096, from": large["4096->4096"],
        r"else ([\d.]+)% with a transformer": 100
        * (noise["transformer, split, observed step"]["at_the_default_period"] - 1),
        r"up to ([\d.]+)% where": 100 * (noise["mlp_17k, default on one device"]["ratio"] - 1),
        r"([\d.]+) s for 5 neurons": results["partial_information"]["headline"]["complexity_of_5_neurons"]["cpu_s"],
    }
    for pattern, value in measured.items():
        (said,) = re.findall(pattern, README)
        # Times of a shared machine differ by tens of per cent; a claim that is off by more is a stale one.
        assert 1 / 1.7 < float(said) / value < 1.7, f"{pattern}: README says {said}, measured {value:.3g}"
