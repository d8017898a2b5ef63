"""Norms of the gradients of single examples, seen in the run's own forward and backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lightning_foresight.functional._trace import clean_name
from lightning_foresight.functional.gradient_noise.ghost import BATCH_NORMS, SUPPORTED, Uses, record_uses
from lightning_foresight.functional.gradient_noise.ghost_pass import count_uses
from lightning_foresight.probes.gradient_observer import GradientObserver
from lightning_foresight.probes.gradients import GradientNorms, in_private_pass


class PerExampleObserver(GradientObserver):
    """Module hooks that turn layer inputs and output gradients into per-example norms during the run's own step.

    Args:
        model: The model.
        parameters: The parameters to measure.

    Raises:
        ValueError: At a forward pass, if BatchNorm or an embedding's ``scale_grad_by_freq`` couples the examples.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lightning_foresight.probes.gradient_examples import PerExampleObserver
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> observer = PerExampleObserver(layer, [layer.weight])
        >>> observer.before_forward(batch_size=2)
        >>> loss = layer(torch.tensor([[1.0], [7.0]])).mean()
        >>> observer.before_backward(loss, batch_size=2, seed=0)
        >>> loss.backward()
        >>> observer.collect()  # root of (1 + 49) / 2
        GradientNorms(indices=(0,), norms=tensor([5.]))
    """

    kind: ClassVar[str] = "per_example"

    def __init__(self, model: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        self.model = model
        self.parameters = parameters
        self._batch_size = 0
        self._time_first = [name for name, module in model.named_modules() if has_time_first(module)]
        self._listening = False  # passes that are not the run's own backward pass do not count
        self._uses: dict[int, Uses] = {}
        self._expected: dict[int, int] = {}
        self._error: Exception | None = None
        self._handles: list[RemovableHandle] = []
        self._holders: list[tuple[str, nn.Module, list[nn.Parameter]]] = []

    def before_forward(self, batch_size: int) -> None:
        """Hook the layers that outer products can measure."""
        self._forget()
        self._batch_size = batch_size
        if not self._holders:  # a walk through all modules: at steps in a row the hooks of the first one stay
            self._attach()
        for name, module, parameters in self._holders:
            couples = isinstance(module, BATCH_NORMS) and module.training
            scaled = getattr(module, "scale_grad_by_freq", False)
            if not (couples or scaled) or not any(parameter.requires_grad for parameter in parameters):
                continue
            self.remove()
            if couples:
                raise ValueError(
                    f"per_example: {type(module).__name__} {clean_name(name)!r} is in training mode and couples the "
                    'examples of a batch. Use method="split", or GroupNorm in its place.'
                )
            raise ValueError(
                f"per_example: {type(module).__name__} {clean_name(name)!r} has scale_grad_by_freq=True, which "
                "divides an example's gradient by how often its entries occur in the whole batch. Pass "
                "scale_grad_by_freq=False, or leave this layer out with layers=."
            )

    def _attach(self) -> None:
        """Hook the layers whose parameters are measured, or would be if they required gradients."""
        measured = {id(parameter) for parameter in self.parameters}
        for name, module in self.model.named_modules():
            members = [p for p in module._parameters.values() if p is not None and id(p) in measured]
            if members:
                self._holders.append((name, module, members))
                if type(module) in SUPPORTED:
                    self._handles.append(module.register_forward_hook(self._watch))

    def before_backward(self, loss: Tensor, batch_size: int, seed: int) -> None:
        """Look through the graph of the loss for uses of parameters that no hook sees."""
        self._expected = dict(count_uses(loss))
        self._listening = True

    def collect(self) -> GradientNorms | None:
        """Return the root mean square over examples of each parameter's gradient norm.

        Raises:
            ValueError: If a parameter got a gradient through something else than a supported layer's call.
        """
        uses, expected, error = self._uses, self._expected, self._error
        self._forget()  # the hooks stay: another loss of the same batch may follow
        if error is not None:
            raise error
        missed = [
            parameter
            for parameter in self.parameters
            if expected.get(id(parameter), 0) != (uses[id(parameter)].count if id(parameter) in uses else 0)
        ]
        if missed:
            self.remove()  # a module may be new: look for it before the next pass
            raise ValueError(
                f"per_example: no outer products for {self._name(missed)}. Measured are calls of "
                f"{', '.join(kind.__name__ for kind in SUPPORTED)}, neither compiled nor checkpointed with "
                "use_reentrant=True, with the batch on the first axis. Leave these out with layers=, or use "
                'method="split".'
            )
        found = [index for index, parameter in enumerate(self.parameters) if id(parameter) in uses]
        if not found:
            return None
        # The loss is a mean: each example's share of the gradient is 1 / batch of its own gradient.
        totals = torch.stack([uses[id(self.parameters[index])].sq_norms() for index in found])
        return GradientNorms(tuple(found), (totals * self._batch_size).sqrt())

    def remove(self) -> None:
        """Remove the hooks and forget what was seen."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._holders = [], []
        self._forget()

    def _forget(self) -> None:
        self._uses, self._expected, self._error = {}, {}, None
        self._listening = False

    def _watch(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not args or not isinstance(output, Tensor) or not output.requires_grad:
            return
        if len(args[0]) == self._batch_size:
            if self._time_first and _has_two_batch_axes(module, args[0]):
                self._error = self._error or ValueError(
                    f"per_example: both first axes of {tuple(args[0].shape)} are as long as the batch, and "
                    f"{clean_name(self._time_first[0])} has batch_first=False, so it cannot be told which axis counts "
                    'examples. Use sequences of another length, batch_first=True, or method="micro_batches" with '
                    "accumulate_grad_batches."
                )
            output.register_hook(self._record(module, args[0].detach()))

    def _record(self, module: nn.Module, x: Tensor) -> Callable[[Tensor], None]:
        def see(d: Tensor) -> None:
            if not self._listening or in_private_pass():
                return
            # An error raised here would end the user's backward pass: it waits for `collect`.
            try:
                # Entering a context that changes nothing would cost as much as measuring a small layer.
                mixed = torch.is_autocast_enabled(d.device.type)
                with torch.no_grad(), torch.autocast(d.device.type, enabled=False) if mixed else nullcontext():
                    record_uses(module, _wide(x), _wide(d), self._uses, total=True)
                    for parameter in module._parameters.values():
                        use = self._uses.get(id(parameter))
                        if use is not None and use.count == self._expected.get(id(parameter)):
                            use.settle()  # while its tensors are in the caches, and so that they can be freed
            except RuntimeError as error:
                self._error = error

        return see

    def _name(self, missed: Sequence[nn.Parameter]) -> str:
        wanted = {id(parameter) for parameter in missed}
        names = [clean_name(name) for name, parameter in self.model.named_parameters() if id(parameter) in wanted]
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        return ", ".join(names[:8]) + more


def has_time_first(module: nn.Module) -> bool:
    """Say whether a module, such as ``nn.LSTM``, takes time on the first axis."""
    return getattr(module, "batch_first", True) is False


def _has_two_batch_axes(module: nn.Module, x: Tensor) -> bool:
    axes = 2 if isinstance(module, nn.Embedding) else 3  # with the features
    return x.ndim >= axes and x.shape[0] == x.shape[1]


def _wide(value: Tensor) -> Tensor:
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
