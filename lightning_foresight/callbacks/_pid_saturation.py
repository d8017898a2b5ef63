"""Warning of samples that are too few for the states they are counted in."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor

from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.probes.layers import listing

# Of equally likely states the bias of counts is then 0.14 bits (Miller and Madow: 1 / (2 ln 2) over the samples a
# state), of unlike ones more.
_ENOUGH = 5


class SaturationWarning:
    """Warns once a run, of all layers whose values come from too few samples at the first measurement that has such.

    Args:
        owner: Name of the callback, for the text.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self._told = False
        self._found: list[str] = []
        self._number = 0

    def look(self, layer: str, values: Mapping[str, Estimate | Tensor]) -> None:
        """Take note of a layer with too few samples for each joint state of sources and target."""
        if self._told:
            return
        for key in ("saturation", "complexity_saturation"):
            found = values.get(key)
            if not isinstance(found, Estimate):
                continue
            number, saturation = int(found.num_samples), float(found.value)
            each = number ** (1 - saturation)  # as H(S,T) = saturation * log2(number)
            if each < _ENOUGH:
                self._number = number
                self._found.append(f"{layer} ({each:.1f}, {key} {saturation:.2f})")
                return

    def tell(self, target: Tensor) -> None:
        """Warn of what was noted, with what fits these samples.

        Args:
            target: The target of every sample.
        """
        if self._told or not self._found:
            return
        self._told = True
        num_values = len(target.unique())
        # Sources of two levels that leave enough samples a state, were all states equally likely.
        affordable = int(math.log2(max(1.0, self._number / (_ENOUGH * num_values))))
        fewer = "fewer levels (quantizer=2) and sources (sources='random:10x1')"
        if affordable:
            fewer = f"quantizer=2 with sources='random:10x{affordable}', which these samples allow"
        rank_zero_warn(
            f"{self.owner}: {self._number} samples are fewer than {_ENOUGH} for each joint state of sources and target "
            f"in {listing(self._found, most=5)}. Counting then finds information where there is none; how much, "
            f"mi_null shows. Take more samples (num_samples=), or {fewer}. This is said once; saturation is logged."
        )
