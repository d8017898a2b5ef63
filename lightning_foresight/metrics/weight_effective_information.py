"""Effective information of a network's weights as a torchmetrics metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_foresight.functional._checks import check_base, check_choice
from lightning_foresight.functional._repr import ShowsArguments
from lightning_foresight.functional._trace import LayerCall
from lightning_foresight.functional.effective_information.norms import NORMS
from lightning_foresight.functional.effective_information.weights import (
    WeightEI,
    weight_effective_information,
    weight_ei,
)

PARTS = ("ei", "determinism", "degeneracy", "effectiveness")


class WeightEffectiveInformation(ShowsArguments, Metric):
    r"""Effective information of a network's weights, averaged over the updates since the last reset.

    .. math:: \text{ei} = H(\langle W^\text{out} \rangle) - \langle H(W^\text{out}) \rangle

    See :func:`~lightning_foresight.functional.weight_ei` for the formula and what the parts mean. No data are needed:
    update once for the weights as they are at that moment, or on every step for their mean over an epoch.

    Args:
        norm: How out-weights become distributions: ``"lin"``, ``"soft"`` or ``"sig"``.
        base: Base of the logarithm; 2 gives bits.
        per_layer: Also return every layer on its own.
        validate_args: Require finite weights on each update, which waits for the device. When off, NaN gives NaN.
        kwargs: Passed on to :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If ``norm`` is unknown or ``base`` is not above 1.

    Source:
        Klein & Hoel (2020), arXiv 1907.03902; torch-foresight.

    Example:
        >>> import torch
        >>> from lightning_foresight.metrics import WeightEffectiveInformation
        >>> model = torch.nn.Linear(4, 4)
        >>> _ = torch.nn.init.eye_(model.weight)
        >>> metric = WeightEffectiveInformation()
        >>> metric.update(model, torch.zeros(1, 4))
        >>> metric.compute()["ei"]
        tensor(2.)
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False
    sums: Tensor
    num_updates: Tensor

    def __init__(
        self,
        *,
        norm: str = "lin",
        base: float = 2,
        per_layer: bool = False,
        validate_args: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("WeightEffectiveInformation", "norm", norm, NORMS)
        check_base("WeightEffectiveInformation", base)
        self.norm = norm
        self.base = base
        self.per_layer = per_layer
        self.validate_args = validate_args
        self.layer_names: tuple[str, ...] = ()
        # One column for the network; the first update adds those of the layers. float64 for sums of many steps.
        self.add_state("sums", default=torch.zeros(len(PARTS), 1, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_updates", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, model: nn.Module | Sequence[LayerCall], example_input: Any = None) -> None:
        """Add the weights as they are now.

        Args:
            model: The network, or its layers as :func:`~lightning_foresight.functional.trace_weight_layers` lists them:
                on every step of a training run, pass the same list, which saves a forward pass.
            example_input: One batch as the model gets it, when ``model`` is a network.

        Raises:
            ValueError: If a network comes without an example input, or with other layers than before.
        """
        if isinstance(model, nn.Module):
            if example_input is None:
                raise ValueError(
                    "WeightEffectiveInformation.update(example_input=None): expected one batch as the model gets it, "
                    "or as the first argument the list that trace_weight_layers makes once."
                )
            result = weight_effective_information(model, example_input, norm=self.norm, base=self.base)
        else:
            result = weight_ei(model, norm=self.norm, base=self.base, validate=self.validate_args)
        columns = [result]
        if self.per_layer:
            self._check_layers(tuple(result.layers))
            columns += result.layers.values()
        self.sums = self.sums + _stack(columns).to(self.sums)
        self.num_updates = self.num_updates + 1

    def compute(self) -> dict[str, Tensor]:
        """Return the mean ``ei``, ``determinism``, ``degeneracy`` and ``effectiveness``; of layers as ``name/ei``."""
        means = (self.sums / self.num_updates).float()
        names = ("", *(f"{name}/" for name in self.layer_names)) if means.shape[1] > 1 else ("",)
        return {
            f"{name}{part}": means[row, column] for column, name in enumerate(names) for row, part in enumerate(PARTS)
        }

    def _check_layers(self, names: tuple[str, ...]) -> None:
        if self.sums.shape[1] > 1 and names != self.layer_names:
            raise ValueError(
                f"WeightEffectiveInformation.update: got the layers {', '.join(names)}; expected those of the updates "
                f"before, {', '.join(self.layer_names)}. Call reset() in between, or use a metric for each network."
            )
        self.layer_names = names


def _stack(columns: Sequence[WeightEI]) -> Tensor:
    return torch.stack([torch.stack([getattr(column, part) for column in columns]) for part in PARTS])
