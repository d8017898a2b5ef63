"""Measure on another device and on the CPU, and print what differs, one JSON object a line."""

from __future__ import annotations

import copy
import functools
import json
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.accelerators import Accelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor, nn

from lightning_foresight.history import History
from tests.contract import (
    elsewhere,
    elsewhere_effective_information,
    elsewhere_information,
    elsewhere_noise_scale,
    elsewhere_partial_information,
)
from tests.contract.cases import assert_same_run, fit
from tests.contract.elsewhere_runs import RESUMED, RUNS, Run, Saver, measured_later

# What a GPU refuses: devices are mixed, or there is no such operation.
MISTAKES = {
    "a tensor": lambda a: a + torch.ones(120, 4),
    "a number": lambda a: torch.stack([a.sum(), torch.tensor(1.0)]),
    "a generator": lambda a: torch.rand(2, generator=torch.Generator(), device=a.device),
    "an index": lambda a: torch.zeros(120)[a[:, 0].long()],
    "a product": lambda a: a.long().T @ a.long(),
    "a sum": lambda a: torch.zeros(()).add_(a.sum()),
}


class ElsewhereAccelerator(Accelerator):
    """What Lightning has to know of the device."""

    def setup_device(self, device: torch.device) -> None: ...

    def teardown(self) -> None: ...

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        return {}

    parse_devices = staticmethod(lambda devices: devices)
    get_parallel_devices = staticmethod(lambda devices: [elsewhere.DEVICE])
    auto_device_count = staticmethod(lambda: 1)
    is_available = staticmethod(lambda: True)
    name = staticmethod(lambda: elsewhere.KIND)


def leaves(found: Any) -> list[Tensor]:
    if isinstance(found, Tensor):
        return [found]
    if isinstance(found, dict):
        found = tuple(found.values())
    return [leaf for part in found for leaf in leaves(part)] if isinstance(found, (tuple, list)) else []


def differ(first: Tensor, second: Tensor) -> float:
    """Return the largest difference; what is NaN in one of both alone differs without limit."""
    first, second = first.double(), second.double()
    same = (first == second) | (first.isnan() & second.isnan())
    return float(torch.where(same, 0, (first - second).abs()).nan_to_num(nan=torch.inf).max())


def compare(measure: Callable[..., Any], *inputs: Tensor | nn.Module) -> dict[str, Any]:
    """Return the largest difference between both devices, and whether all results lie where the inputs do."""
    # Modules move in place, and metrics remember.
    expected = leaves(measure(*copy.deepcopy(inputs)))
    with elsewhere.OnTheDevice():
        found = leaves(measure(*(each.to(elsewhere.DEVICE) for each in copy.deepcopy(inputs))))
    there = all(isinstance(leaf, elsewhere.Elsewhere) for leaf in found)
    pairs = [(first, getattr(second, "held", second)) for first, second in zip(expected, found, strict=True)]
    differences = [differ(*pair) for pair in pairs if pair[0].numel()]
    return {"there": there, "difference": max(differences, default=0.0), "results": len(found)}


def fit_elsewhere(callbacks: Any, **options: Any) -> pl.Trainer:
    strategy = SingleDeviceStrategy(device=elsewhere.DEVICE, accelerator=ElsewhereAccelerator())
    with elsewhere.OnTheDevice():
        return fit(callbacks, accelerator="auto", strategy=strategy, **options)


@functools.cache
def unwatched(model: type[pl.LightningModule], *options: tuple[str, Any]) -> pl.Trainer:
    return fit_elsewhere(None, model=model, max_epochs=1, **dict(options))


def watched(run: Run) -> dict[str, Any]:
    """Compare whole runs, watched on both devices and not watched."""
    here, there = run.callback(), run.callback()
    fit(here, model=run.model, max_epochs=1, **dict(run.options))
    trainer = fit_elsewhere([there], model=run.model, max_epochs=1, **dict(run.options))
    assert_same_run(trainer, unwatched(run.model, *run.options))
    return compare_histories(here.history, there.history) | {"failures": there.num_failures}


def resumed(run: Run) -> dict[str, Any]:
    """Compare runs that go on from the middle of an epoch."""
    here, there = run.callback(), run.callback()
    with TemporaryDirectory() as folder:
        path = f"{folder}/last.ckpt"
        fit([run.callback(), Saver(path)], model=run.model, max_epochs=1, **dict(run.options))
        for train, callback in ((fit, here), (fit_elsewhere, there)):
            train([callback], model=run.model, max_epochs=2, ckpt_path=path, **dict(run.options))
    return compare_histories(here.history, there.history) | {"failures": there.num_failures}


def compare_histories(here: History, there: History) -> dict[str, Any]:
    rows = list(zip(here, there, strict=True))
    assert all(first.key == second.key for first, second in rows)
    values = (torch.tensor([row.value for row in history]) for history in (here, there))
    # Whoever reads what is there waits for it.
    return {"there": bool(elsewhere.waits), "difference": differ(*values), "results": len(rows)}


def checkpoints() -> dict[str, Any]:
    here = measured_later(torch.device("cpu"))
    with elsewhere.OnTheDevice():
        return compare_histories(here, measured_later(elsewhere.DEVICE))


def cases() -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    for name, mistake in MISTAKES.items():
        yield f"mistake: {name}", functools.partial(compare, mistake, torch.ones(120, 4))
    for subject in (
        elsewhere_information,
        elsewhere_effective_information,
        elsewhere_partial_information,
        elsewhere_noise_scale,
    ):
        for name, measure, *inputs in subject.cases():
            yield name, functools.partial(compare, measure, *inputs)
    for name, run in RUNS.items():
        yield f"run with {name}", functools.partial(watched, run)
    for name, run in RESUMED.items():
        yield f"run that resumes {name}", functools.partial(resumed, run)
    yield "checkpoints", checkpoints


def main(*only: str) -> None:
    elsewhere.set_up()
    warnings.simplefilter("ignore")
    for name, case in cases():
        if only and not any(part in name for part in only):
            continue
        elsewhere.waits.clear()
        try:
            outcome = case()
        except Exception:
            outcome = {"error": traceback.format_exc(limit=-6)}
        print(json.dumps({"case": name, **outcome, "waits": dict(elsewhere.waits)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
