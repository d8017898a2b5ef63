"""Two processes, their gradients whole (DDP) or in shards (FSDP2), against plain autograd. Run by ``two_ranks``."""

from __future__ import annotations

import copy

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lightning_foresight.callbacks import GradientNoiseScaleCallback
from tests.contract.cases import state_of
from tests.contract.noise_cells import METHODS, YES, signs
from tests.reference.noise_runs import Observed, fit, loader


class Distributed(Observed):
    """Gathers what both ranks saw before it works out an observation."""

    def on_before_optimizer_step(self, optimizer):
        for name in ("micro_batches", "differences", "squares"):
            gathered = [None] * dist.get_world_size()
            dist.all_gather_object(gathered, getattr(self, name))
            setattr(self, name, [one for rank in gathered for one in rank])
        super().on_before_optimizer_step(optimizer)


class Sharded(Distributed):
    """Works out its observations on a whole copy of the network."""

    def configure_model(self):
        if "twin" not in self.__dict__:
            self.__dict__["twin"] = copy.deepcopy(self.net)  # not a submodule
            mesh = self.data_mesh()
            fully_shard(self.net[0], mesh=mesh)
            fully_shard(self.net, mesh=mesh)

    def data_mesh(self):
        return self.device_mesh["data_parallel"]

    def training_step(self, batch, batch_idx):
        weights = {name: p.full_tensor().detach().requires_grad_() for name, p in self.net.named_parameters()}
        twin_loss = F.cross_entropy(functional_call(self.twin, weights, (batch[0],)), batch[1])
        gradients = torch.autograd.grad(twin_loss, list(weights.values()))
        self.micro_batches.append((torch.cat([g.double().flatten() for g in gradients]), len(batch[0])))
        return self.losses(batch).mean()


class Hybrid(Sharded):
    """Two axes of devices: copies of each other along the first, shards along the second."""

    def data_mesh(self):
        return init_device_mesh("cpu", (dist.get_world_size(), 1), mesh_dim_names=("copies", "shards"))


def sharding():
    return ModelParallelStrategy(2, 1)


NOT_ON_SHARDS = 'expected "auto" or "micro_batches" under ModelParallelStrategy'
RUNS = {  # the cells that take two processes: model class, strategy, settings, verdicts as in noise_cells.CELLS
    "DDP": (Distributed, DDPStrategy, {}, (YES, YES, YES)),
    "DDP, accumulation": (Distributed, DDPStrategy, {"accumulate_grad_batches": 2}, (YES, YES, YES)),
    "FSDP2": (Sharded, sharding, {}, (YES, NOT_ON_SHARDS, NOT_ON_SHARDS)),
    "FSDP2, accumulation": (
        Sharded,
        sharding,
        {"accumulate_grad_batches": 2},
        (YES, NOT_ON_SHARDS, NOT_ON_SHARDS),
    ),
    "HSDP, accumulation": (
        Hybrid,
        sharding,
        {"accumulate_grad_batches": 2},
        (YES, NOT_ON_SHARDS, NOT_ON_SHARDS),
    ),
    "FSDP2, clipping": (Sharded, sharding, {"gradient_clip_val": 1e-3}, (YES, NOT_ON_SHARDS, NOT_ON_SHARDS)),
}


def run(name, method="micro_batches", watch=True):
    model_class, strategy, settings, _ = RUNS[name]
    torch.manual_seed(5)
    model = model_class(signs=signs if method == "split" else None, examples=method == "per_example")
    callback = GradientNoiseScaleCallback(method=method, decay=1.0, every_n_steps=1)
    data = DataLoader(loader(40).dataset, batch_size=8)
    trainer = fit(model, [callback] if watch else [], data=data, devices=2, strategy=strategy(), **settings)
    whole = [value.full_tensor() if hasattr(value, "full_tensor") else value for value in state_of(trainer).values()]
    last = callback.history.last()
    names = ("trace_sigma", "grad_sq_norm", "batch_size")
    return {
        "noise": model.noise,
        "signal": model.signal,
        "num_samples": last["gns/b_simple"].num_samples if watch else 0,
        "failures": callback.num_failures,
        "reported": {name: last[f"gns/{name}"].value for name in names} if watch else {},
        "weights": [float(value.double().sum()) for value in whole],
        "hooks": sum(len(module._forward_pre_hooks) for module in model.modules()),
    }


def outcome(name, method):
    try:
        return run(name, method)
    except ValueError as error:
        return str(error)


def others():
    """Everything else that a run can be asked for, at once."""
    callbacks = [
        GradientNoiseScaleCallback(hessian=1, every_n_steps=1),
        GradientNoiseScaleCallback(method="norm_layers", budget=1 / 3, prefix="norms"),
        GradientNoiseScaleCallback(window=2, every_n_steps=1, groups="layers", prefix="window"),
    ]
    torch.manual_seed(5)
    net = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3))
    fit(Observed(net), callbacks, data=DataLoader(loader(80).dataset, batch_size=20), devices=2, strategy="ddp")
    values = {key: row.value for callback in callbacks for key, row in callback.history.last().items()}
    return {"values": values, "failures": sum(callback.num_failures for callback in callbacks)}


def results(folder):
    watched = {name: {method: outcome(name, method) for method in METHODS} for name in RUNS}
    unwatched = {name: run(name, watch=False) for name in ("DDP, accumulation", "FSDP2, accumulation")}
    return {"watched": watched, "unwatched": unwatched, "others": others()}
