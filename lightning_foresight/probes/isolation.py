"""Running the user's model without leaving a trace in the run."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from lightning_foresight.functional._random import devices_in_use, forked_random_state


@contextmanager
def preserved_random_state(seed: int | None = None, devices: Iterable[torch.device] = ()) -> Iterator[None]:
    """Restore the global random states of torch, numpy and Python on leaving.

    Args:
        seed: Seeds torch's generators inside, so that what is drawn there is the same at every measurement.
        devices: Devices that are used besides the CPU and the accelerator that this process works on.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    with forked_random_state({*devices_in_use(), *devices}, seed):
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


@contextmanager
def undisturbed(model: nn.Module, *, seed: int | None = 0, grad: bool = False) -> Iterator[None]:
    """Evaluate a model inside a training run so that the run goes on bit for bit as if nothing had happened.

    Every module is put into evaluation mode and back into its own mode (frozen BatchNorm layers stay frozen), buffers
    and random states are restored (of generators that modules hold, too), what a forward logs is dropped, gradients are
    off unless asked for, inference mode is left, and compiled modules run eagerly, since hooks that are registered
    after compilation never fire. What else a forward keeps in plain attributes is beyond reach.

    Args:
        model: The model that is about to be called.
        seed: Seed of torch's generators inside; ``None`` leaves them as they are.
        grad: Record gradients inside; use ``torch.autograd.grad``, never ``.backward()``.
    """
    modes = [(module, module.training) for module in model.modules()]
    with ExitStack() as stack:
        stack.enter_context(preserved_random_state(seed, {parameter.device for parameter in model.parameters()}))
        stack.enter_context(_preserved_generators(model))
        stack.enter_context(_preserved_buffers(model))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(grad))
        if "torch._dynamo" in sys.modules:  # nothing can be compiled before it is imported, and importing it is slow
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            # Not model.eval(): modules may override train() to do more than set the flag.
            for module, _ in modes:
                module.training = False
            if callable(getattr(model, "log", None)):
                model.__dict__["log"] = _log_nothing  # a forward that logs would add to the run's own averages
            yield
        finally:
            model.__dict__.pop("log", None)
            for module, training in modes:
                module.training = training


@contextmanager
def _preserved_buffers(model: nn.Module) -> Iterator[None]:
    """Restore the buffers of modules: their values, which tensors they are, and that there are no others."""
    before = [
        (module, {name: (buffer, None if buffer is None else buffer.detach().clone()) for name, buffer in held.items()})
        for module in model.modules()
        for held in [module._buffers]
    ]
    try:
        yield
    finally:
        for module, held in before:
            for name in module._buffers.keys() - held.keys():
                del module._buffers[name]
            for name, (buffer, value) in held.items():
                module._buffers[name] = buffer
                if buffer is not None and value is not None:
                    # All of them, for the kernels of BatchNorm change them without counting; and without counting, for
                    # a backward pass that is still to come may have saved them.
                    buffer.data.copy_(value)


@contextmanager
def _preserved_generators(model: nn.Module) -> Iterator[None]:
    """Restore the generators that modules hold as attributes, and those that a forward makes on first use."""
    before = [(module, dict(vars(module))) for module in model.modules()]
    held = [value for _, attributes in before for value in attributes.values() if isinstance(value, torch.Generator)]
    states = [(generator, generator.get_state()) for generator in held]
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)
        for module, attributes in before:
            now = vars(module)
            for name in [name for name, value in now.items() if isinstance(value, torch.Generator)]:
                if name in attributes:
                    now[name] = attributes[name]
                else:
                    del now[name]


def _log_nothing(*args: Any, **kwargs: Any) -> None:
    """Stand in for LightningModule.log."""
