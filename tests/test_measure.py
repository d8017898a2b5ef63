from __future__ import annotations

import csv
import multiprocessing

import pytest
import pytorch_lightning as pl
import torch

from lightning_foresight import EICallback, GradientNoiseScaleCallback, InfoPlaneCallback, LogCheckpoint
from lightning_foresight.measure import _append, measure_checkpoints, read_measurements
from lightning_foresight.schedule import Every
from tests.contract.cases import QUIET, TinyModel, fit, tiny_data


def _callbacks():
    return [EICallback(in_bins=4, out_bins=4), InfoPlaneCallback(num_samples=32)]


def _run(tmp_path):
    saver, live = LogCheckpoint(tmp_path / "checkpoints", schedule=Every(1)), _callbacks()
    fit([saver, *live], max_epochs=3)
    return saver.saved, live


def _measure(paths, callbacks, output):
    train, val = tiny_data()
    return measure_checkpoints(TinyModel(), paths, callbacks, train_dataloader=train, val_dataloader=val, output=output)


def _read(output):
    with open(output) as file:
        return list(csv.DictReader(file))


def test_checkpoints_give_the_values_that_were_measured_live(tmp_path):
    paths, live = _run(tmp_path)
    assert _measure(paths, _callbacks(), tmp_path / "later.csv") == paths
    later = {
        (float(line["epoch"]), int(line["step"]), line["key"]): float(line["value"])
        for line in _read(tmp_path / "later.csv")
    }
    at_once = {(row.epoch, row.step, row.key): row.value for callback in live for row in callback.history}
    assert later.keys() == at_once.keys()
    assert [later[key] for key in later] == pytest.approx([at_once[key] for key in later], rel=1e-5, abs=1e-6)


def test_values_are_read_back_in_the_order_of_training(tmp_path):
    paths, live = _run(tmp_path)
    output = tmp_path / "later.csv"
    _measure(paths[::-1], _callbacks()[0], output)
    history = read_measurements(output)
    assert [row.epoch for row in history["ei/network"]] == [0, 1, 2, 3]
    values = [row.value for row in live[0].history["ei/network"]]
    assert [row.value for row in history["ei/network"]] == pytest.approx(values, rel=1e-5)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(
        ValueError, match=r"read_measurements\(output='.*other.csv'\): expected the columns checkpoint, "
    ):
        read_measurements(tmp_path / "other.csv")


def test_what_is_there_already_is_skipped(tmp_path):
    paths, _ = _run(tmp_path)
    output = tmp_path / "later.csv"
    ei, plane = _callbacks()
    assert _measure(paths[:2], ei, output) == paths[:2]
    lines = len(_read(output))
    assert _measure(paths, _callbacks()[0], output) == paths[2:]
    assert _measure(paths, _callbacks()[0], output) == []
    assert lines < len(_read(output))
    # Another callback's values of the same checkpoints are missing still.
    assert _measure(paths, plane, output) == paths
    keys = [(line["checkpoint"], line["key"]) for line in _read(output)]
    assert len(keys) == len(set(keys))


def test_a_checkpoint_that_cannot_be_measured_is_left_out_and_tried_again(tmp_path):
    paths, _ = _run(tmp_path)
    broken = torch.load(paths[1], weights_only=True)
    broken["state_dict"]["net.0.weight"].fill_(float("nan"))
    torch.save(broken, tmp_path / "broken.ckpt")
    output = tmp_path / "later.csv"
    with pytest.warns(UserWarning, match=r"InfoPlaneCallback: ValueError: .*NaN.*broken\.ckpt is left out"):
        _measure([paths[0], tmp_path / "broken.ckpt", paths[2]], _callbacks()[1], output)
    assert {line["checkpoint"] for line in _read(output)} == {str(paths[0]), str(paths[2])}


def _append_many(output, name):
    from lightning_foresight.history import Row

    for number in range(20):
        _append(output, f"{name}{number}", [Row(0, 0.0, f"a/{i}", 1.0, 1.0, 1.0, 0, "exact") for i in range(50)])


def test_jobs_that_share_a_file_do_not_mix_their_lines(tmp_path):
    output = tmp_path / "shared.csv"
    jobs = [multiprocessing.get_context("fork").Process(target=_append_many, args=(output, name)) for name in "xyz"]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    lines = _read(output)
    assert len(lines) == 3 * 20 * 50
    assert {line["value"] for line in lines} == {"1.0"}
    blocks = [line["checkpoint"] for line in lines[::50]]
    assert len(set(blocks)) == 60  # each block of one checkpoint lies in one piece


def test_what_needs_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="GradientNoiseScaleCallback.*needs gradients of a run"):
        _measure([], GradientNoiseScaleCallback(), tmp_path / "x.csv")
    with pytest.raises(ValueError, match="give each callback a prefix of its own"):
        _measure([], [EICallback(), EICallback()], tmp_path / "x.csv")


class HookedModel(TinyModel):
    """Prepares batches in the hooks around their transfer."""

    def on_before_batch_transfer(self, batch, dataloader_idx):
        return batch[0] * 3 + 1, batch[1]

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch[0] - 2, batch[1]


def test_batches_pass_the_hooks_of_the_model_as_in_a_run(tmp_path):
    live, saver = _callbacks()[1], LogCheckpoint(tmp_path, epochs=(1,))
    fit([saver, live], model=HookedModel, max_epochs=1)
    train, val = tiny_data()
    output = tmp_path / "later.csv"
    measure_checkpoints(
        HookedModel(), saver.saved, _callbacks()[1], train_dataloader=train, val_dataloader=val, output=output
    )
    later = {(row.epoch, row.key): row.value for row in read_measurements(output)}
    assert later == pytest.approx({(row.epoch, row.key): row.value for row in live.history}, rel=1e-5, abs=1e-6)


def test_a_checkpoint_is_the_same_by_whatever_path_and_one_needs_no_list(tmp_path, monkeypatch):
    paths, _ = _run(tmp_path)
    assert _measure(str(paths[0]), _callbacks()[0], tmp_path / "later.csv") == paths[:1]
    monkeypatch.chdir(tmp_path)
    assert _measure(paths[0].relative_to(tmp_path), _callbacks()[0], tmp_path / "later.csv") == []


def test_of_two_jobs_that_measured_the_same_one_writes(tmp_path):
    from lightning_foresight.history import Row

    for _ in range(2):
        _append(tmp_path / "shared.csv", tmp_path / "a.ckpt", [Row(0, 0.0, "a/i", 1.0, 1.0, 1.0, 0, "exact")])
    assert len(_read(tmp_path / "shared.csv")) == 1


def test_callbacks_of_others_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"measure_checkpoints\(callbacks=.*LogCheckpoint.*\): expected callbacks"):
        _measure([], LogCheckpoint(tmp_path, epochs=(1,)), tmp_path / "x.csv")


class HookedData(pl.LightningDataModule):
    """Prepares batches in hooks of its own."""

    def train_dataloader(self):
        return tiny_data()[0]

    def val_dataloader(self):
        return tiny_data()[1]

    def on_before_batch_transfer(self, batch, dataloader_idx):
        return batch[0] * 5 - 1, batch[1]

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch[0] + 2, batch[1]


def test_hooks_and_loaders_of_a_datamodule_are_those_of_the_run(tmp_path):
    live, saver = _callbacks(), LogCheckpoint(tmp_path, epochs=(1,))
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=[*live, saver])
    trainer.fit(HookedModel(), datamodule=HookedData())
    output = tmp_path / "later.csv"
    measure_checkpoints(HookedModel(), saver.saved, _callbacks(), datamodule=HookedData(), output=output)
    later = {(row.epoch, row.key): row.value for row in read_measurements(output)}
    assert later == pytest.approx(_values(*live), rel=1e-5, abs=1e-6)
    with pytest.raises(ValueError, match=r"measure_checkpoints\(datamodule=.*\): expected loaders or a datamodule"):
        measure_checkpoints(
            HookedModel(), [], _callbacks(), datamodule=HookedData(), train_dataloader=[], output=output
        )


def _values(*callbacks):
    return {(row.epoch, row.key): row.value for callback in callbacks for row in callback.history}


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed", "64-true"])
@pytest.mark.parametrize("saved_by", ["us", "lightning"])
def test_the_precision_is_that_of_the_run(precision, saved_by, tmp_path):
    live, saver = _callbacks(), LogCheckpoint(tmp_path, epochs=(1,), start=False)
    other = pl.callbacks.ModelCheckpoint(tmp_path / "other")
    chosen = [saver] if saved_by == "us" else [other]
    fit([*live, *chosen], max_epochs=1, precision=precision, enable_checkpointing=saved_by == "lightning")
    paths = saver.saved if saved_by == "us" else [other.best_model_path]
    # Weights are of single precision in a run of mixed precision: Lightning's checkpoint does not tell.
    told = precision if saved_by == "lightning" and precision.endswith("mixed") else None
    train, val = tiny_data()
    output = tmp_path / "later.csv"
    measure_checkpoints(
        TinyModel(), paths, _callbacks(), train_dataloader=train, val_dataloader=val, output=output, precision=told
    )
    later = {(row.epoch, row.key): row.value for row in read_measurements(output)}
    expected = {moment: value for moment, value in _values(*live).items() if moment[0] == 1}
    assert later == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_an_unknown_precision_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"measure_checkpoints\(precision='half'\): expected one of '32-true', "):
        measure_checkpoints(TinyModel(), [], _callbacks(), output=tmp_path / "x.csv", precision="half")


def test_checkpoints_of_lightning_within_an_epoch_tell_its_fraction(tmp_path):
    keep = pl.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=4, save_top_k=-1, filename="{step}")
    fit(keep, max_epochs=2, enable_checkpointing=True)  # of 6 steps
    paths = [tmp_path / f"step={step}.ckpt" for step in (8, 12)]
    _measure(paths, _callbacks()[0], tmp_path / "later.csv")
    epochs = [row.epoch for row in read_measurements(tmp_path / "later.csv")["ei/network"]]
    assert epochs == pytest.approx([8 / 6, 2])


def test_an_empty_file_is_begun(tmp_path):
    paths, _ = _run(tmp_path)
    output = tmp_path / "empty.csv"
    output.touch()
    assert _measure(paths, _callbacks()[0], output) == paths
    assert [row.epoch for row in read_measurements(output)["ei/network"]] == [0, 1, 2, 3]
    assert _measure(paths, _callbacks()[0], output) == []


def test_a_file_of_another_kind_is_refused_and_left_alone(tmp_path):
    paths, _ = _run(tmp_path)
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(
        ValueError, match=r"measure_checkpoints\(output='.*other.csv'\): expected the columns checkpoint"
    ):
        _measure(paths, _callbacks()[0], other)
    assert other.read_text() == "a,b\n1,2\n"


def test_mistakes_are_named_before_anything_is_measured(tmp_path):
    paths, _ = _run(tmp_path)
    folder, plain = paths[0].parent, tmp_path / "plain.ckpt"
    torch.save(TinyModel().state_dict(), plain)
    output = tmp_path / "x.csv"
    for checkpoints, error, message in (
        (folder, ValueError, r"it is a folder; expected files, such as sorted"),
        (f"{folder}/*.ckpt", FileNotFoundError, r"checkpoints='.*\*\.ckpt'\): there is no such file; globs are for"),
        ([*paths, tmp_path / "none.ckpt"], FileNotFoundError, r"none\.ckpt'\): there is no such file"),
        (plain, ValueError, r"plain\.ckpt'\): it has no state_dict, global_step, epoch; expected a checkpoint that a"),
    ):
        with pytest.raises(error, match=message):
            _measure(checkpoints, _callbacks()[0], output)
    with pytest.raises(ValueError, match=r"the weights of .* are those of another model .*size mismatch.*arguments of"):
        measure_checkpoints(TinyModel(features=7), paths, _callbacks()[0], output=output)
    with pytest.raises(ValueError, match=r"measure_checkpoints\(model=.*TinyModel.*\): expected a model, made as for"):
        measure_checkpoints(TinyModel, paths, _callbacks()[0], output=output)
    with pytest.raises(ValueError, match=r"measure_checkpoints\(output='.*'\): it is a folder; expected the path"):
        _measure(paths, _callbacks()[0], tmp_path)
    with pytest.raises(ValueError, match=r"EICallback\(dataloader='train'\): there is no such loader; pass one to"):
        measure_checkpoints(TinyModel(), paths, _callbacks()[0], output=output)
    assert not output.exists()
