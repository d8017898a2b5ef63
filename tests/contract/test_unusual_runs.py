"""Runs that found a way around the promises once: they are kept here so that none does again."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, default_collate

from lightning_foresight import EICallback, GradientNoiseScaleCallback, InfoPlaneCallback
from tests.contract.cases import CALLBACKS, QUIET, TinyModel, assert_same_run, fit, tiny_data

every_callback = pytest.mark.parametrize("name", CALLBACKS)


class Parametrised(TinyModel):
    """Spectral norm moves on whenever its weight is read in training mode."""

    def __init__(self):
        super().__init__()
        nn.utils.parametrizations.spectral_norm(self.net[0])


class NoisyBackward(TinyModel):
    """Gradients with noise from the global generator, as in differentially private training."""

    def __init__(self):
        super().__init__()
        for parameter in self.parameters():
            parameter.register_hook(lambda gradient: gradient + 0.01 * torch.randn_like(gradient))


class Counting(TinyModel):
    """A forward that changes a buffer, in evaluation mode too, and logs."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        if self.trainer.training:
            self.log("in_forward", x.mean() + self.calls)
        return self.net(x) + 1e-3 * self.calls


class Replacing(TinyModel):
    """A forward that puts other tensors in the place of its buffers, and one that changes them without counting."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("first", None)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("variance", torch.ones(3))

    def forward(self, x):
        self.calls = self.calls + 1
        if self.first is None:
            self.first = x.mean().detach()
        outputs = nn.functional.batch_norm(self.net(x), self.mean, self.variance, training=True)
        return outputs + 1e-3 * (self.calls + self.first + self.mean)


@every_callback
@pytest.mark.parametrize("model", [Parametrised, NoisyBackward, Counting, Replacing])
def test_models_with_state_of_their_own_end_with_the_same_bits(name, model):
    watched = fit(CALLBACKS[name](every_n_steps=1), model=model, max_epochs=1)
    unwatched = fit(model=model, max_epochs=1)
    assert_same_run(watched, unwatched)
    logged = (run.callback_metrics.get("in_forward", torch.zeros(())) for run in (watched, unwatched))
    assert torch.equal(*logged)


class Stream(IterableDataset):
    def __iter__(self):
        inputs, targets = tiny_data()[1].dataset.tensors
        yield from zip(inputs, targets, strict=True)


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield from Stream()


@every_callback
def test_figures_of_a_run_in_an_endless_epoch_are_drawn_over_steps(name):
    callback = CALLBACKS[name](every_n_steps=2)
    torch.manual_seed(0)
    trainer = pl.Trainer(**QUIET, max_steps=8, callbacks=callback, log_every_n_steps=2)
    trainer.fit(TinyModel(), DataLoader(Endless(), batch_size=8))
    assert callback.num_failures == 0
    assert {row.epoch for row in callback.history} == {0.0}
    assert {row.step for row in callback.history} == {1, 3, 5, 7}
    for figure in callback.figures().values():
        labels = {text for axes in figure.axes for text in (axes.get_xlabel(), axes.get_ylabel())}
        assert "step" in labels
        assert "epochs completed" not in labels


@pytest.mark.parametrize("name", ["ei", "info_plane", "pid"])
def test_workers_that_a_loader_keeps_are_not_restarted(name):
    class CountBatches(TinyModel):
        seen = 0

        def training_step(self, batch, batch_idx):
            type(self).seen += 1
            return super().training_step(batch, batch_idx)

    loader = DataLoader(Stream(), batch_size=8, num_workers=1, persistent_workers=True)
    trainer = pl.Trainer(**QUIET, max_epochs=2, callbacks=CALLBACKS[name]())
    trainer.fit(CountBatches(), loader)
    assert CountBatches.seen == 12


@every_callback
def test_lazy_layers_are_refused_before_training(name):
    class Lazy(TinyModel):
        def __init__(self):
            super().__init__()
            self.net[0] = nn.LazyLinear(8)

    with pytest.raises(ValueError, match="lazy layers without weights yet"):
        fit(CALLBACKS[name](), model=Lazy)


@every_callback
@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_the_precision_of_the_run_is_that_of_the_measurement(name, precision):
    callback = CALLBACKS[name]()
    assert_same_run(fit(callback, precision=precision), fit(precision=precision))
    assert callback.num_failures == 0
    assert len(callback.history) > 0


@dataclass
class Batch:
    x: torch.Tensor
    y: torch.Tensor

    @classmethod
    def collate(cls, items):
        return cls(*default_collate(items))


@every_callback
def test_batches_may_be_dataclasses(name):
    class OfDataclasses(TinyModel):
        def training_step(self, batch, batch_idx):
            return nn.functional.cross_entropy(self(batch.x), batch.y)

        def validation_step(self, batch, batch_idx):
            pass

    def run(callbacks):
        torch.manual_seed(0)
        trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=callbacks)
        trainer.fit(OfDataclasses(), *(DataLoader(tiny_data()[0].dataset, 8, collate_fn=Batch.collate),) * 2)
        return trainer

    callback = CALLBACKS[name]()
    assert_same_run(run(callback), run([]))
    assert callback.num_failures == 0
    assert len(callback.history) > 0


@pytest.mark.parametrize(
    "settings",
    [
        {"overfit_batches": 1},
        {"limit_train_batches": 2, "limit_val_batches": 0},
        {"inference_mode": False, "use_distributed_sampler": False},
        {"barebones": True, "logger": None, "enable_checkpointing": None}
        | {"enable_progress_bar": None, "enable_model_summary": None, "num_sanity_val_steps": None},
    ],
    ids=["overfit_batches", "limits", "inference_mode", "barebones"],
)
def test_all_callbacks_at_once_leave_unusual_trainers_alone(settings):
    callbacks = [CALLBACKS[name]() for name in ("ei", "gns", "info_plane", "pid")]
    assert_same_run(fit(callbacks, **settings), fit(**settings))
    assert [callback.num_failures for callback in callbacks] == [0] * 4
    assert all(len(callback.history) for callback in callbacks)


def test_another_fit_of_a_trainer_that_has_ended_keeps_what_was_measured():
    callbacks = [CALLBACKS[name](every_n_steps=1) for name in ("ei", "gns", "info_plane", "pid")]
    trainer = fit(callbacks, max_epochs=1)
    rows = [len(callback.history) for callback in callbacks]
    trainer.fit(trainer.lightning_module, *tiny_data())
    assert [len(callback.history) for callback in callbacks] == rows
    trainer.fit_loop.max_epochs = 2
    trainer.fit(trainer.lightning_module, *tiny_data())
    assert all(len(callback.history) > before for callback, before in zip(callbacks, rows, strict=True))


@pytest.mark.parametrize("name", ["ei", "info_plane", "pid"])
def test_transfer_hooks_are_applied(name):
    class Normalising(TinyModel):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return batch[0].float() / 255, batch[1]

    inputs = torch.randint(0, 256, (48, 6), dtype=torch.uint8)
    loader = DataLoader(TensorDataset(inputs, torch.arange(48) % 3), batch_size=8)
    callback = CALLBACKS[name]()
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=callback)
    trainer.fit(Normalising(), loader, loader)
    assert callback.num_failures == 0
    assert len(callback.history) > 0


def test_a_schedule_that_raises_does_not_kill_the_run():
    def bad(count):
        if count >= 2:
            raise ZeroDivisionError("user schedule")
        return True

    bad.unit = "steps"
    with pytest.warns(UserWarning, match="user schedule"):
        watched = fit(GradientNoiseScaleCallback(schedule=bad))
    assert_same_run(watched, fit())


def test_validating_an_old_checkpoint_forgets_nothing(tmp_path):
    callback = EICallback(measures=["weights"])
    keep = pl.callbacks.ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}")
    trainer = fit([callback, keep], max_epochs=4, enable_checkpointing=True)
    rows = len(callback.history)
    trainer.validate(trainer.lightning_module, tiny_data()[1], ckpt_path=str(tmp_path / "epoch=0.ckpt"), verbose=False)
    assert len(callback.history) == rows


class Apart(TinyModel):
    """A layer that forward never calls."""

    def __init__(self):
        super().__init__()
        self.apart = nn.Sequential(nn.Linear(2, 2), nn.Tanh())


def test_a_layer_apart_does_not_cost_the_others():
    callback = InfoPlaneCallback()
    fit(callback, model=Apart, max_epochs=1)
    # The last layer with weights, which the default takes besides activations, is the one apart.
    assert {key.split("/")[1] for key in callback.history.keys()} == {"net.2", "net.5"}  # noqa: SIM118
    with pytest.raises(ValueError, match=r"apart\.0 never called in a forward pass"):
        fit(InfoPlaneCallback(layers=["apart.0", "net.2"]), model=Apart)


def test_a_model_that_cannot_be_run_says_what_to_override():
    class TwoInputs(TinyModel):
        def forward(self, x, z):
            return self.net(x + z)

        def training_step(self, batch, batch_idx):
            return nn.functional.cross_entropy(self(batch[0], batch[0]), batch[1])

        def validation_step(self, batch, batch_idx):
            pass

    with pytest.raises(ValueError, match=r"TwoInputs cannot be run on an example batch .*override run_model"):
        fit(EICallback(), model=TwoInputs)
    with pytest.raises(ValueError, match=r"InfoPlaneCallback: the model cannot be run on the samples .*run_model"):
        fit(InfoPlaneCallback(), model=TwoInputs)

    class WithExample(TwoInputs):
        def __init__(self):
            super().__init__()
            self.example_input_array = (torch.randn(2, 6), torch.randn(2, 6))

    callback = EICallback(in_bins=4, out_bins=4, in_range=(-1, 1))
    fit(callback, model=WithExample, max_epochs=1)
    assert len(callback.history) > 0


@every_callback
def test_callbacks_pickle_for_processes_that_are_spawned(name):
    assert pickle.loads(pickle.dumps(CALLBACKS[name]())).prefix == CALLBACKS[name]().prefix
