"""Random numbers of our own, and torch's global random states: drawn from for a while, and put back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch

# Fractional digits of the golden ratio and of the square root of 3, both odd.
FACTOR, SHIFT = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B


def own_seed(seed: int) -> int:
    """Return the seed of a stream that no generator of the user's has, as that of ``torch.manual_seed(seed)`` would be.

    Whoever seeds with 0, as everybody does, and draws the data or the weights first would else get the very numbers
    that a measurement adds to them as noise.
    """
    # Generators of the CPU take the lower 32 bits, which the odd factor keeps apart.
    return (seed * FACTOR + SHIFT) % 2**63


def own_generator(device: torch.device | str, seed: int = 0) -> torch.Generator:
    """Return a generator with a stream of our own, see :func:`own_seed`."""
    return torch.Generator(device).manual_seed(own_seed(seed))


def devices_in_use() -> list[torch.device]:
    """Return the accelerator that this process works on, none if it has not touched any.

    The other ones of the machine are other ranks': to ask for their states would start a context on each of them.
    """
    if not torch.accelerator.is_available():
        return []
    kind = torch.accelerator.current_accelerator()
    module = torch.get_device_module(kind)
    if kind is None or not getattr(module, "is_initialized", lambda: True)():
        return []
    return [torch.device(kind.type, module.current_device() if hasattr(module, "current_device") else 0)]


@contextmanager
def forked_random_state(devices: Iterable[torch.device], seed: int | None = None) -> Iterator[None]:
    """Restore the random states of the CPU and of some devices on leaving.

    Args:
        devices: The devices; the CPU may be among them.
        seed: Seeds them, and no others, inside. ``torch.manual_seed`` would seed all devices of the machine.
    """
    others = {device for device in devices if device.type not in ("cpu", "meta")}
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        if seed is not None:
            torch.default_generator.manual_seed(int(seed))
        for device in others:
            module = torch.get_device_module(device)
            stack.enter_context(torch.random.fork_rng([device.index or 0], device_type=device.type))
            if seed is not None:
                with module.device(device) if hasattr(module, "device") else ExitStack():
                    module.manual_seed(int(seed))
        yield
