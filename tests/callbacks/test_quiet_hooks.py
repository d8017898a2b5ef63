"""Hooks that the Trainer passes over where nothing is due, and who may not miss them."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from pytorch_lightning import Callback

from lightning_foresight.callbacks import EICallback, GradientNoiseScaleCallback, _quiet_hooks
from lightning_foresight.callbacks.gradient_noise_scale import HOOKS_OF_OBSERVED_STEPS
from tests.contract.noise_cells import Manual
from tests.reference.noise_runs import Observed, fit


class Counts(GradientNoiseScaleCallback):
    """Notes at which steps Lightning finds a hook to call."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self.awake = [*getattr(self, "awake", []), callable(self.on_before_backward)]


def run(callback, *others, model=Observed, **settings):
    torch.manual_seed(0)
    fit(model(), [callback, *others], **({"max_epochs": 2, "log_every_n_steps": 5} | settings))
    return callback


def steps(callback):
    return [step for step, awake in enumerate(callback.awake, 1) if awake]


def test_only_steps_that_are_observed_or_report_something_are_awake():
    callback = run(Counts(every_n_steps=4))
    assert steps(callback) == [4, 5, 8, 10, 12]  # the report of 12 is that of its epoch
    assert callback.history.last()["gns/b_simple"].num_samples == 3
    assert not set(HOOKS_OF_OBSERVED_STEPS) & set(vars(callback))


def test_micro_batches_of_an_observed_step_are_all_awake():
    assert steps(run(Counts(every_n_steps=2), accumulate_grad_batches=3, log_every_n_steps=50)) == [4, 5, 6, 10, 11, 12]


def test_the_last_callback_of_several_writes_at_every_logging_step():
    callback = run(Counts(every_n_steps=100), EICallback(), log_every_n_steps=4)
    assert steps(callback) == [4, 8, 12]


@pytest.mark.parametrize("reason", ["manual", "rule", "wrapped", "lightning"])
def test_hooks_stay_where_somebody_may_call_them(reason, monkeypatch):
    class Rule(Counts):
        def should_measure(self, trainer, pl_module):
            return super().should_measure(trainer, pl_module)

    if reason == "lightning":
        monkeypatch.setattr(_quiet_hooks, "passes_over_none", lambda trainer: False)
    if reason == "wrapped":
        names = _quiet_hooks.silenceable(Counts(), GradientNoiseScaleCallback, HOOKS_OF_OBSERVED_STEPS, _Bare())
        assert names == []
        return
    kind = Rule if reason == "rule" else Counts
    callback = run(kind(every_n_steps=4), model=Manual if reason == "manual" else Observed)
    assert all(callback.awake)


class _Bare:
    callbacks = ()


def test_hooks_that_a_subclass_or_an_instance_overrides_are_called_at_every_step():
    class Overrides(Counts):
        def on_after_backward(self, trainer, pl_module):
            super().on_after_backward(trainer, pl_module)
            self.num_calls = getattr(self, "num_calls", 0) + 1

    callback = Overrides(every_n_steps=4)
    called = []
    callback.on_before_zero_grad = lambda *args: called.append(args)
    run(callback)
    assert callback.num_calls == len(called) == 12
    assert callback.history.last()["gns/b_simple"].num_samples == 3


@pytest.mark.parametrize("name", HOOKS_OF_OBSERVED_STEPS)
def test_a_hook_that_a_subclass_passes_on_changes_nothing_under_accumulation(name):
    def pass_on(self, *args, **kwargs):
        return getattr(super(kind, self), name)(*args, **kwargs)

    kind = type("PassesOn", (GradientNoiseScaleCallback,), {name: pass_on})
    settings = {"accumulate_grad_batches": 2, "log_every_n_steps": 3, "max_epochs": 4}
    plain, ours = (run(one(every_n_steps=2), **settings).history for one in (GradientNoiseScaleCallback, kind))
    values = [
        [(row.step, row.value, row.num_samples) for row in rows if row.key == "gns/b_simple"] for rows in (plain, ours)
    ]
    assert values[0] == values[1]
    assert [step for step, *_ in values[0]] == [2, 5, 8, 11]


class At(Callback):
    """Does something to another callback while its hooks are silent."""

    def __init__(self, target, do):
        self.target, self.do = target, do

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == 2:
            assert self.target.on_after_backward is None
            self.result = self.do(self.target)


def steps_of(callback):
    return [(row.step, row.value) for row in callback.history if row.key == "gns/b_simple"]


def pickled(callback):
    return pickle.loads(pickle.dumps(callback))


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickled])
def test_a_copy_made_while_the_hooks_are_silent_measures_and_leaves_the_original_alone(make):
    original = GradientNoiseScaleCallback(every_n_steps=4)
    at = At(original, make)
    run(original, at)
    assert not set(HOOKS_OF_OBSERVED_STEPS) & set(vars(at.result))
    assert len(steps_of(original)) == 3
    assert steps_of(run(at.result)) == steps_of(original)


def test_a_callback_that_was_left_with_silent_hooks_measures_in_the_next_run():
    class Fails(At):
        def on_exception(self, trainer, pl_module, exception):
            raise RuntimeError("before ours")

    def fail(target):
        raise KeyError("step")

    callback = GradientNoiseScaleCallback(every_n_steps=4)
    torch.manual_seed(0)
    with pytest.raises(RuntimeError, match="before ours"):
        fit(Observed(), [Fails(callback, fail), callback], max_epochs=2, log_every_n_steps=5)
    assert callback.on_after_backward is None
    assert steps_of(run(callback)) == steps_of(run(GradientNoiseScaleCallback(every_n_steps=4)))


def test_an_error_while_the_last_values_are_written_wakes_the_hooks(monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    callback = GradientNoiseScaleCallback(every_n_steps=100)
    monkeypatch.setattr(callback, "_draw", fail)
    with pytest.raises(OSError, match="disk full"):
        run(callback, log_every_n_steps=100)
    assert not set(HOOKS_OF_OBSERVED_STEPS) & set(vars(callback))


def test_a_run_that_fails_wakes_the_hooks():
    class Fails(Observed):
        def training_step(self, batch, batch_idx):
            if self.global_step == 3:
                raise KeyError("step")
            return super().training_step(batch, batch_idx)

    callback = Counts(every_n_steps=100)
    with pytest.raises(KeyError):
        run(callback, model=Fails)
    assert not set(HOOKS_OF_OBSERVED_STEPS) & set(vars(callback))
