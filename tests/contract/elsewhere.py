"""A device that computes on the CPU, refuses to be mixed with it, and counts how often the host waits for it.

It stands in for a GPU where there is none: a tensor made on the wrong device, a generator of the wrong device and a
number that is fetched on the hot path show here as they would there. It takes over torch's only backend for private
use, for the whole process; tests run it in one of their own.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

KIND = "elsewhere"
DEVICE = torch.device("cpu")  # until `set_up` has been called
# What cannot answer before the device has: numbers, and shapes that depend on values.
WAITING = (
    *("_local_scalar_dense", "equal", "nonzero", "unique_consecutive", "_unique2", "unique_dim", "masked_select"),
    *("bincount", "repeat_interleave"),
)
# Copies are there to cross.
CROSSING = ("copy_", "_to_copy")
# Indices may come from the host, and so may numbers without an axis where they are computed with, not joined or placed.
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")
JOINING = (
    *("cat", "stack", "searchsorted"),
    *("scatter", "scatter_", "scatter_add", "scatter_add_", "index_add", "index_add_"),
)
PRODUCTS = ("mm", "bmm", "mv", "dot", "vdot", "addmm", "addmv", "baddbmm")
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


_devices_of: dict[int, torch.device] = {}  # of generators, by their address: dispatchers get wrappers of their own


class _Generator(torch.Generator):
    """One of the CPU that says where it was asked to be."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        asked = torch.device(device)
        made = super().__new__(cls, device="cpu" if asked.type == KIND else asked)
        made.asked = _devices_of[made._cdata] = asked
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
    if torch.is_inference_mode_enabled():  # where operations that are made of others come whole
        with OnTheDevice():
            found = func.decompose(*args, **kwargs)
        if found is not NotImplemented:
            return found
    name, device = func._schema.name.removeprefix("aten::"), kwargs.get("device")
    tensors = _tensors((args, kwargs))
    there = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
    generators = [leaf for leaf in _leaves((args, kwargs)) if isinstance(leaf, torch._C.Generator)]
    if any(_is_there(_devices_of.get(each._cdata)) != bool(there or _is_there(device)) for each in generators):
        raise RuntimeError(f"{name}: tensors and their generator lie on {KIND} and on the CPU.")
    if not there and not _is_there(device):
        return func(*args, **kwargs)
    if name in INDEXING and isinstance(args[0], Elsewhere):
        tensors = _tensors((args[2:], kwargs))
    here = [tensor for tensor in tensors if _is_held_here(tensor, name)]
    if name.endswith("_") and not isinstance(args[0], Elsewhere):  # what is worked on in place
        here += args[:1]
    if name in PRODUCTS and not all(tensor.is_floating_point() or tensor.is_complex() for tensor in there):
        raise RuntimeError(f"{name}: only a CPU has products of matrices of integers.")
    if there and here and name not in CROSSING:
        raise RuntimeError(f"{name}: tensors on {KIND} and on the CPU are mixed.")
    leaves = there and (
        (name == "_to_copy" and device is not None and not _is_there(device)) or (name == "copy_" and here)
    )
    masked = name in INDEXING and any(tensor.dtype == torch.bool for tensor in _tensors(args[1]))
    if there and (name in WAITING or leaves or masked):
        _wait()
    found = func(*_mapped(_held, args), **_mapped(_held, kwargs))
    if name == "copy_":
        return args[0]
    if name in ("_local_scalar_dense", "equal") or leaves:
        return found
    same = {id(tensor.held): tensor for tensor in there}
    return _mapped(lambda leaf: _around(leaf, same), found)


def _leaves(found: Any) -> Iterator[Any]:
    # Those of torch take most of the time that the device takes.
    if isinstance(found, (list, tuple, dict)):
        for part in found.values() if isinstance(found, dict) else found:
            yield from _leaves(part)
    else:
        yield found


def _tensors(found: Any) -> list[torch.Tensor]:
    return [leaf for leaf in _leaves(found) if isinstance(leaf, torch.Tensor)]


def _mapped(change: Callable[[Any], Any], found: Any) -> Any:
    if isinstance(found, dict):
        return {key: _mapped(change, part) for key, part in found.items()}
    if isinstance(found, (list, tuple)):
        parts = [_mapped(change, part) for part in found]
        return parts if isinstance(found, list) else tuple(parts)
    return change(found)


def _is_held_here(tensor: torch.Tensor, name: str) -> bool:
    return not isinstance(tensor, Elsewhere) and (tensor.ndim > 0 or name in JOINING)


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


def _loaded_there(load: Any) -> Any:
    def loaded(file: Any, map_location: Any = None, **options: Any) -> Any:
        if callable(map_location) or not _is_there(map_location):
            return load(file, map_location=map_location, **options)
        return _mapped(
            lambda leaf: leaf.to(DEVICE) if isinstance(leaf, torch.Tensor) else leaf,
            load(file, map_location="cpu", **options),
        )

    return loaded


def set_up() -> torch.device:
    """Register the device and return it; once in a process."""
    global DEVICE
    _setup_privateuseone_for_python_backend(KIND, backend_module=_Backend())
    DEVICE = torch.device(KIND, 0)
    # These fill memory without asking a dispatcher.
    torch.tensor, torch.as_tensor = _made_there(torch.tensor), _made_there(torch.as_tensor)
    torch.load = _loaded_there(torch.load)
    torch.Tensor.new_tensor = lambda self, data, *, dtype=None, device=None: torch.tensor(
        data, dtype=dtype or self.dtype, device=device or self.device
    )
    torch.Generator = _Generator
    # What is set as the data of a parameter, it would not hold.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    return DEVICE
