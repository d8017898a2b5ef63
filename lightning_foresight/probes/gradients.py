"""Norms of parameters' gradients, seen while a backward pass produces them; no gradient is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lightning_foresight.functional.gradient_noise.preconditioner import preconditioned_sq_norm

Metric = Callable[[int], "Tensor | None"]

# Hooks may run in threads of autograd's own, so this is one state for all of them.
_private_passes = 0


@contextmanager
def private_pass() -> Iterator[None]:
    """Let a measurement pass through the graph of the run; whoever listens to the run's own pass is deaf meanwhile."""
    global _private_passes
    _private_passes += 1
    try:
        yield
    finally:
        _private_passes -= 1


def in_private_pass() -> bool:
    """Whether the gradients that come by are those of a measurement."""
    return _private_passes > 0


class GradientNorms(NamedTuple):
    """Norms of the gradients of one backward pass.

    Attributes:
        indices: Which parameters received a gradient, by position.
        norms: Norms of those gradients, shape (len(indices),).
    """

    indices: tuple[int, ...]
    norms: Tensor


class GradientNormProbe:
    """Hooks that see this process's own gradient of each backward pass, before any reduction over devices.

    Under gradient accumulation ``param.grad`` is a sum over micro-batches, and under data parallelism an average over
    ranks; the hook of a parameter is the one place that sees the gradient of a single micro-batch.

    Args:
        parameters: The parameters to watch; those that require no gradient yet are taken up by a later ``attach``.
        discard: Replace every gradient by a zero after measuring it: for a private pass, whose gradients nobody wants.
        metric: Gives the diagonal metric of the norm by position of the parameter; what it gives ``None`` for is not
            measured.

    Attributes:
        listening: Whether gradients that come by are measured.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lightning_foresight.probes.gradients import GradientNormProbe
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> probe = GradientNormProbe(layer.parameters())
        >>> probe.attach()
        >>> probe.listening = True
        >>> layer(torch.tensor([[3.0, 4.0]])).sum().backward()
        >>> probe.collect()
        GradientNorms(indices=(0,), norms=tensor([5.]))
        >>> probe.remove()
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, discard: bool = False, metric: Metric | None = None
    ) -> None:
        self.parameters = list(parameters)
        self.discard = discard
        self.metric = metric
        self.listening = False
        self._indices: list[int] = []
        self._norms: list[Tensor] = []
        self._zeros: dict[tuple[torch.dtype, torch.device], Tensor] = {}
        self._error: Exception | None = None
        self._handles: dict[int, RemovableHandle] = {}
        self._hooked: list[Tensor] = []

    def attach(self) -> None:
        """Hook every parameter that requires a gradient and has no hook yet."""
        if len(self._handles) == len(self.parameters):  # before most passes
            return
        for index, parameter in enumerate(self.parameters):
            self.attach_to(index, parameter)

    def attach_to(self, index: int, tensor: Tensor) -> None:
        """Hook the tensor that stands for a parameter in the coming pass, unless the parameter has a hook."""
        if tensor.requires_grad and index not in self._handles:
            self._hooked.append(tensor)
            self._handles[index] = tensor.register_hook(self._hook(index))

    def remove(self) -> None:
        """Remove all hooks and forget what was seen."""
        for handle in self._handles.values():
            handle.remove()
        # An empty table, whoever made it, hands every later gradient to Python, for nobody.
        for tensor in self._hooked:
            if not tensor._backward_hooks:
                tensor._backward_hooks = None
        self._handles.clear()
        self._hooked.clear()
        self._forget()

    def _forget(self) -> None:
        self._indices, self._norms = [], []

    def collect(self) -> GradientNorms | None:
        """Return what was seen since the last call; ``None`` if no gradient came by.

        Raises:
            RuntimeError: If a gradient could not be measured.
            ValueError: If an optimizer has no metric.
        """
        if self._error is not None:
            error, self._error = self._error, None
            self._forget()
            raise error
        indices, norms = self._indices, self._norms
        self._forget()
        return GradientNorms(tuple(indices), torch.stack(norms)) if norms else None

    def _hook(self, index: int) -> Callable[[Tensor], Tensor | None]:
        def see(gradient: Tensor) -> Tensor | None:
            if not self.listening or (in_private_pass() and not self.discard):
                return None
            # An error raised here would end the user's backward pass: it waits for `collect`.
            try:
                self._measure(index, gradient)
            except (RuntimeError, ValueError) as error:
                self._error = error
            # autograd.grad would hold every gradient until the pass is over; a zero without storage holds nothing.
            return self._zero(gradient) if self.discard and _is_whole(gradient) else None

        return see

    def _measure(self, index: int, gradient: Tensor) -> None:
        # At once: a reference that outlived the hook would make autograd copy the gradient where it now takes it over,
        # and what it points to may be overwritten, by a later hook or a function that reuses its buffer.
        norm = norm_in_metric(gradient, index, self.metric)
        if norm is not None:
            self._norms.append(norm)
            self._indices.append(index)

    def _zero(self, gradient: Tensor) -> Tensor:
        kind = gradient.dtype, gradient.device
        if kind not in self._zeros:
            self._zeros[kind] = gradient.new_zeros(())
        return self._zeros[kind].expand_as(gradient)


def is_sharded(tensor: Tensor) -> bool:
    """Whether each device holds only its part of a tensor (a ``DTensor``, as under FSDP2)."""
    return hasattr(tensor, "placements")


def _is_whole(gradient: Tensor) -> bool:
    """Whether an expanded zero can stand for the gradient: no ``DTensor``, another subclass, or a sparse one."""
    return type(gradient) is Tensor and gradient.layout is torch.strided


def _is_plain(gradient: Tensor) -> bool:
    """Whether the norm takes no care of its own: dense, whole, and precise enough."""
    wide = gradient.dtype in (torch.float32, torch.float64)
    return wide and gradient.layout is torch.strided and not is_sharded(gradient)


def gradient_norm(gradient: Tensor) -> Tensor:
    """Return the norm of a dense or sparse gradient, in float32 or better.

    Of a sharded one it is the part's norm, made so large that the mean over devices of its square is the whole square:
    the reduction that ends a measurement then needs no case of its own, and nothing is exchanged here.
    """
    if type(gradient) is Tensor and _is_plain(gradient):  # most, at every pass
        return torch.linalg.vector_norm(gradient)
    if is_sharded(gradient):
        sharded: Any = gradient
        sizes = zip(sharded.device_mesh.shape, sharded.placements, strict=True)
        num_shards = math.prod(size for size, placement in sizes if placement.is_shard())
        return gradient_norm(sharded.to_local()) * math.sqrt(num_shards)
    if gradient.is_sparse:
        gradient = gradient.coalesce().values()  # rows that occur twice are summed before squaring
    narrow = gradient.dtype in (torch.float16, torch.bfloat16)
    return torch.linalg.vector_norm(gradient, dtype=torch.float32 if narrow else None)


def norm_in_metric(gradient: Tensor, index: int, metric: Metric | None) -> Tensor | None:
    """Return the norm of a parameter's gradient in the metric, if any; ``None`` where the metric is not known yet."""
    if gradient.requires_grad:  # create_graph=True: a norm would hold the graph
        gradient = gradient.detach()
    if metric is None:
        return gradient_norm(gradient)
    diagonal = metric(index)
    return None if diagonal is None else preconditioned_sq_norm([gradient], [diagonal]).sqrt()


def accumulated_norms(
    parameters: Sequence[nn.Parameter], indices: Iterable[int], metric: Metric | None = None
) -> GradientNorms | None:
    """Return the norms of ``.grad`` of the parameters at ``indices`` that have one, fused where possible."""
    present = [(index, gradient) for index in indices if (gradient := parameters[index].grad) is not None]
    if not present:
        return None
    found, gradients = zip(*((index, gradient.detach()) for index, gradient in present), strict=True)
    if metric is None and all(map(_is_plain, gradients)):
        return GradientNorms(found, torch.stack(torch._foreach_norm(gradients)))
    norms = [norm_in_metric(gradient, index, metric) for index, gradient in present]
    known = [norm for norm in norms if norm is not None]
    # Else the parameters seen before would be other ones than those seen now.
    return GradientNorms(found, torch.stack(known)) if len(known) == len(norms) else None
