"""In every kind of run, what the callback reports is what plain autograd finds at each step."""

from __future__ import annotations

import pytest
import torch
import torch._functorch.config
import torch.nn.functional as F
from pytorch_lightning.callbacks import BaseFinetuning, GradientAccumulationScheduler
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from lightning_foresight.callbacks import GradientNoiseScaleCallback
from lightning_foresight.probes.gradient_split import balanced_signs
from tests.contract.cases import assert_same_run
from tests.reference.noise_runs import Observed, fit


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))[:, :3]


class SparseEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(5, 4, sparse=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.table((x * 2).long().clamp(-2, 2) + 2).mean(1))


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x):
        return self.used(x)


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8)), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(checkpoint(self.body, x, use_reentrant=False))


class ReentrantlyCheckpointed(Checkpointed):
    def forward(self, x):
        return self.head(checkpoint(self.body, x.requires_grad_(), use_reentrant=True))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(1, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.block(self.embed(x.unsqueeze(-1))).mean(1))


def mlp(*between):
    return nn.Sequential(nn.Linear(6, 8), *between, nn.Tanh(), nn.Linear(8, 3))


def frozen_first():
    net = mlp()
    net[0].requires_grad_(False)
    return net


def normed():
    net = mlp()
    parametrizations.weight_norm(net[0])
    return net


class Unfreeze(BaseFinetuning):
    def freeze_before_training(self, pl_module):
        self.freeze(pl_module.net[0])

    def finetune_function(self, pl_module, epoch, optimizer):
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.net[0], optimizer)


class SkipsSome(Observed):
    def training_step(self, batch, batch_idx):
        return None if batch_idx in (1, 3) else super().training_step(batch, batch_idx)


class SkipsAll(Observed):
    def training_step(self, batch, batch_idx):
        return None if batch_idx < 4 else super().training_step(batch, batch_idx)


class Manual(Observed):
    """Two batches make a step; their losses are not divided."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        losses = self.losses(batch)
        self.observe(losses, losses.mean())
        self.manual_backward(losses.mean())
        if batch_idx % 2 == 1:
            optimizer.step()
            optimizer.zero_grad()


class DictBatch(Observed):
    def losses(self, batch):
        return F.cross_entropy(self.net(batch["x"]), batch["y"], reduction="none")

    def on_before_batch_transfer(self, batch, dataloader_idx):
        return {"x": batch[0], "y": batch[1]}


class Adam(Observed):
    optimizer = staticmethod(lambda parameters: torch.optim.AdamW(parameters, lr=0.01))


class PlainSGD(Observed):
    optimizer = staticmethod(lambda parameters: torch.optim.SGD(parameters, lr=0.05))


EXACT = 1e-5
CASES = {  # model class, network, trainer settings, tolerance
    "mlp": (Observed, mlp, {}, EXACT),
    "adam": (Adam, mlp, {}, EXACT),
    "transformer": (Observed, Transformer, {}, EXACT),
    "batch_norm": (Observed, lambda: mlp(nn.BatchNorm1d(8)), {}, EXACT),
    "dropout": (Observed, lambda: mlp(nn.Dropout(0.5)), {}, EXACT),
    "tied_weights": (Observed, Tied, {}, EXACT),
    "sparse_gradients": (PlainSGD, SparseEmbedding, {}, EXACT),
    "unused_parameters": (Observed, Unused, {}, EXACT),
    "frozen_parameters": (Observed, frozen_first, {}, EXACT),
    "parametrization": (Observed, normed, {}, EXACT),
    "checkpointing": (Observed, Checkpointed, {}, EXACT),
    "clip_by_norm": (Observed, mlp, {"gradient_clip_val": 1e-3}, EXACT),
    "clip_by_value": (Observed, mlp, {"gradient_clip_val": 1e-4, "gradient_clip_algorithm": "value"}, EXACT),
    "some_steps_skipped": (SkipsSome, mlp, {}, EXACT),
    "a_whole_window_skipped": (SkipsAll, mlp, {}, EXACT),
    "mapping_batches": (DictBatch, mlp, {}, EXACT),
    "manual_optimization": (Manual, mlp, {"accumulate_grad_batches": 1, "method": "micro_batches"}, EXACT),
    "gradient_checking": (Observed, mlp, {"detect_anomaly": True}, EXACT),
    "double_precision": (Observed, mlp, {"precision": "64-true"}, EXACT),
    # Half precision rounds the loss's scale or the reduced gradients differently from the unscaled twin.
    "bf16_mixed": (Observed, mlp, {"precision": "bf16-mixed"}, 2e-2),
    "bf16_true": (Observed, mlp, {"precision": "bf16-true"}, 5e-2),
    "fp16_with_scaler": (Observed, mlp, {"plugins": "scaler"}, 1e-2),
    "compiled": (Observed, lambda: torch.compile(mlp(), backend="aot_eager"), {}, EXACT),
    "unfreezing": (Observed, mlp, {"callbacks": [Unfreeze]}, EXACT),
}


def signs(length, step):
    return balanced_signs(length, torch.Generator().manual_seed(step))


@pytest.mark.parametrize("accumulate", [1, 4])  # 6 batches an epoch: with 4 the last window is partial
@pytest.mark.parametrize("name", CASES)
def test_moments_agree_with_plain_autograd(name, accumulate):
    model_class, net, settings, tolerance = CASES[name]
    settings = {"accumulate_grad_batches": accumulate} | settings
    others = [other() for other in settings.pop("callbacks", [])]
    if settings.get("plugins") == "scaler":
        # Under accumulation the scale is too large at first, so that some steps overflow and are skipped.
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0 ** (18 if accumulate > 1 else 8), growth_interval=4)
        settings["plugins"] = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    method = settings.pop("method", "auto")
    micro_batches = accumulate > 1 or method == "micro_batches"
    torch.manual_seed(7)
    model = model_class(net(), signs=None if micro_batches else signs)
    callback = GradientNoiseScaleCallback(method=method, decay=1.0, every_n_steps=1)
    # The twin, and a split, pass through a compiled module's graph before the real backward pass does.
    with torch._functorch.config.patch(donated_buffer=False):
        fit(model, [callback, *others], **settings)
    assert callback.method_in_use == ("micro_batches" if micro_batches else "split")
    assert callback.num_failures == 0
    last = callback.history.last()
    noise, signal = torch.tensor(model.noise), torch.tensor(model.signal)
    assert last["gns/b_simple"].num_samples == len(noise)
    assert last["gns/trace_sigma"].value == pytest.approx(float(noise.mean()), rel=tolerance)
    # Unbiased is signed: the mean may come near 0, its parts do not.
    scale = float(signal.abs().mean() + noise.mean() / 8)
    assert last["gns/grad_sq_norm"].value == pytest.approx(float(signal.mean()), abs=tolerance * scale)


class Convolutional(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
        )


PER_EXAMPLE = {
    "convolutional": (Observed, Convolutional, {}, EXACT),
    **{
        name: CASES[name]
        for name in (
            "mlp",
            "dropout",
            "tied_weights",
            "unused_parameters",
            "frozen_parameters",
            "checkpointing",
            "clip_by_norm",
            "some_steps_skipped",
            "mapping_batches",
            "double_precision",
            "unfreezing",
            "bf16_mixed",
        )
    },
}


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("name", PER_EXAMPLE)
def test_per_example_moments_agree_with_plain_autograd(name, accumulate):
    model_class, net, settings, tolerance = PER_EXAMPLE[name]
    settings = {"accumulate_grad_batches": accumulate} | settings
    others = [other() for other in settings.pop("callbacks", [])]
    torch.manual_seed(7)
    model = model_class(net(), examples=True)
    callback = GradientNoiseScaleCallback(method="per_example", decay=1.0, every_n_steps=1)
    fit(model, [callback, *others], **settings)
    assert callback.num_failures == 0
    last = callback.history.last()
    noise, signal = torch.tensor(model.noise), torch.tensor(model.signal)
    assert last["gns/b_simple"].num_samples == len(noise)
    assert last["gns/trace_sigma"].value == pytest.approx(float(noise.mean()), rel=tolerance)
    scale = float(signal.abs().mean() + noise.mean() / 8)
    assert last["gns/grad_sq_norm"].value == pytest.approx(float(signal.mean()), abs=tolerance * scale)


@pytest.mark.parametrize(
    ("net", "text"),
    [
        (Transformer, r"no outer products for net.block.self_attn.in_proj_weight, .*use method=.split"),
        (ReentrantlyCheckpointed, r"no outer products for net.body.0.weight.* neither compiled nor checkpointed with"),
        (lambda: mlp(nn.BatchNorm1d(8)), r"BatchNorm1d 'net.1' is in training mode and couples the examples"),
    ],
)
def test_what_outer_products_cannot_measure_is_refused_by_name_and_the_run_goes_on(net, text):
    callback = GradientNoiseScaleCallback(method="per_example")
    with pytest.warns(UserWarning, match=text):
        watched = fit(fresh(net), callback)
    assert len(callback.history) == 0
    assert_same_run(watched, fit(fresh(net), []))


def test_per_example_leaves_the_bits_and_no_hooks():
    callback = GradientNoiseScaleCallback(method="per_example", every_n_steps=1)
    model = fresh(Convolutional)
    watched = fit(model, callback)
    assert len(callback.history) > 0
    assert not any(module._forward_hooks for module in model.modules())
    assert_same_run(watched, fit(fresh(Convolutional), []))


def fresh(net):
    torch.manual_seed(0)
    return Observed(net())


def test_an_accumulation_scheduler_switches_the_method():
    model = Observed()
    callback = GradientNoiseScaleCallback(decay=1.0, every_n_steps=1)
    fit(model, [callback, GradientAccumulationScheduler({0: 1, 1: 2, 2: 3})], max_epochs=3)
    methods = {row.epoch: row.num_samples for row in callback.history["gns/b_simple"]}
    assert callback.method_in_use == "micro_batches"
    assert list(methods.values()) == [6, 9, 11]


def test_manual_optimization_is_taken_as_it_comes():
    callback = GradientNoiseScaleCallback(every_n_steps=1)
    fit(Manual(), callback)
    assert callback.method_in_use == "micro_batches"  # from the second epoch on: two were seen in the first
    assert callback.num_failures == 0
