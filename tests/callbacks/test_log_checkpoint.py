from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_foresight import EICallback, LogCheckpoint, LogSchedule
from lightning_foresight.schedule import Every
from tests.contract.cases import QUIET, TinyModel, assert_same_run, fit, tiny_data


def _epochs(callback: LogCheckpoint) -> list[float]:
    return [float(path.stem.removeprefix("epoch=")) for path in callback.saved]


@pytest.mark.parametrize(
    ("arguments", "moments"),
    [
        ({"schedule": LogSchedule(4, 3)}, [0, 1, 2, 4]),
        ({"schedule": Every(2), "start": False}, [2, 4]),
        ({"schedule": lambda epoch: epoch == 3}, [0, 3]),
        ({"schedule": Every(5, "steps"), "start": False}, [5 / 6, 10 / 6, 15 / 6, 20 / 6]),
        ({"epochs": (0.5, 1, 1.01, 3)}, [0, 0.5, 1, 7 / 6, 3]),
    ],
)
def test_checkpoints_are_saved_at_the_moments_asked_for(arguments, moments, tmp_path):
    callback = LogCheckpoint(tmp_path, **arguments)
    fit(callback, max_epochs=4)  # of 6 steps each
    assert _epochs(callback) == pytest.approx(moments, abs=1e-5)
    assert all(path.exists() for path in callback.saved)


@pytest.mark.parametrize(
    ("moments", "batches", "accumulate", "saved"),
    [
        ((1.1,), 10, 1, [1.1]),
        ((1.1, 1.3), 10, 1, [1.1, 1.3]),
        ((0.1,), 20, 1, [0.1]),
        ((5 / 3,), 3, 1, [5 / 3]),
        ((1.0,), 3, 2, [1.0]),
        ((0.7,), 10, 4, [0.8]),
        ((1, 2), 3, 4, [1, 2]),
    ],
)
def test_every_moment_is_saved_once_whatever_the_number_of_batches(moments, batches, accumulate, saved, tmp_path):
    callback = LogCheckpoint(tmp_path, epochs=moments, start=False)
    inputs, targets = tiny_data()[0].dataset.tensors
    loader = DataLoader(TensorDataset(inputs[: 2 * batches], targets[: 2 * batches]), batch_size=2)
    trainer = pl.Trainer(**QUIET, max_epochs=2, accumulate_grad_batches=accumulate, callbacks=callback)
    trainer.fit(TinyModel(), loader)
    assert _epochs(callback) == pytest.approx(saved, abs=1e-5)


def test_a_run_resumed_from_a_checkpoint_is_the_run_that_was_never_interrupted(tmp_path):
    whole = fit(LogCheckpoint(tmp_path / "whole", schedule=Every(2)), max_epochs=4)
    fit(LogCheckpoint(tmp_path / "half", schedule=Every(2)), max_epochs=2)
    resumed = fit(
        LogCheckpoint(tmp_path / "half", schedule=Every(2)),
        max_epochs=4,
        ckpt_path=str(tmp_path / "half" / "epoch=000002.00000.ckpt"),
    )
    assert_same_run(resumed, whole)


def test_saving_leaves_the_run_alone(tmp_path):
    assert_same_run(fit(LogCheckpoint(tmp_path, epochs=(0.3, 0.9, 1.5)), max_epochs=2), fit(max_epochs=2))


def test_weights_of_the_start_are_those_of_the_untrained_network(tmp_path):
    torch.manual_seed(0)
    untrained = TinyModel().state_dict()
    callback = LogCheckpoint(tmp_path, epochs=(1,))
    fit(callback, max_epochs=1)
    saved = torch.load(callback.saved[0], weights_only=True)["state_dict"]
    assert all(torch.equal(saved[key], value) for key, value in untrained.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "expected exactly one of schedule= and epochs="),
        ({"schedule": Every(1), "epochs": (1,)}, "expected exactly one of schedule= and epochs="),
        ({"schedule": 5}, r"LogCheckpoint\(schedule=5\): expected LogSchedule"),
        ({"epochs": (0, 1)}, r"LogCheckpoint\(epochs=\(0, 1\)\): expected positive numbers"),
        ({"epochs": 5}, r"LogCheckpoint\(epochs=5\): expected positive numbers, as \(0.1, 1, 10\)"),
        ({"epochs": ()}, r"LogCheckpoint\(epochs=\(\)\): expected positive numbers"),
        ({"epochs": ("1",)}, r"LogCheckpoint\(epochs=\('1',\)\): expected positive numbers"),
    ],
)
def test_mistakes_are_named(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        LogCheckpoint(tmp_path, **arguments)


def test_mistaken_types_are_named(tmp_path):
    with pytest.raises(TypeError, match=r"LogCheckpoint\(dirpath=5\): expected the path of a folder"):
        LogCheckpoint(5, epochs=(1,))
    with pytest.raises(TypeError, match=r"LogCheckpoint\(start='no'\): expected True or False"):
        LogCheckpoint(tmp_path, epochs=(1,), start="no")


class Stream(IterableDataset):
    def __iter__(self):
        return iter(tiny_data()[1].dataset)


def test_epochs_of_unknown_length_are_saved_at_their_end_and_steps_by_number(tmp_path):
    loader = DataLoader(Stream(), batch_size=8)  # 6 steps
    for folder, arguments, names in [
        ("epochs", {"epochs": (0.5, 1, 2)}, ["000000.00000", "000001.00000", "000002.00000"]),
        (
            "steps",
            {"schedule": Every(4, "steps")},
            ["000000.00000", "000000.00000-step=4", "000001.00000-step=8", "000002.00000"],
        ),
    ]:
        callback = LogCheckpoint(tmp_path / folder, **arguments)
        trainer = pl.Trainer(**QUIET, max_epochs=2, callbacks=[callback])
        trainer.fit(TinyModel(), loader)
        assert [path.stem.removeprefix("epoch=") for path in callback.saved] == names
        assert len(set(callback.saved)) == len(callback.saved)


def test_a_trial_run_saves_nothing(tmp_path):
    callback = LogCheckpoint(tmp_path, epochs=(1,))
    fit(callback, fast_dev_run=True)
    assert callback.saved == []
    assert not list(tmp_path.iterdir())


def test_a_run_that_stops_within_an_epoch_says_so(tmp_path):
    saver, ei = LogCheckpoint(tmp_path, schedule=Every(1)), EICallback(measures=("weights",))
    fit([saver, ei], max_steps=9, max_epochs=-1)  # of 6 steps an epoch
    assert _epochs(saver) == [0, 1, 1.5]
    assert [(row.step, row.epoch) for row in ei.history["ei/network"]] == [(0, 0), (5, 1), (8, 1.5)]
    resumed = EICallback(measures=("weights",))
    fit(resumed, ckpt_path=str(saver.saved[-1]), max_epochs=3)
    # Lightning counts the broken epoch and begins the next.
    assert [(row.step, row.epoch) for row in resumed.history["ei/network"]] == [(0, 0), (5, 1), (8, 1.5), (14, 3)]


def test_a_run_that_stops_early_at_the_end_of_an_epoch_counts_it_whole():
    class Stopping(TinyModel):
        def on_train_epoch_end(self):
            self.trainer.should_stop = True

    ei = EICallback(measures=("weights",))
    fit(ei, model=Stopping, max_epochs=4, min_epochs=2)
    assert [row.epoch for row in ei.history["ei/network"]] == [0, 1, 2]


@pytest.mark.parametrize("saver_first", [True, False])
def test_a_checkpoint_within_an_epoch_holds_what_is_measured_at_its_step(saver_first, tmp_path):
    def callbacks(folder):
        saver = LogCheckpoint(tmp_path / folder, schedule=Every(4, "steps"))
        ei = EICallback(measures=("weights",), every_n_steps=4)
        return [saver, ei] if saver_first else [ei, saver]

    whole = callbacks("whole")
    fit(whole, max_epochs=2)
    (saver,) = (one for one in whole if isinstance(one, LogCheckpoint))
    resumed = callbacks("resumed")
    fit(resumed, max_epochs=2, ckpt_path=str(saver.saved[1]))  # after 4 steps
    moments, again = (
        [(row.step, row.key) for one in run if isinstance(one, EICallback) for row in one.history]
        for run in (whole, resumed)
    )
    assert again == moments
    assert {step for step, _ in moments} == {3, 7, 11}


def test_a_saver_leaves_other_callbacks_in_their_order(tmp_path):
    first, last = pl.Callback(), pl.callbacks.ModelCheckpoint(tmp_path / "other")
    ei, saver = EICallback(measures=("weights",)), LogCheckpoint(tmp_path, epochs=(1,))
    trainer = fit([first, saver, ei, last], max_epochs=1, enable_checkpointing=True)
    assert trainer.callbacks == [first, ei, saver, last]


def test_two_savers_into_one_folder_are_refused(tmp_path):
    savers = [LogCheckpoint(tmp_path, epochs=(1,)), LogCheckpoint(tmp_path, epochs=(2,))]
    with pytest.raises(ValueError, match=r"LogCheckpoint\(dirpath='.*'\): another one saves there; give each its own"):
        fit(savers, max_epochs=1)


def test_validating_a_checkpoint_leaves_the_random_states_alone(tmp_path):
    saver = LogCheckpoint(tmp_path, epochs=(1,))
    trainer = fit(saver, max_epochs=1)
    trainer.validate(TinyModel(), tiny_data()[1], ckpt_path=str(saver.saved[-1]), verbose=False)
    torch.manual_seed(5)
    saver.on_fit_start(trainer, trainer.lightning_module)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))


def test_random_states_are_taken_from_a_checkpoint_that_was_moved(tmp_path):
    saver = LogCheckpoint(tmp_path / "here", epochs=(1,))
    whole = fit(saver, max_epochs=2)
    moved = saver.saved[-1].rename(tmp_path / "moved.ckpt")
    resumed = fit(LogCheckpoint(tmp_path / "there", epochs=(9,)), max_epochs=2, ckpt_path=str(moved))
    assert_same_run(resumed, whole)
