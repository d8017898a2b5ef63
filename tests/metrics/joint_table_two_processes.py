"""Counts samples that two CPU processes hold in unequal shares: the table of each rank. Run by ``two_ranks``."""

from __future__ import annotations

import torch
import torch.distributed as dist

from lightning_foresight.metrics import JointTable

KEPT: dict[str, int] = {}
DENSE = {"num_sources": 3, "levels": 4, "num_targets": 3}


class Table(JointTable):
    """Reads out its counts as they are."""

    def compute(self) -> torch.Tensor:
        table = self.table()
        return torch.cat([table.rows.long(), table.weights[:, None]], 1)


def samples(n: int = 200, width: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 4, (n, width), generator=generator), torch.randint(0, 3, (n,), generator=generator)


def results(folder: str) -> dict[str, torch.Tensor]:
    rank, found = dist.get_rank(), {}
    sources, target = samples()
    for name, options, split in (("kept", KEPT, 70), ("dense", DENSE, 70), ("idle", KEPT, 200)):
        metric = Table(**options)
        mine = slice(0, split) if rank == 0 else slice(split, None)
        if len(target[mine]):
            metric.update(sources[mine], target[mine])
        found[name] = metric.compute()
    wide, wide_target = samples(40, 100)
    metric = Table(dtype=torch.uint8)
    metric.update(wide[rank::2], wide_target[rank::2])
    found["wide"] = metric.compute()
    return found
