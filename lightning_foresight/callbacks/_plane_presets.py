"""Settings of published information planes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning_foresight.metrics.dependence import DependenceMetric
from lightning_foresight.metrics.hsic import HSIC

Settings = tuple[str | DependenceMetric, dict[str, Any]]

PRESETS: dict[str, Callable[[], Settings]] = {
    # Shwartz-Ziv & Tishby 2017 (arXiv 1703.00810), the IDNNs code: 30 edges evenly from -1 to 1, for tanh units.
    "shwartz-ziv-2017": lambda: ("binned", {"edges": [-1 + 2 * i / 29 for i in range(30)]}),
    # Saxe et al. 2018 (ICLR), the ibsgd code: noise of variance 1e-3 on every unit, the upper bound.
    "saxe-2018": lambda: ("kde", {"noise_variance": 1e-3, "bound": "upper"}),
    # Goldfeld et al. 2019 (arXiv 1810.05728): Monte Carlo over the mixture; the same noise, to compare with the bounds.
    "goldfeld-2019": lambda: ("noisy", {"noise_std": 1e-3**0.5}),
    # PyGlow: biased HSIC with Gaussian kernels, whose width it leaves to the user, of a batch at a time.
    "pyglow": lambda: (HSIC(kernel="gaussian", bandwidth="median", unbiased=False), {}),
}
