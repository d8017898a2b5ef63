"""Two CPU processes for all tests that take two, since starting them is most of the time. Run by ``conftest.py``."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import torch
import torch.distributed as dist

# Each has a function that says what a rank finds; the process group is there already.
JOBS = (
    "tests.metrics.joint_table_two_processes",
    "tests.metrics.dependence_two_processes",
    "tests.contract.two_processes",
    "tests.contract.noise_two_processes",
)


def _rank(rank: int, folder: str) -> None:
    os.environ["LOCAL_RANK"] = str(rank)  # tells Lightning that it has not to start processes of its own
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for job in JOBS:
        torch.save(import_module(job).results(folder), f"{folder}/{job}{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    for job in JOBS:
        import_module(job)  # once, for both
    torch.multiprocessing.start_processes(_rank, args=(sys.argv[1],), nprocs=2, start_method="fork")
