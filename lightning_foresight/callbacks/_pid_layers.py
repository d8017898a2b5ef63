"""From the activations of one layer to its values: codes, sets of sources, measures and nulls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_foresight.callbacks._pid_codes import LayerStates, Limits, Quantizer, is_noisy
from lightning_foresight.callbacks._pid_measures import measure_layer, measure_nulls
from lightning_foresight.callbacks._pid_plans import plans_of
from lightning_foresight.callbacks._pid_sources import SourceRule
from lightning_foresight.functional._random import own_generator
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.metrics.joint_table import JointTable


class Recipe(NamedTuple):
    """How a layer is measured: the arguments of :class:`PIDCallback` of the same names."""

    owner: str
    measures: Sequence[str | JointTable]
    sources: SourceRule
    quantizer: Quantizer
    limits: Limits
    correction: str
    null: bool
    bootstrap: int
    seed: int

    def measure(
        self, layer: str, module: nn.Module, activation: Tensor, target: Tensor, shuffled: Tensor
    ) -> dict[str, Estimate | Tensor]:
        """Return the values of a layer by key.

        Args:
            layer: Its name.
            module: The layer.
            activation: ``(samples, neurons)``.
            target: Integer codes of the samples.
            shuffled: The same in another order, for the nulls.
        """
        target, shuffled = target.to(activation.device), shuffled.to(activation.device)
        generator = own_generator(activation.device, self.seed)
        states = LayerStates(activation, module, self.quantizer, self.limits, generator)
        noisy = is_noisy(self.quantizer)
        plans = plans_of(self.owner, self.measures, self.sources, layer, states.width, noisy, self.seed)
        values: dict[str, Estimate | Tensor] = {
            **measure_layer(states, target, plans, self.correction, self.bootstrap, generator, self.seed)
        }
        if all(plan.sets == plans[0].sets for plan in plans):
            values.pop("complexity_saturation", None)
        if self.null:
            values |= measure_nulls(states, shuffled, plans, self.correction, of=values, seed=self.seed)
        return values

    def attempt(self, layer: str, module: nn.Module, activation: Tensor, target: Tensor) -> None:
        """Measure samples, so that what every measurement would fail on shows before training.

        Args:
            layer: Its name.
            module: The layer.
            activation: ``(samples, neurons)``, of a few samples.
            target: Codes of all samples, of which all values are tried: the size of a table depends on them.

        Raises:
            ValueError: If that fails.
        """
        values = target.unique()
        codes = values[torch.arange(len(activation), device=values.device) % len(values)]
        try:
            self._replace(bootstrap=min(self.bootstrap, 2)).measure(layer, module, activation, codes, codes)
        except Exception as error:
            if str(error).startswith(self.owner):
                raise
            raise ValueError(
                f"{self.owner}: layer {layer!r} cannot be measured ({type(error).__name__}: {error}). Found before "
                "training; change what it names, or leave the layer out of layers=."
            ) from error
