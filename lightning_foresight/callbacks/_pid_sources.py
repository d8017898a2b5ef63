"""Which neurons make up the sources, and how activations become codes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from lightning_foresight.functional._checks import fail
from lightning_foresight.functional.partial_information import JointRows, joint_table, quantize
from lightning_foresight.functional.partial_information._row_ids import row_ids
from lightning_foresight.training.quantizers import QuantizeActivations

SourceRule: TypeAlias = "str | Sequence[Sequence[int]]"
Codes: TypeAlias = "int | QuantizeActivations | Callable[[Tensor], Tensor]"

_LIMITS: dict[type[nn.Module], tuple[float, float]] = {
    nn.Tanh: (-1, 1),
    nn.Hardtanh: (-1, 1),
    nn.Softsign: (-1, 1),
    nn.Sigmoid: (0, 1),
    nn.Hardsigmoid: (0, 1),
    nn.Softmax: (0, 1),
    nn.ReLU6: (0, 6),
}
_RULE = re.compile(r"neurons|groups:(?P<groups>\d+)|random:(?P<sets>\d+)x(?P<size>\d+)")


def check_sources(owner: str, sources: SourceRule) -> None:
    """Require a rule that :func:`source_sets` can follow."""
    if isinstance(sources, str):
        match = _RULE.fullmatch(sources)
        if match is None or 0 in [int(number) for number in match.groups() if number]:
            fail(
                owner,
                "sources",
                sources,
                "expected 'auto', 'neurons', 'groups:<number>', 'random:<sets>x<neurons>' such as 'random:26x5', or "
                "groups of neurons such as [(0, 1), (2, 3)].",
            )
    elif not sources or not all(len(group) and min(group) >= 0 for group in sources):
        fail(owner, "sources", sources, "expected groups of neurons, counted from 0, such as [(0, 1), (2, 3)].")


def source_sets(owner: str, sources: SourceRule, width: int, seed: int) -> list[list[list[int]]]:
    """Sets of sources for a layer of ``width`` neurons; a source is a list of neurons that count as one."""
    if not isinstance(sources, str):
        groups = [list(group) for group in sources]
        if max(map(max, groups)) >= width:
            fail(owner, "sources", sources, f"a layer has {width} neurons, counted from 0.")
        return [groups]
    if sources == "neurons":
        return [[[neuron] for neuron in range(width)]]
    if sources.startswith("groups:"):
        number = min(width, int(sources.removeprefix("groups:")))
        return [[piece.tolist() for piece in torch.arange(width).tensor_split(number)]]
    sets, size = (int(number) for number in sources.removeprefix("random:").split("x"))
    if size >= width:
        return [[[neuron] for neuron in range(width)]]
    generator = torch.Generator().manual_seed(seed)
    return [[[int(neuron)] for neuron in torch.randperm(width, generator=generator)[:size]] for _ in range(sets)]


def table_of(codes: Tensor, groups: list[list[int]], target: Tensor) -> JointRows:
    """Joint table of groups of neurons and the target; up to 256 codes are kept in bytes."""
    if all(len(group) == 1 for group in groups):
        columns = codes[:, torch.tensor([group[0] for group in groups], device=codes.device)]
    else:
        columns = torch.stack([row_ids(codes[:, torch.tensor(group, device=codes.device)])[0] for group in groups], 1)
    small = columns.shape[1] > 64 and bool((columns.amax() < 256) & (target.amax() < 256) & (target.amin() >= 0))
    return joint_table(columns, target, dtype=torch.uint8 if small else torch.long)


def codes_of(activation: Tensor, module: nn.Module, quantizer: Codes) -> Tensor:
    """Integer codes of an activation ``(samples, neurons)``; limits are the activation function's, else the data's."""
    if isinstance(module, QuantizeActivations):
        return quantize(activation, module.levels, limits=module.limits)
    if isinstance(quantizer, QuantizeActivations):
        return quantize(activation, quantizer.levels, limits=quantizer.limits, mode=quantizer.eval_mode)
    if callable(quantizer):
        return quantizer(activation)
    return quantize(activation, quantizer, limits=_LIMITS.get(type(module)))
