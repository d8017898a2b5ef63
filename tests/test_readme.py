"""Every code block of the README runs, in order, as a newcomer would paste them."""

from __future__ import annotations

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
