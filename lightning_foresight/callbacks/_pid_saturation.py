"""Warning of samples that are too few for the states they are counted in."""

from __future__ import annotations

from collections.abc import Mapping

from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor

from lightning_foresight.functional.estimate import Estimate

# Of equally likely states the bias of counts is then 0.14 bits (Miller and Madow: 1 / (2 ln 2) over the samples a
# state), of unlike ones more.
_ENOUGH = 5


class SaturationWarning:
    """Warns once for each layer.

    Args:
        owner: Name of the callback, for the text.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self._told: set[str] = set()

    def look(self, layer: str, values: Mapping[str, Estimate | Tensor]) -> None:
        """Warn if a layer's values come from too few samples for each joint state of sources and target."""
        for key in ("saturation", "complexity_saturation"):
            found = values.get(key)
            if not isinstance(found, Estimate) or layer in self._told:
                continue
            number, saturation = int(found.num_samples), float(found.value)
            each = number ** (1 - saturation)  # as H(S,T) = saturation * log2(number)
            if each >= _ENOUGH:
                continue
            self._told.add(layer)
            rank_zero_warn(
                f"{self.owner}: layer {layer!r} has {key} {saturation:.2f}: {number} samples are "
                f"{each:.1f} for each joint state of its sources and the target. With fewer than {_ENOUGH}, counting "
                "finds information where there is none; how much, mi_null shows. Take more samples (num_samples=), "
                "fewer levels (quantizer=), or fewer sources (sources='random:10x3')."
            )
