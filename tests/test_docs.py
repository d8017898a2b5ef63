"""Every code block of the documentation runs, page by page and in order, with what its reader has already."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_foresight import LogCheckpoint
from lightning_foresight.functional import nhsic
from tests.contract.cases import QUIET, TinyModel, fit, tiny_data

PAGES = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))


def _blocks(page: Path) -> list[str]:
    """Return the Python blocks, but those of a session at the prompt; one in a list is indented."""
    found = re.findall(r"^( *)```python\n(.*?)^ *```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    blocks = [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]
    return [block for block in blocks if not block.startswith(">>>")]


WITH_CODE = [page for page in PAGES if _blocks(page)]


def _readers_own() -> dict:
    """What a page takes for granted: a model with its data, and a step of a loop."""
    torch.manual_seed(0)
    train_loader, val_loader = tiny_data()
    network = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    inputs, targets = train_loader.dataset.tensors
    loss_fn = nn.functional.cross_entropy
    optimizer = torch.optim.Adam(network.parameters())
    loss_fn(network(inputs), targets).backward()
    optimizer.step()
    gradients = [
        torch.autograd.grad(loss_fn(network(inputs[i::4]), targets[i::4]), [*network.parameters()]) for i in range(4)
    ]
    return {
        "torch": torch, "nn": nn, "model": TinyModel(), "network": network, "loss_fn": loss_fn, "optimizer": optimizer,
        "loader": train_loader, "train_loader": train_loader, "val_loader": val_loader, "gradients": gradients,
        "inputs": inputs.repeat(8, 1), "targets": targets.repeat(8), "steps": [list(train_loader)[:4]] * 2,
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_every_python_block_runs(page, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    if page.stem == "checkpoints":
        fit(LogCheckpoint("runs/checkpoints", epochs=(1,)), max_epochs=1)
    fit_all = pl.Trainer.fit

    def fit_little(trainer, *args, **kwargs):
        trainer.fit_loop.max_epochs = 1  # whatever the page says
        fit_all(trainer, *args, **kwargs)

    monkeypatch.setattr(pl.Trainer, "fit", fit_little)
    own = _readers_own()
    namespace = {**own}
    for block in _blocks(page):
        namespace |= {name: own[name] for name in ("inputs", "targets")}  # a loop of the page may have taken the names
        exec(compile(block, page.name, "exec"), namespace)


def test_the_bottleneck_of_the_page_forgets_inputs_and_keeps_labels():
    (page,) = (page for page in WITH_CODE if page.stem == "mutual_information")
    block = next(block for block in _blocks(page) if "HSICBottleneck" in block)
    inputs = torch.randn(256, 6, generator=torch.Generator().manual_seed(0))
    targets = (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0).long()

    def objective(weight: str) -> float:
        namespace = {"torch": torch, "nn": nn, "nhsic": nhsic}
        torch.manual_seed(0)
        exec(compile(block.replace("loss + 0.1 *", f"loss + {weight} *"), page.name, "exec"), namespace)
        model = namespace["HSICBottleneck"]()
        pl.Trainer(**QUIET, max_epochs=10).fit(model, DataLoader(TensorDataset(inputs, targets), 64))
        with torch.no_grad():
            hidden = model.encoder(inputs)
            return float(nhsic(hidden, inputs, ridge=1e-3).value - 5 * nhsic(hidden, targets, ridge=1e-3).value)

    with_it, without = objective("0.1"), objective("0.0")
    assert with_it < without - 1
