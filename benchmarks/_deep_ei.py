"""Run deep-ei on layers given on standard input; started by effective_information.py in an environment of its own.

deep-ei 0.7.0 wants networkx 2.5.1 and names that numpy has dropped since; they are put back here, at run time.
"""

from __future__ import annotations

import collections
import collections.abc
import fractions
import json
import math
import sys
import time
import warnings

import numpy as np

ALIASES = {
    "int": int,
    "float": float,
    "bool": bool,
    "object": object,
    "complex": complex,
    "float_": np.float64,
    "complex_": np.complex128,
    "unicode_": np.str_,
}
for name, value in ALIASES.items():
    if name not in np.__dict__:
        setattr(np, name, value)
fractions.gcd = math.gcd
for name in ("Mapping", "Set", "Iterable"):
    setattr(collections, name, getattr(collections.abc, name))

import deep_ei  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        job = json.loads(line)
        layer = nn.Linear(len(job["weight"][0]), len(job["weight"]), bias=False)
        layer.weight.data = torch.tensor(job["weight"])
        network = nn.Sequential(layer, nn.Sigmoid())
        topology = deep_ei.topology_of(network, input=torch.zeros(1, layer.in_features))
        torch.manual_seed(job["seed"])
        np.random.seed(job["seed"])  # noqa: NPY002
        wall, cpu = time.perf_counter(), time.process_time()
        value = getattr(deep_ei, job["function"])(layer, topology, in_range=(0, 1), **job["options"])
        result = {
            "value": float(value),
            "wall_s": time.perf_counter() - wall,
            "cpu_s": time.process_time() - cpu,
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
