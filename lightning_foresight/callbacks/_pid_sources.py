"""Which neurons make up the sources."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

import torch

from lightning_foresight.functional._checks import fail
from lightning_foresight.functional._random import own_generator

SourceRule: TypeAlias = "str | Sequence[Sequence[int]]"
Sets: TypeAlias = "list[list[list[int]]]"  # sets of sources, each a list of neurons

_RULE = re.compile(r"neurons|groups:(?P<groups>\d+)|random:(?P<sets>\d+)x(?P<size>\d+)")
_EXPECTED = (
    "expected 'auto', 'neurons', 'groups:<number>', 'random:<sets>x<neurons>' such as 'random:26x5', or groups of "
    "neurons, counted from 0, such as [(0, 1), (2, 3)]."
)


def check_sources(owner: str, sources: SourceRule) -> None:
    """Require a rule that :func:`source_sets` can follow."""
    if isinstance(sources, str):
        match = _RULE.fullmatch(sources)
        if match is None or 0 in [int(number) for number in match.groups() if number]:
            fail(owner, "sources", sources, _EXPECTED)
    elif not isinstance(sources, Sequence) or not sources or not all(map(_is_group, sources)):
        fail(owner, "sources", sources, _EXPECTED)


def _is_group(group: object) -> bool:
    return (
        isinstance(group, Sequence)
        and not isinstance(group, str)
        and len(group) > 0
        and all(isinstance(neuron, int) and neuron >= 0 for neuron in group)
    )


def source_sets(owner: str, sources: SourceRule, layer: str, width: int, seed: int) -> Sets:
    """Sets of sources for a layer of ``width`` neurons; a source is a list of neurons that count as one.

    Raises:
        ValueError: If the layer has too few neurons for the rule.
    """
    if not isinstance(sources, str):
        groups = [list(group) for group in sources]
        if max(map(max, groups)) >= width:
            _too_narrow(owner, sources, layer, width)
        return [groups]
    if sources == "neurons":
        return [[[neuron] for neuron in range(width)]]
    if sources.startswith("groups:"):
        number = int(sources.removeprefix("groups:"))
        if number > width:
            _too_narrow(owner, sources, layer, width)
        return [[piece.tolist() for piece in torch.arange(width).tensor_split(number)]]
    sets, size = (int(number) for number in sources.removeprefix("random:").split("x"))
    if size >= width:
        return [[[neuron] for neuron in range(width)]]
    generator = own_generator("cpu", seed)
    return [[[int(neuron)] for neuron in torch.randperm(width, generator=generator)[:size]] for _ in range(sets)]


def _too_narrow(owner: str, sources: SourceRule, layer: str, width: int) -> None:
    fail(
        owner,
        "sources",
        sources,
        f"layer {layer!r} has only {width} neurons, counted from 0; expected fewer groups, or other layers (layers=).",
    )
