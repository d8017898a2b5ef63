"""Two processes; each rank's micro-batches against plain autograd. Run by test_gradient_noise_ddp.py."""

import json
import sys

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

from lightning_foresight.callbacks import GradientNoiseScaleCallback
from tests.contract.cases import state_of
from tests.reference.noise_runs import Observed, fit, loader


class Distributed(Observed):
    """Gathers the micro-batches of both ranks before it works out an observation."""

    def on_before_optimizer_step(self, optimizer):
        gathered = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, self.micro_batches)
        self.micro_batches = [micro for rank in gathered for micro in rank]
        super().on_before_optimizer_step(optimizer)


def run(accumulate, watch):
    torch.manual_seed(5)
    model = Distributed()
    callback = GradientNoiseScaleCallback(decay=1.0, every_n_steps=1)
    data = DataLoader(loader(40).dataset, batch_size=8)
    settings = {"devices": 2, "strategy": "ddp", "accumulate_grad_batches": accumulate}
    trainer = fit(model, [callback] if watch else [], data=data, **settings)
    last = callback.history.last()
    return {
        "noise": sum(model.noise) / len(model.noise),
        "signal": sum(model.signal) / len(model.signal),
        "count": len(model.noise),
        "failures": callback.num_failures,
        "reported": {key: (row.value, row.num_samples) for key, row in last.items()},
        "weights": [float(value.double().sum()) for value in state_of(trainer).values()],
    }


if __name__ == "__main__":
    results = {str(accumulate): run(accumulate, True) for accumulate in (1, 2)}
    results["unwatched"] = run(2, False)
    with open(f"{sys.argv[1]}/rank{dist.get_rank()}.json", "w") as file:
        json.dump(results, file)
