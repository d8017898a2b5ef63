"""Cost and error of effective information from the weights.

Run on one core, with nothing else on the machine:

    OMP_NUM_THREADS=1 python benchmarks/weight_effective_information.py

Training steps and measurements alternate, so that a busy moment falls on both. On a CPU, times are processor time of
the process, which other load disturbs less than wall time; on one core the two agree when nothing else runs. Medians
and minima over all rounds are written to ``benchmarks/results/weight_effective_information.json``.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lightning_foresight.functional import (
    connectivity_matrix,
    entropy,
    lin_norm,
    trace_weight_layers,
    weight_effective_information,
    weight_ei,
)

NORMS = ("lin", "soft", "sig")
RESULTS = Path(__file__).parent / "results" / "weight_effective_information.json"


class Block(nn.Module):
    """Residual block of two 3x3 convolutions (He et al. 2016)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(out + self.shortcut(x))


def resnet18() -> nn.Sequential:
    """ResNet-18 for 32x32 images: a 3x3 stem without pooling, 11.2 million parameters."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    channels = 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(channels, width, stride), Block(width, width, 1)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def seconds(function: Callable[[], Any], device: torch.device) -> float:
    if device.type != "cuda":
        start = time.process_time()
        function()
        return time.process_time() - start
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    torch.cuda.synchronize(device)
    return time.perf_counter() - start


def summary(times: list[float]) -> dict[str, float]:
    return {"median_ms": 1e3 * statistics.median(times), "min_ms": 1e3 * min(times), "runs": len(times)}


def training_step_share(device: torch.device, rounds: int) -> dict[str, Any]:
    """Time of measuring a ResNet-18 against that of its training step, batch 128."""
    torch.manual_seed(0)
    model = resnet18().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images = torch.randn(128, 3, 32, 32, device=device)
    labels = torch.randint(10, (128,), device=device)
    calls = trace_weight_layers(model, lambda: model(images[:2]))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    times: dict[str, list[float]] = {"step": [], **{norm: [] for norm in NORMS}}
    step()
    for norm in NORMS:
        weight_ei(calls, norm=norm, validate=False)
    for _ in range(rounds):
        times["step"].append(seconds(step, device))
        for norm in NORMS:
            # The first call after a step finds the caches as a training run leaves them; nothing is averaged away.
            times[norm].append(seconds(lambda norm=norm: weight_ei(calls, norm=norm, validate=False), device))
    result: dict[str, Any] = {name: summary(values) for name, values in times.items()}
    for norm in NORMS:
        result[norm]["percent_of_step"] = 100 * result[norm]["median_ms"] / result["step"]["median_ms"]
    return result


def single_precision_error() -> dict[str, float]:
    """Largest difference of float32 from float64 over the parts and layers of a ResNet-18, in bits."""
    torch.manual_seed(0)
    single, example = resnet18(), torch.zeros(1, 3, 32, 32)
    double = copy.deepcopy(single).double()
    errors = {}
    for norm in NORMS:
        results = (
            weight_effective_information(single, example, norm=norm),
            weight_effective_information(double, example.double(), norm=norm),
        )
        flat = [[result, *result.layers.values()] for result in results]
        errors[norm] = max(
            abs(float(a) - float(b)) for x, y in zip(*flat, strict=True) for a, b in zip(x[:3], y[:3], strict=True)
        )
    return errors


def dense_lin_ei(conv: nn.Module, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> float:
    normalised = lin_norm(connectivity_matrix(conv, in_shape, out_shape))
    columns = normalised.sum(0)
    return float(entropy(columns / columns.sum()) - entropy(normalised).mean())


def single_layers() -> list[dict[str, Any]]:
    """One 3x3 convolution, padding 1, against the dense matrix where that fits."""
    rows = []
    for inputs, outputs, size in ((3, 8, 16), (3, 8, 32), (16, 16, 32), (64, 64, 32), (64, 64, 128)):
        torch.manual_seed(0)
        conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        in_shape, out_shape = (inputs, size, size), (outputs, size, size)
        calls = trace_weight_layers(conv, lambda conv=conv, s=in_shape: conv(torch.zeros(1, *s)))
        weight_ei(calls)
        device = torch.device("cpu")
        row: dict[str, Any] = {"conv": f"{inputs} -> {outputs} at {size}x{size}"}
        row["dense_matrix_gb"] = 4e-9 * inputs * outputs * size**4
        row["ours"] = summary([seconds(lambda c=calls: weight_ei(c, validate=False), device) for _ in range(30)])
        if row["dense_matrix_gb"] < 1:
            dense = [seconds(lambda c=conv, i=in_shape, o=out_shape: dense_lin_ei(c, i, o), device) for _ in range(3)]
            row["dense"] = summary(dense)
            row["times_faster"] = row["dense"]["min_ms"] / row["ours"]["min_ms"]
            row["difference_bits"] = abs(dense_lin_ei(conv, in_shape, out_shape) - float(weight_ei(calls).ei))
        rows.append(row)
    return rows


def machine(device: torch.device) -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    models = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return {
        "cpu": models[0].split(":")[1].strip() if models else platform.processor(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average_before": os.getloadavg()[0],
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--rounds", default=5, type=int, help="training steps")
    parser.add_argument("--output", default=RESULTS, type=Path)
    options = parser.parse_args()
    results = {
        "machine": machine(options.device),
        "resnet18_batch_128": training_step_share(options.device, options.rounds),
        "float32_error_bits": single_precision_error(),
        "single_layers_lin": single_layers(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
