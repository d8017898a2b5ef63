"""Partial information measures the slow, obvious way: dictionaries, double loops, float64."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import chain, combinations, product
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from lightning_foresight.functional.partial_information import JointRows

_FILE = json.loads((Path(__file__).parents[1] / "data" / "partial_information.json").read_text())
CASES: dict[str, dict] = _FILE["cases"]

Row = tuple[int, ...]


def table_of(name: str) -> JointRows:
    """A reference distribution as a table of counts or probabilities."""
    case = CASES[name]
    dtype = torch.long if case["weights"] == "counts" else torch.float64
    rows = torch.tensor([row[:-1] for row in case["rows"]])
    return JointRows(rows, torch.tensor([row[-1] for row in case["rows"]], dtype=dtype))


def random_table(seed: int, num_sources: int, levels: int = 3, targets: int = 3, rows: int = 40) -> JointRows:
    """A random table of counts whose rows are distinct."""
    generator = torch.Generator().manual_seed(seed)
    high = torch.tensor([levels] * num_sources + [targets])
    codes = (torch.rand(rows, num_sources + 1, generator=generator) * high).long()
    distinct = torch.unique(codes, dim=0)
    return JointRows(distinct, torch.randint(1, 9, (len(distinct),), generator=generator))


def as_dict(table: JointRows) -> dict[Row, float]:
    """Probabilities by row."""
    total = table.weights.double().sum().item()
    return {tuple(row): weight / total for row, weight in zip(table.rows.tolist(), table.weights.tolist(), strict=True)}


def antichains(num_sources: int) -> list[tuple[frozenset[int], ...]]:
    """All antichains of nonempty sets of sources from 1, by trying every family of sets: for up to 3 sources."""
    sources = range(1, num_sources + 1)
    sets = [frozenset(s) for size in sources for s in combinations(sources, size)]
    families = chain.from_iterable(combinations(sets, size) for size in range(1, len(sets) + 1))
    return [family for family in families if not any(a < b or b < a for a, b in combinations(family, 2))]


def key_of(antichain: Iterable[frozenset[int]]) -> str:
    return "".join(
        "{" + ",".join(map(str, sorted(s))) + "}" for s in sorted(antichain, key=lambda s: (len(s), sorted(s)))
    )


def shared_exclusions_terms(table: JointRows, alpha: Iterable[frozenset[int]]) -> tuple[float, float]:
    """Informative and misinformative redundancy of Makkeh, Gutknecht & Wibral 2021: for every row a loop over all."""
    p = as_dict(table)
    p_target: dict[int, float] = defaultdict(float)
    for row, weight in p.items():
        p_target[row[-1]] += weight
    plus = minus = 0.0
    for row, weight in p.items():
        union = union_and_target = 0.0
        for other, other_weight in p.items():
            if any(all(other[i - 1] == row[i - 1] for i in a) for a in alpha):
                union += other_weight
                union_and_target += other_weight if other[-1] == row[-1] else 0.0
        plus -= weight * math.log2(union)
        minus -= weight * math.log2(union_and_target / p_target[row[-1]])
    return plus, minus


def shared_exclusions_pid(table: JointRows) -> dict[str, tuple[float, float, float]]:
    """Informative, misinformative and average atoms by recursion down the lattice: the published double loop."""
    chains = antichains(table.num_sources)
    cumulative = {alpha: shared_exclusions_terms(table, alpha) for alpha in chains}

    def below(beta: tuple, alpha: tuple) -> bool:
        return all(any(b <= a for b in beta) for a in alpha)

    atoms: dict[tuple, tuple[float, float]] = {}
    for alpha in sorted(chains, key=lambda alpha: sum(below(beta, alpha) for beta in chains)):
        lower = [atoms[beta] for beta in chains if beta != alpha and below(beta, alpha)]
        plus, minus = cumulative[alpha]
        atoms[alpha] = plus - sum(part[0] for part in lower), minus - sum(part[1] for part in lower)
    return {key_of(alpha): (plus, minus, plus - minus) for alpha, (plus, minus) in atoms.items()}


def marginal_entropy(table: JointRows, columns: Iterable[int]) -> float:
    """Entropy in bits of some columns, by a dictionary."""
    columns = list(columns)
    marginal: dict[Row, float] = defaultdict(float)
    for row, weight in as_dict(table).items():
        marginal[tuple(row[i] for i in columns)] += weight
    return -sum(weight * math.log2(weight) for weight in marginal.values() if weight > 0)


def subset_information(table: JointRows, sources: Iterable[int]) -> float:
    """I(S_a; T) in bits for 0-based sources."""
    sources, target = list(sources), table.num_sources
    return (
        marginal_entropy(table, sources)
        + marginal_entropy(table, [target])
        - marginal_entropy(table, [*sources, target])
    )


def broja_synergy_of_bits(table: JointRows) -> float:
    """CI of two binary sources and a binary target by nested search: for each t one number, q(t, 0, 0), is free."""
    p = as_dict(table)
    joint = np.array([[[p.get((y, z, t), 0.0) for z in (0, 1)] for y in (0, 1)] for t in (0, 1)])

    def information(corners: tuple[float, float]) -> float:
        q = np.empty((2, 2, 2))
        for t, corner in enumerate(corners):
            first, second, total = joint[t, 0].sum(), joint[t, :, 0].sum(), joint[t].sum()
            q[t] = [[corner, first - corner], [second - corner, total - first - second + corner]]
        product = q.sum((1, 2))[:, None, None] * q.sum(0)
        seen = q > 1e-300
        return float((q[seen] * np.log2(q[seen] / product[seen])).sum())

    def ends(t: int) -> tuple[float, float]:
        first, second, total = joint[t, 0].sum(), joint[t, :, 0].sum(), joint[t].sum()
        return max(0.0, first + second - total), min(first, second)

    def search(function: Callable[[float], float], t: int) -> float:
        low, high = ends(t)
        inside = minimize_scalar(function, bounds=(low, high), method="bounded", options={"xatol": 1e-10}).fun
        return min(inside, function(low), function(high))

    least = search(lambda first: search(lambda second: information((first, second)), 1), 0)
    return subset_information(table, [0, 1]) - least


def noisy_cells(
    x: list[list[float]], target: list[int], std: float, num_bins: int, limits: tuple[float, float]
) -> dict[Row, float]:
    """Probability of every cell of noisy bins, one sample, cell and neuron at a time."""
    low, high = limits
    width = (high - low) / num_bins
    outside = math.ceil(3 * std / width)
    inner = [low + width * k for k in range(1 - outside, num_bins + outside)]
    edges = [-math.inf, *inner, math.inf]

    def below(edge: float, centre: float) -> float:
        return 0.5 * (1 + math.erf((edge - centre) / std / math.sqrt(2)))

    cells: dict[Row, float] = defaultdict(float)
    for row, label in zip(x, target, strict=True):
        for cell in product(range(len(edges) - 1), repeat=len(row)):
            p = 1.0
            for bin_, centre in zip(cell, row, strict=True):
                p *= below(edges[bin_ + 1], centre) - below(edges[bin_], centre)
            cells[(*cell, label)] += p / len(x)
    return cells
