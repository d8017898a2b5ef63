"""Squared norms of per-example gradients by one package, timed against the plain step; prints a line of JSON.

Called by ``gradient_noise_scale.py`` as ``python _noise_peers.py <package> <network>``, with the peers on the path.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from _noise_networks import gpt_batch, linear_gpt, mlp, mlp_batch

from lightning_foresight.functional import per_example_sq_norms

BATCH = {"transformer_2M": 8, "mlp_17k": 32}


def network_and_batch(name):
    torch.manual_seed(0)
    net, (inputs, targets) = (linear_gpt(), gpt_batch(8)) if name == "transformer_2M" else (mlp(), mlp_batch(32))
    return net, inputs, targets


def loss_of(outputs, targets):
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def ours(net, inputs, targets):
    """Norms in the step's own backward pass, as the callback takes them."""
    from lightning_foresight.probes.gradient_examples import PerExampleObserver

    observer = PerExampleObserver(net, list(net.parameters()))

    def step():
        observer.before_forward(len(inputs))
        loss = loss_of(net(inputs), targets)
        observer.before_backward(loss, len(inputs), seed=0)
        loss.backward()
        return observer.collect().norms.square().sum()

    return net, step


def backpack(net, inputs, targets):
    from backpack import backpack as context
    from backpack import extend
    from backpack.extensions import BatchL2Grad

    net, criterion = extend(net), extend(torch.nn.CrossEntropyLoss())

    def step():
        outputs = net(inputs)
        with context(BatchL2Grad()):
            criterion(outputs.flatten(0, -2), targets.flatten()).backward()
        return torch.stack([p.batch_l2 for p in net.parameters()]).sum(0).mean() * len(inputs) ** 2

    return net, step


def opacus(net, inputs, targets):
    from opacus import GradSampleModule

    net = GradSampleModule(net, loss_reduction="mean")

    def step():
        loss_of(net(inputs), targets).backward()
        samples = [p.grad_sample for p in net.parameters()]
        square = torch.stack([g.flatten(1).square().sum(1) for g in samples]).sum(0).mean()
        for p in net.parameters():
            p.grad_sample = None
        return square

    return net, step


def vmap(net, inputs, targets):
    def step():
        loss_of(net(inputs), targets).backward()
        return per_example_sq_norms(net, loss_of, inputs, targets, method="func").mean()

    return net, step


def peak_bytes(step, net) -> int:
    """Most memory in use during a step and its update: parameters, AdamW's state, and what the step allocates."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)

    def update():
        step()
        optimizer.step()
        optimizer.zero_grad()

    update()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        update()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(np.cumsum(sizes).max()) + 3 * sum(p.numel() * p.element_size() for p in net.parameters())


def main(package: str, network: str) -> dict:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    net, inputs, targets = network_and_batch(network)
    exact = float(per_example_sq_norms(net, loss_of, inputs, targets, method="func").mean())
    plain, *_ = network_and_batch(network)
    result: dict = {}
    try:
        measured_net, measured = {"ours": ours, "backpack": backpack, "opacus": opacus, "vmap": vmap}[package](
            net, inputs, targets
        )
        found = float(measured())
        result["over_exact"] = found / exact
        optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-4) for m in (plain, measured_net)]

        def plain_step():
            loss_of(plain(inputs), targets).backward()

        ratios, repeats = [], 10 if network.startswith("transformer") else 60
        for _ in range(repeats):
            times = []
            for step, optimizer in zip((plain_step, measured), optimizers, strict=True):
                start = time.process_time()
                step()
                optimizer.step()
                optimizer.zero_grad()
                times.append(time.process_time() - start)
            ratios.append(times[1] / times[0])
        result["step"] = float(np.median(ratios[2:]))
        result["peak_memory"] = peak_bytes(measured, measured_net) / peak_bytes(plain_step, plain)
    except Exception as error:  # a peer that fails is a result, too
        result["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return result


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
