"""Notice of an I(X;T) that is the number of samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_info

from lightning_foresight.functional.mutual_information import find_estimator
from lightning_foresight.metrics.dependence import DependenceMetric
from lightning_foresight.probes.layers import listing

SATURATED = 0.95
_LESS = "asks for less detail, and is another question"


class SaturationNotice:
    """Tells once which layers are saturated, and what can be done.

    Args:
        owner: Name of the callback, for the text.
        estimator: What it measures with.
        options: Options of that.
    """

    def __init__(self, owner: str, estimator: str | DependenceMetric, options: Mapping[str, Any]) -> None:
        self.owner = owner
        self._coarser = "" if isinstance(estimator, DependenceMetric) else _coarser(estimator, options)
        self._told = False

    def look(self, measured: Mapping[Any, Any], num_samples: int) -> None:
        """Say which of the measured layers are at the limit, unless it was said before."""
        found = {key.rpartition("/")[0]: value for key, value in measured.items() if key.endswith("/saturation")}
        layers = [] if self._told else [layer for layer, value in found.items() if float(value) > SATURATED]
        if not layers:
            return
        self._told = True
        rank_zero_info(
            f"{self.owner}: I(X;T) of {listing(layers)} is above {SATURATED:.0%} of log2 of the {num_samples} "
            "samples. At this resolution nearly each sample has activations of its own, and the value says how many "
            f"samples there are, nothing about the layer. More samples (num_samples=) raise the limit{self._coarser}."
        )


def _coarser(estimator: str, options: Mapping[str, Any]) -> str:
    """What makes the resolution coarser, in words."""
    if estimator == "binned":
        return "; wider bins ask for less detail"
    known = find_estimator("SaturationNotice", estimator, "input").options | dict(options)
    for name, power in (("noise_std", 1), ("noise_variance", 2)):
        if isinstance(known.get(name), int | float):
            more = f"options={{{name!r}: {10**power * known[name]:g}}}"
            return f"; ten times the noise ({more}), while that is less than the layer's own spread, {_LESS}"
    relative = known.get("relative_noise")
    if not isinstance(relative, int | float):
        return ""
    if relative >= 1:
        return "; a narrower layer (layers=, or reduce= to pool it) helps, too, as the noise is as large as the layer"
    return f"; more noise (options={{'relative_noise': {min(1, 10 * relative):g}}}) {_LESS}"
