"""Watching must not change the run, whatever the run does."""

from __future__ import annotations

import warnings

import pytest
import pytorch_lightning as pl
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_foresight.callbacks import ForesightCallback
from tests.contract.cases import CALLBACKS, TinyModel, assert_same_run, fit

every_callback = pytest.mark.parametrize("name", CALLBACKS)


@every_callback
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"accumulate_grad_batches": 2},
        {"accumulate_grad_batches": 4},  # the last window of an epoch is partial: 6 batches
        {"gradient_clip_val": 0.1},
        {"precision": "bf16-mixed"},
        {"max_steps": 5, "val_check_interval": 2},
    ],
    ids=lambda settings: "-".join(f"{k}={v}" for k, v in settings.items()) or "plain",
)
def test_watched_run_ends_with_the_same_bits(name, settings):
    callback = CALLBACKS[name]()
    watched = fit(callback, **settings)
    assert len(callback.history) > 0
    assert callback.num_failures == 0
    assert_same_run(watched, fit(**settings))


@every_callback
def test_measuring_at_every_step_leaves_the_same_bits(name):
    callback = CALLBACKS[name](every_n_steps=1)
    assert_same_run(fit(callback, max_epochs=1), fit(max_epochs=1))
    assert len(callback.history) > 0


@every_callback
def test_fast_dev_run_passes(name):
    assert_same_run(fit(CALLBACKS[name](), fast_dev_run=True), fit(fast_dev_run=True))


class _BrokenStep(TinyModel):
    def training_step(self, batch, batch_idx):
        if self.global_step == 3:
            raise RuntimeError("the user's own error")
        return super().training_step(batch, batch_idx)


def _num_hooks(model: torch.nn.Module) -> int:
    on_modules = sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()
    )
    return on_modules + sum(len(p._backward_hooks or {}) for p in model.parameters())


@every_callback
def test_an_exception_in_the_run_keeps_what_was_measured_and_removes_the_hooks(name):
    callback = CALLBACKS[name](every_n_steps=1)
    model = _BrokenStep()
    with pytest.raises(RuntimeError, match="the user's own error"):
        fit(callback, model=model)
    assert len(callback.history) > 0
    assert _num_hooks(model) == 0


@every_callback
def test_no_hook_is_left_after_a_run(name):
    model = TinyModel()
    fit(CALLBACKS[name](), model=model)
    assert _num_hooks(model) == 0


class _Interrupted(TinyModel):
    def training_step(self, batch, batch_idx):
        if self.global_step == 3:
            raise KeyboardInterrupt
        return super().training_step(batch, batch_idx)


@every_callback
def test_an_interrupted_run_keeps_what_was_measured(name):
    callback, model = CALLBACKS[name](every_n_steps=1), _Interrupted()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(callback, model=model)
    assert len(callback.history) > 0
    assert _num_hooks(model) == 0


class _CountWaits(TorchDispatchMode):
    """Counts the operations with which the host waits for a number of the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


class _CountedModel(TinyModel):
    """Counts from the first batch to the last, where a wait costs time at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = _CountWaits()

    def on_train_batch_start(self, batch, batch_idx):
        if batch_idx == 1:
            self.waits.__enter__()

    def on_train_batch_start_last(self):
        self.waits.__exit__(None, None, None)

    def training_step(self, batch, batch_idx):
        if batch_idx == 5:
            self.on_train_batch_start_last()
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("name", ["ei", "gns"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_measuring_at_every_step_never_waits_for_the_device(name, accumulate):
    settings = {"max_epochs": 1, "log_every_n_steps": 50, "accumulate_grad_batches": accumulate}
    watched, unwatched = _CountedModel(), _CountedModel()
    kwargs = {"measures": ("weights",)} if name == "ei" else {}
    callback = CALLBACKS[name](every_n_steps=1, **kwargs)
    fit(callback, model=watched, **settings)
    fit(model=unwatched, **settings)
    assert len(callback.history) > 0
    assert watched.waits.count == unwatched.waits.count


@pytest.mark.parametrize("name", ["info_plane_binned", "info_plane_kde", "ei"])
def test_between_two_measurements_nothing_waits_for_the_device(name):
    watched, unwatched = _CountedModel(), _CountedModel()
    fit(CALLBACKS[name](), model=watched, max_epochs=1)
    fit(model=unwatched, max_epochs=1)
    assert watched.waits.count == unwatched.waits.count


class _Failing(ForesightCallback):
    default_prefix = "failing"

    def measure(self, trainer, pl_module):
        if self.event != "start":
            raise ZeroDivisionError("no luck")
        return {"value": torch.tensor(1.0)}


def test_a_failing_measure_warns_once_and_training_goes_on():
    callback = _Failing()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watched = fit(callback, max_epochs=3)
    messages = [str(w.message) for w in caught if "_Failing" in str(w.message)]
    assert len(messages) == 1
    assert "ZeroDivisionError: no luck" in messages[0]
    assert "Nothing is logged for this step and training goes on" in messages[0]
    assert callback.num_failures == 3
    assert [row.value for row in callback.history] == [1.0]
    assert_same_run(watched, fit(max_epochs=3))


class _NotANumber(ForesightCallback):
    default_prefix = "nan"

    def measure(self, trainer, pl_module):
        return {"value": torch.tensor(float("nan") if self.event == "epoch" else 1.0)}


def test_a_value_that_is_nan_is_reported_and_not_logged():
    callback = _NotANumber()
    with pytest.warns(
        UserWarning, match=r"step 5 \(epoch 1\) came out as NaN under nan/value; all parameters are finite"
    ):
        fit(callback, max_epochs=2)
    assert [row.value for row in callback.history] == [1.0]
    assert callback.num_failures == 2


def test_a_mistake_in_the_arguments_stops_the_run_before_it_starts():
    model = TinyModel()
    with pytest.raises(ValueError, match="no layer of the model has that name"):
        fit(CALLBACKS["info_plane_binned"](layers=["fc9"]), model=model)
    assert _num_hooks(model) == 0


def test_frozen_batchnorm_stays_in_its_mode():
    modes = []

    class Frozen(TinyModel):
        def on_train_batch_start(self, batch, batch_idx):
            self.net[1].eval()

        def training_step(self, batch, batch_idx):
            modes.append([module.training for module in self.net])
            return super().training_step(batch, batch_idx)

    watched = fit(CALLBACKS["info_plane_binned"](every_n_steps=1), model=Frozen)
    seen = modes.copy()
    modes.clear()
    assert_same_run(watched, fit(model=Frozen))
    assert seen == modes
    assert not seen[0][1]


def test_lightning_can_stop_early_on_a_measured_key_in_any_callback_order():
    stop = pl.callbacks.EarlyStopping("info_plane/net.2/I_XT", patience=1, mode="max", min_delta=100.0)
    trainer = fit([stop, CALLBACKS["info_plane_binned"]()], max_epochs=20)
    assert trainer.current_epoch == 2
