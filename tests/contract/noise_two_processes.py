"""Two processes, their gradients whole (DDP) or in shards (FSDP2), against plain autograd. Run by a test."""

from __future__ import annotations

import copy
import json
import sys

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy
from torch.distributed.fsdp import fully_shard
from torch.func import functional_call
from torch.nn import functional as F
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


class Sharded(Distributed):
    """Works out its observations on a whole copy of the network."""

    def configure_model(self):
        if "twin" not in self.__dict__:
            self.__dict__["twin"] = copy.deepcopy(self.net)  # not a submodule
            mesh = self.device_mesh["data_parallel"]
            fully_shard(self.net[0], mesh=mesh)
            fully_shard(self.net, mesh=mesh)

    def training_step(self, batch, batch_idx):
        weights = {name: p.full_tensor().detach().requires_grad_() for name, p in self.net.named_parameters()}
        twin_loss = F.cross_entropy(functional_call(self.twin, weights, (batch[0],)), batch[1])
        gradients = torch.autograd.grad(twin_loss, list(weights.values()))
        self.micro_batches.append((torch.cat([g.double().flatten() for g in gradients]), len(batch[0])))
        return self.losses(batch).mean()


RUNS = {  # the cells that take two processes
    "DDP": (Distributed, DDPStrategy, {}),
    "DDP, accumulation": (Distributed, DDPStrategy, {"accumulate_grad_batches": 2}),
    "FSDP2": (Sharded, lambda: ModelParallelStrategy(2, 1), {}),
    "FSDP2, accumulation": (Sharded, lambda: ModelParallelStrategy(2, 1), {"accumulate_grad_batches": 2}),
    "FSDP2, clipping": (Sharded, lambda: ModelParallelStrategy(2, 1), {"gradient_clip_val": 1e-3}),
}


def run(name, watch=True, **arguments):
    model_class, strategy, settings = RUNS[name]
    torch.manual_seed(5)
    model = model_class()
    callback = GradientNoiseScaleCallback(decay=1.0, every_n_steps=1, **arguments)
    data = DataLoader(loader(40).dataset, batch_size=8)
    trainer = fit(model, [callback] if watch else [], data=data, devices=2, strategy=strategy(), **settings)
    whole = [value.full_tensor() if hasattr(value, "full_tensor") else value for value in state_of(trainer).values()]
    last = callback.history.last()
    return {
        "noise": sum(model.noise) / len(model.noise),
        "signal": sum(model.signal) / len(model.signal),
        "count": len(model.noise),
        "failures": callback.num_failures,
        "reported": {key: (row.value, row.num_samples) for key, row in last.items()},
        "weights": [float(value.double().sum()) for value in whole],
        "hooks": sum(len(module._forward_pre_hooks) for module in model.modules()),
    }


def refusal(name, **arguments):
    try:
        run(name, **arguments)
    except ValueError as error:
        return str(error)
    return ""


def main(folder):
    results = {name: run(name) for name in RUNS}
    unwatched = {name: run(name, watch=False) for name in ("DDP, accumulation", "FSDP2, accumulation")}
    refused = {method: refusal("FSDP2", method=method) for method in ("split", "per_example")}
    everything = {"watched": results, "unwatched": unwatched, "refused": refused}
    with open(f"{folder}/rank{dist.get_rank()}.json", "w") as file:
        json.dump(everything, file)


if __name__ == "__main__":
    main(sys.argv[1])
