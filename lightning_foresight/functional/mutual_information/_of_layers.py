"""The plane's two questions for those that answer them by another estimator's means."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.mutual_information.auto import check_auto
from lightning_foresight.functional.mutual_information.noisy import check_noisy, noisy_information
from lightning_foresight.functional.mutual_information.ross import ksg_label


def check_auto_of_layers(
    k: int = 3, seed: int = 0, noise_std: float | None = None, relative_noise: float = 0.05
) -> None:
    """Check the options of ``"auto"`` for a layer without data."""
    check_auto(k, seed)
    check_noisy(noise_std, relative_noise)


def auto_input(activations: Tensor, inputs: Tensor | None, k: int = 3, seed: int = 0, **options: Any) -> Estimate:
    """I(X;T) at declared noise: without a resolution it is infinite."""
    estimate = noisy_information(activations, seed=seed, **options)[0]
    return estimate._replace(method=f"auto: {estimate.method}")


def auto_label(activations: Tensor, labels: Tensor, k: int = 3, base: float = 2, **_: Any) -> Estimate:
    """I(T;Y) by nearest neighbours, whatever the noise: it is finite without."""
    estimate = ksg_label(activations, labels, k=k, base=base)
    return estimate._replace(method=f"auto: {estimate.method}")


def probe_input(activations: Tensor, inputs: Tensor | None, base: float = 2, seed: int = 0, **_: Any) -> Estimate:
    """I(X;T) beside a probe's I(T;Y): that of declared noise, since a probe has none; its options are the probe's."""
    estimate = noisy_information(activations, base=base, seed=seed)[0]
    return estimate._replace(method=f"beside a probe: {estimate.method}")
