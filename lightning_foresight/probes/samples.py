"""A fixed set of samples on which layers are watched throughout a run."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler

from lightning_foresight.functional._random import own_generator
from lightning_foresight.functional._trace import first_tensor, named_parts
from lightning_foresight.probes.isolation import preserved_random_state

TARGET_KEYS = ("label", "labels", "target", "targets", "y")


def fixed_batches(source: Any, num_samples: int, *, seed: int, owner: str = "fixed_batches") -> list[Any]:
    """Draw batches with ``num_samples`` samples from a source, the same ones for the same seed.

    A loader with a map-style dataset is read by index, without its sampler or workers, so that every process of a
    distributed run sees the same samples and no iterator of the run is advanced. Of its samplers only a
    ``SubsetRandomSampler`` counts, which keeps the parts of a split dataset apart.

    Args:
        source: A DataLoader, a tuple of tensors with one row a sample, a single tensor, or an iterable of batches.
        num_samples: How many samples; all there are, if they are fewer.
        seed: Seed of the choice.
        owner: Who asks, for error texts.

    Raises:
        ValueError: If the source is empty.

    Example:
        >>> import torch
        >>> from lightning_foresight.probes.samples import fixed_batches
        >>> batches = fixed_batches((torch.arange(10.0), torch.arange(10)), 4, seed=0)
        >>> sum(len(inputs) for inputs, targets in batches)
        4
    """
    with preserved_random_state(seed):
        if isinstance(source, Tensor):
            batches: list[Any] = [batch[0] for batch in _tensor_batches((source,), num_samples, seed, owner)]
        elif isinstance(source, (tuple, list)) and source and all(isinstance(item, Tensor) for item in source):
            batches = list(_tensor_batches(tuple(source), num_samples, seed, owner))
        elif isinstance(source, DataLoader) and not isinstance(source.dataset, IterableDataset):
            batches = list(_indexed_batches(source, num_samples, seed))
        elif isinstance(source, DataLoader):
            # A loader of our own: iterating the run's would restart the workers that it keeps.
            own = DataLoader(source.dataset, batch_size=source.batch_size, collate_fn=source.collate_fn)
            batches = list(_first_batches(own, num_samples))
        elif isinstance(source, Iterable):
            batches = list(_first_batches(source, num_samples))
        else:
            raise TypeError(
                f"{owner}(dataloader={type(source).__name__}): expected a DataLoader, tensors (inputs, targets) or an "
                "iterable of batches."
            )
    if not batches or all(batch_length(batch) == 0 for batch in batches):
        found = next((batch for batch in batches if first_tensor(batch) is None), None)
        if found is not None:
            raise TypeError(
                f"{owner}: a batch is a {type(found).__name__} in which no tensor is found; expected tensors, or "
                "tuples, lists, mappings or dataclasses of them. Let collate_fn return one of these, and override "
                "run_model(self, pl_module, batch) of the callback if the model takes something else."
            )
        raise ValueError(
            f"{owner}(dataloader={type(source).__name__}): the loader holds no sample; expected at least two. Pass a "
            "loader with data, or tensors (inputs, targets)."
        )
    return batches


def _choose(length: int, num_samples: int, seed: int) -> Tensor:
    generator = own_generator("cpu", seed)
    return torch.randperm(length, generator=generator)[:num_samples].sort().values


def _tensor_batches(
    tensors: tuple[Tensor, ...], num_samples: int, seed: int, owner: str
) -> Iterator[tuple[Tensor, ...]]:
    lengths = {len(tensor) for tensor in tensors}
    if len(lengths) > 1:
        raise ValueError(
            f"{owner}(dataloader=tensors): got {', '.join(str(len(tensor)) for tensor in tensors)} rows; expected one "
            "row of each tensor for every sample."
        )
    index = _choose(lengths.pop(), num_samples, seed).to(tensors[0].device)
    for part in index.split(1024):
        yield tuple(tensor[part.to(tensor.device)] for tensor in tensors)


def _indexed_batches(loader: DataLoader, num_samples: int, seed: int) -> Iterator[Any]:
    dataset: Any = loader.dataset
    # Lightning wraps the sampler in a distributed run, where it is the dataset of the one that deals to the ranks.
    samplers = loader.sampler, getattr(getattr(loader.sampler, "dataset", None), "_sampler", None)
    part = next((list(one.indices) for one in samplers if isinstance(one, SubsetRandomSampler)), range(len(dataset)))
    index = [part[i] for i in _choose(len(part), num_samples, seed).tolist()]
    if loader.batch_sampler is None:  # no automatic batching: the items are batches
        yield from _first_batches((loader.collate_fn(dataset[i]) for i in index), num_samples)
        return
    size = loader.batch_size or 256
    for start in range(0, len(index), size):
        yield loader.collate_fn([dataset[i] for i in index[start : start + size]])


def _first_batches(source: Iterable[Any], num_samples: int) -> Iterator[Any]:
    missing = num_samples
    for batch in islice(source, num_samples):
        batch = cut_batch(batch, missing)
        missing -= batch_length(batch)
        yield batch
        if missing <= 0:
            return


def batch_length(batch: Any) -> int:
    """Return the number of samples of a batch: the length of its first tensor."""
    tensor = first_tensor(batch)
    return 0 if tensor is None or tensor.ndim == 0 else len(tensor)


def cut_batch(batch: Any, length: int) -> Any:
    """Return the first ``length`` samples of a batch."""
    return map_tensors(batch, lambda tensor: tensor[:length])


def map_tensors(batch: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to all tensors of a batch that have an axis, in tuples, lists, mappings and dataclasses."""
    if isinstance(batch, Tensor):
        return function(batch) if batch.ndim else batch
    if isinstance(batch, (tuple, list)):
        items = [map_tensors(value, function) for value in batch]
        return type(batch)(*items) if hasattr(batch, "_fields") else type(batch)(items)
    parts = named_parts(batch)
    if parts is None:
        return batch
    mapped = {key: map_tensors(value, function) for key, value in parts.items()}
    if isinstance(batch, Mapping):
        try:  # those of Hugging Face are read by attribute, too
            return type(batch)(mapped)  # type: ignore[call-arg]
        except TypeError:
            return mapped
    changed = copy.copy(batch)
    for key, value in mapped.items():
        object.__setattr__(changed, key, value)  # a frozen one allows no other way
    return changed


def split_batch(batch: Any) -> tuple[Any, Any]:
    """Split a batch into what the model takes and the targets, ``None`` if it has none.

    A tuple or list is ``(inputs, targets, ...)``; a mapping or dataclass holds its targets under ``label``, ``labels``,
    ``target``, ``targets`` or ``y``; a tensor is the inputs.
    """
    parts = named_parts(batch)
    if parts is not None:
        return batch, next((parts[key] for key in TARGET_KEYS if key in parts), None)
    if isinstance(batch, (tuple, list)):
        return batch[0], batch[1] if len(batch) > 1 else None
    return batch, None


def call_model(model: nn.Module, inputs: Any) -> Any:
    """Call a model on the inputs of a batch.

    A mapping or dataclass is passed by name, cut to what ``forward`` accepts; if no name fits and only one entry is no
    target, that entry is passed alone, and to a ``forward`` of one argument called ``batch`` it is passed as it is. A
    LightningModule that has no ``forward`` stands for its only submodule with parameters.

    Raises:
        TypeError: If the names do not fit what ``forward`` takes, or there is no ``forward``.
    """
    model = with_forward(model)
    parts = named_parts(inputs)
    if parts is None:
        return model(inputs)
    parameters = inspect.signature(model.forward).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return model(**parts)
    named = {key: value for key, value in parts.items() if key in parameters}
    if named:
        return model(**named)
    if list(parameters) in (["batch"], ["data"], ["inputs"]):
        return model(inputs)
    others = [value for key, value in parts.items() if key not in TARGET_KEYS]
    if len(others) == 1 and len(parameters) == 1:
        return model(others[0])
    raise TypeError(
        f"the batch has the keys {', '.join(map(str, parts))}, but {type(model).__name__}.forward takes "
        f"{', '.join(parameters)}. Override run_model(self, pl_module, batch) of the callback to say how to call it."
    )


def with_forward(model: nn.Module) -> nn.Module:
    """Return the model, or the only submodule with parameters of one that has no ``forward``.

    Raises:
        TypeError: If there is not one such submodule.
    """
    # Both Lightning packages and torch have one of their own, which says that there is none.
    if type(model).forward.__qualname__ not in ("_forward_unimplemented", "LightningModule.forward"):
        return model
    trained = {name: child for name, child in model.named_children() if next(child.parameters(), None) is not None}
    if len(trained) == 1:
        return next(iter(trained.values()))
    raise TypeError(
        f"{type(model).__name__} has no forward, and {', '.join(trained) or 'no submodule'} with parameters to run in "
        "its place. Write forward(self, x), which may be what training_step calls."
    )
