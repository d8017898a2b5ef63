"""Gradients of parameters that are sharded over devices (FSDP2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lightning_foresight.functional._trace import clean_name
from lightning_foresight.probes.gradient_observer import GradientObserver
from lightning_foresight.probes.gradients import GradientNormProbe, GradientNorms, is_sharded


def unmeasurable_shards(model: nn.Module, parameters: Sequence[nn.Parameter]) -> list[str]:
    """Return the names of parameters whose gradient is not the average over all devices, in shards or whole ones."""
    from torch.distributed import get_world_size
    from torch.distributed.tensor import DTensor

    wanted = {id(parameter) for parameter in parameters}
    return [
        clean_name(name)
        for name, parameter in model.named_parameters()
        if id(parameter) in wanted
        and not (isinstance(parameter, DTensor) and math.prod(parameter.device_mesh.shape) == get_world_size())
    ]


class ShardedObserver(GradientObserver):
    """Sees this process's gradient of each micro-batch on the whole parameters that FSDP2 puts together for a pass.

    Outside of a pass the model holds shards, whose gradients are reduced over devices already. The whole parameter is
    there from the moment its layer is called, so that is when it is hooked; the hooks go after the backward pass.

    Args:
        model: A model that ``fully_shard`` was applied to.
        parameters: Its parameters to measure, as shards.
    """

    kind: ClassVar[str] = "micro_batches"

    def __init__(self, model: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        places = {id(parameter): index for index, parameter in enumerate(parameters)}
        self._owners = [
            (module, {name: places[id(p)] for name, p in module._parameters.items() if id(p) in places})
            for module in model.modules()
        ]
        self._owners = [(module, names) for module, names in self._owners if names]
        self._probe = GradientNormProbe(())  # the tensors to hook come and go
        self._handles: list[RemovableHandle] = []

    def before_forward(self, batch_size: int) -> None:
        """Wait for the layers to be called."""
        self.remove()
        for module, names in self._owners:
            self._handles.append(module.register_forward_pre_hook(self._watch(names)))

    def before_backward(self, loss: Tensor, batch_size: int, seed: int) -> None:
        """Listen to the coming backward pass."""
        self._probe.listening = True

    def collect(self) -> GradientNorms | None:
        """Return the norms of this micro-batch's gradients, and remove the hooks: the next pass has other tensors."""
        try:
            return self._probe.collect()
        finally:
            self.remove()

    def remove(self) -> None:
        """Remove the hooks and forget what was seen."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._probe.listening = False
        self._probe.remove()

    def _watch(self, names: dict[str, int]) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, args: Any) -> None:
            for name, index in names.items():
                whole = module._parameters[name]
                if whole is not None and not is_sharded(whole):
                    self._probe.attach_to(index, whole)

        return hook
