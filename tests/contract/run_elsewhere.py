"""Measure on another device and on the CPU, and print what differs, one JSON object a line."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning.accelerators import Accelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor, nn

import lightning_foresight.functional as F
from tests.contract import elsewhere
from tests.contract.cases import CALLBACKS, assert_same_run, fit

MISTAKE = "a tensor made on the wrong device"


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


def compare(measure: Callable[..., Any], *inputs: Tensor) -> dict[str, Any]:
    """Return the largest difference between both devices, and whether all results lie where the inputs do."""
    expected = leaves(measure(*inputs))
    with elsewhere.OnTheDevice():
        found = leaves(measure(*(tensor.to(elsewhere.DEVICE) for tensor in inputs)))
    there = all(isinstance(leaf, elsewhere.Elsewhere) for leaf in found)
    pairs = [(first, getattr(second, "held", second)) for first, second in zip(expected, found, strict=True)]
    difference = max(float((a.double() - b.double()).abs().nan_to_num(0).max()) for a, b in pairs if a.numel())
    return {"there": there, "difference": difference, "results": len(found)}


def with_weights(measure: Callable[[nn.Linear], Any]) -> Callable[[Tensor, Tensor], Any]:
    def of(weight: Tensor, bias: Tensor) -> Any:
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight, layer.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
        return measure(layer)

    return of


def watched(name: str) -> dict[str, Any]:
    """Compare whole runs, watched on both devices and not watched."""
    here, there = CALLBACKS[name](), CALLBACKS[name]()
    fit(here, max_epochs=1)
    runs = []
    for callbacks in ([there], None):
        strategy = SingleDeviceStrategy(device=elsewhere.DEVICE, accelerator=ElsewhereAccelerator())
        with elsewhere.OnTheDevice():
            runs.append(fit(callbacks, max_epochs=1, accelerator="auto", strategy=strategy))
    assert_same_run(*runs)
    rows = list(zip(here.history, there.history, strict=True))
    assert all(first.key == second.key for first, second in rows)
    difference = max(abs(first.value - second.value) for first, second in rows)
    return {"there": True, "difference": difference, "results": len(rows), "failures": there.num_failures}


def cases() -> dict[str, Callable[[], dict[str, Any]]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 4, generator=generator)
    y = x[:, :2] + torch.randn(120, 2, generator=generator)
    labels, bits = (x[:, 0] > 0).long(), (x > 0).long()
    layer = torch.randn(6, 8, generator=generator) / 3, torch.randn(6, generator=generator) / 9
    small = layer[0][:3, :3].contiguous(), layer[1][:3].contiguous()
    coarse = {"in_range": (0, 1), "in_bins": 8, "out_bins": 8}
    few = {"num_samples": 512}
    found: dict[str, Callable[[], dict[str, Any]]] = {}

    def add(name: str, measure: Callable[..., Any], *inputs: Tensor) -> None:
        found[name] = lambda: compare(measure, *inputs)

    for estimator in ("auto", "binned", "ksg", "gaussian_copula", "renyi", "edge"):
        add(f"information by {estimator}", lambda a, b, e=estimator: F.mutual_information(a, b, estimator=e), x, y)
    for estimator in ("auto", "binned", "kde", "noisy"):
        add(f"plane by {estimator}", lambda a, b, e=estimator: F.plane_information(a, b, estimator=e), x, labels)
    for name in ("hsic", "nhsic", "cka", "distance_correlation"):
        add(name, getattr(F, name), x, y)
    for activation in (nn.Sigmoid(), nn.ReLU(), nn.GELU(), None):
        exact = with_weights(
            lambda linear, act=activation: (F.ei_parts(linear, act, **coarse), F.sensitivity(linear, act, **coarse))
        )
        add(f"exact EI with {activation}", exact, *layer)
    add("exact EI of few inputs", with_weights(lambda linear: F.ei_parts(linear, nn.Tanh(), **coarse)), *small)
    chosen = with_weights(lambda linear: F.causal_measures(linear, nn.Tanh(), max_pairs=20, **coarse))
    add("EI of chosen pairs", chosen, *layer)
    add("vector EI", with_weights(lambda linear: F.effective_information(linear, nn.Tanh(), **coarse, **few)), *small)
    between = with_weights(
        lambda linear: F.ei_between_groups(linear, [([0], [0, 1])], activation=nn.Tanh(), **coarse, **few)
    )
    add("EI between groups", between, *small)
    add("weights' EI", with_weights(lambda linear: F.weight_effective_information(linear, linear.weight[:1])), *layer)
    for name in ("sx_pid", "shannon_invariants", "representational_complexity", "o_information", "s_information"):
        add(name, lambda s, t, n=name: getattr(F, n)(F.joint_table(s, t)), bits[:, 1:], labels)
    add("broja_pid", lambda s, t: F.broja_pid(F.joint_table(s, t)), bits[:, :2], labels)
    for correction in ("none", "miller_madow", "grassberger", "chao_shen", "chao_wang_jost", "nsb", "jackknife"):
        add(f"entropy by {correction}", lambda c, by=correction: F.discrete_entropy(c, by), torch.tensor([3, 4, 5, 1]))
    found[MISTAKE] = lambda: compare(lambda a: a + torch.ones(120, 4), x)
    for name in CALLBACKS:
        found[f"run with {name}"] = lambda name=name: watched(name)
    return found


def main() -> None:
    elsewhere.set_up()
    for name, case in cases().items():
        elsewhere.waits.clear()
        try:
            outcome = case()
        except Exception:
            outcome = {"error": traceback.format_exc(limit=-6)}
        print(json.dumps({"case": name, **outcome, "waits": dict(elsewhere.waits)}), flush=True)


if __name__ == "__main__":
    main()
