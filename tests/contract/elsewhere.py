"""A device that computes on the CPU, refuses to be mixed with it, and counts how often the host waits for it.

It stands in for a GPU where there is none: a tensor made on the wrong device, a generator of the wrong device and a
number that is fetched on the hot path show here as they would there. It takes over torch's only backend for private
use, for the whole process; tests run it in one of their own.
"""

from __future__ import annotations

import traceback
from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

KIND = "elsewhere"
DEVICE = torch.device("cpu")  # until `set_up` has been called
# What cannot answer before the device has: numbers, and shapes that depend on values.
WAITING = ("_local_scalar_dense", "equal", "nonzero", "unique_consecutive", "_unique2", "unique_dim", "masked_select")
# Indices and numbers of one element may come from the host, and copies are there to cross.
CROSSING = ("copy_", "index", "index_put", "index_put_", "_index_put_impl_", "_to_copy")
# Where in the package the host waited for the device, and how often.
waits: Counter[str] = Counter()


class _Backend(_DummyBackendModule):
    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    def manual_seed(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


class Elsewhere(torch.Tensor):
    """A tensor that says that it is on the device, around one that is not."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Elsewhere:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    def __repr__(self) -> str:
        return f"Elsewhere({self.held})"

    def tolist(self) -> Any:
        _wait()
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class OnTheDevice(TorchDispatchMode):
    """Where tensors can be made there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Generator(torch.Generator):
    """One of the CPU that says where it was asked to be."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        asked = torch.device(device)
        made = super().__new__(cls, device="cpu" if asked.type == KIND else asked)
        made.asked = asked
        return made

    @property
    def device(self) -> torch.device:
        return self.asked


def _is_there(device: Any) -> bool:
    return device is not None and torch.device(device).type == KIND


def _wait() -> None:
    ours = [line for line in traceback.extract_stack() if "lightning_foresight/" in line.filename]
    if ours and "/tests/" not in ours[-1].filename:
        waits[f"{ours[-1].filename.rsplit('/', 1)[1]}:{ours[-1].lineno}"] += 1


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name, device = func._schema.name.removeprefix("aten::"), kwargs.get("device")
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
    if not there and not _is_there(device):
        return func(*args, **kwargs)
    here = [tensor for tensor in tensors if not isinstance(tensor, Elsewhere) and tensor.ndim]
    if there and here and name not in CROSSING:
        raise RuntimeError(f"{name}: tensors on {KIND} and on the CPU are mixed.")
    leaves = there and (
        (name == "_to_copy" and device is not None and not _is_there(device)) or (name == "copy_" and here)
    )
    if there and (name in WAITING or leaves):
        _wait()
    found = func(*tree_map(_held, args), **tree_map(_held, kwargs))
    if name == "copy_":
        return args[0]
    if name in ("_local_scalar_dense", "equal") or leaves:
        return found
    same = {id(tensor.held): tensor for tensor in there}
    return tree_map(lambda leaf: _around(leaf, same), found)


def _held(leaf: Any) -> Any:
    if isinstance(leaf, Elsewhere):
        return leaf.held
    return torch.device("cpu") if isinstance(leaf, torch.device) and leaf.type == KIND else leaf


def _around(leaf: Any, same: dict[int, Elsewhere]) -> Any:
    if not isinstance(leaf, torch.Tensor) or isinstance(leaf, Elsewhere):
        return leaf
    return same.get(id(leaf)) if id(leaf) in same else Elsewhere(leaf)  # what works in place returns what it was given


def _made_there(make: Any) -> Any:
    def made(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
        if not _is_there(device):
            return make(data, *args, device=device, **kwargs)
        return (
            data.to(device=DEVICE, **kwargs)
            if isinstance(data, torch.Tensor)
            else make(data, *args, **kwargs).to(DEVICE)
        )

    return made


def set_up() -> torch.device:
    """Register the device and return it; once in a process."""
    global DEVICE
    _setup_privateuseone_for_python_backend(KIND, backend_module=_Backend())
    DEVICE = torch.device(KIND, 0)
    # These fill memory without asking a dispatcher.
    torch.tensor, torch.as_tensor = _made_there(torch.tensor), _made_there(torch.as_tensor)
    torch.Tensor.new_tensor = lambda self, data, *, dtype=None, device=None: torch.tensor(
        data, dtype=dtype or self.dtype, device=device or self.device
    )
    torch.Generator = _Generator
    return DEVICE
