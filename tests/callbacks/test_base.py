"""What a user is told, and how: names, failures, costs, and one entry a step for all callbacks."""

from __future__ import annotations

import csv
import math
import pickle
import warnings
from copy import deepcopy

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_foresight import (
    EICallback,
    ForesightCallback,
    GradientNoiseScaleCallback,
    LogCheckpoint,
    LogSchedule,
    PIDCallback,
)
from lightning_foresight.callbacks import _cost
from lightning_foresight.functional import make_estimate
from tests.contract.cases import QUIET, TinyModel, fit, tiny_data


class Layered(ForesightCallback):
    """Measures two layers, of which one can be made to fail or to take long."""

    default_prefix = "layered"

    def __init__(self, work=lambda layer: 1.0, **kwargs):
        super().__init__(**kwargs)
        self.work = work

    def measure(self, trainer, pl_module):
        measured = {}
        for layer in ("first", "second"):
            with self.working_on(layer):
                measured[f"{layer}/x"] = torch.tensor(self.work(layer))
        return measured


def _warnings_of(callback, **kwargs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(callback, **kwargs)
    return [str(warning.message) for warning in caught if callback.name in str(warning.message)]


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (lambda: EICallback(), "EICallback()"),
        (
            lambda: EICallback(measures=("weights",), every_n_epochs=1, schedule=LogSchedule(100, 5), layers=["fc*"]),
            "EICallback(measures=('weights',), layers=['fc*'], schedule=LogSchedule(max_epochs=100, num=5))",
        ),
        (
            lambda: PIDCallback(reduce=torch.relu, dataloader=(torch.ones(3, 2), torch.ones(3).long())),
            "PIDCallback(dataloader=(<a tensor of shape (3, 2) and dtype float32>, <a tensor of shape (3,) and dtype "
            "int64>), reduce=relu)",
        ),
        (lambda: GradientNoiseScaleCallback(groups={"a": ["x"]}), "GradientNoiseScaleCallback(groups={'a': ['x']})"),
        (lambda: LogCheckpoint("runs", epochs=(1, 2)), "LogCheckpoint(dirpath='runs', epochs=(1, 2))"),
        (lambda: Layered(layers=torch.nn.Linear, seed=3), "Layered(layers=Linear, seed=3)"),
    ],
)
def test_a_callback_shows_the_arguments_that_are_not_the_default(made, shown):
    assert repr(made()) == shown
    assert repr(deepcopy(made())) == shown
    if "Layered" not in shown:  # it holds a lambda, which no pickle takes
        assert repr(pickle.loads(pickle.dumps(made()))) == shown


def test_a_wrong_argument_is_still_refused_by_the_constructor():
    with pytest.raises(TypeError, match="unexpected keyword argument 'layer'"):
        EICallback(layer="fc1")


def test_a_failure_names_the_layer_and_the_moment_once_for_each_layer():
    calls = []

    def work(layer):
        calls.append(layer)
        fails = "first" if len(calls) < 8 else "second"
        if len(calls) > 2 and layer == fails:
            raise ZeroDivisionError("no luck")
        return 1.0

    callback = Layered(work)
    messages = _warnings_of(callback, max_epochs=8)
    start = "Layered: a measurement at step 5 (epoch 1) failed in layer 'first' (ZeroDivisionError: no luck)."
    assert messages[0].startswith(start)
    assert len(messages) == 2
    assert "failed in layer 'second'" in messages[1]
    assert callback.num_failures == 8


def test_a_logger_or_a_figure_that_fails_is_named_and_leaves_the_history(tmp_path):
    class Full(CSVLogger):
        def log_metrics(self, metrics, step=None):
            if "layered/first/x" in metrics:
                raise OSError("no space left")

    class Undrawable(Layered):
        def figures(self):
            raise KeyError("no line")

    callback = Undrawable()
    messages = _warnings_of(callback, max_epochs=2, logger=Full(tmp_path))
    assert [message.split(". ")[0] for message in messages] == [
        "Undrawable: writing to the loggers at step 0 (epoch 0) failed (OSError: no space left)",
        "Undrawable: drawing at step 11 (epoch 2) failed (KeyError: 'no line')",
    ]
    assert [row.epoch for row in callback.history["layered/first/x"]] == [0, 1, 2]


def test_values_that_are_nan_are_named_with_their_reason_once_for_each_key():
    class Diverging(TinyModel):
        def on_train_epoch_end(self):
            if self.current_epoch == 1:
                with torch.no_grad():
                    self.net[0].weight.fill_(float("nan"))

    nan = float("nan")
    first = Layered(lambda layer: nan if layer == "second" else 1.0)
    (message,) = _warnings_of(first, max_epochs=3)
    assert "at step 0 (epoch 0) came out as NaN under layered/second/x; all parameters are finite" in message

    class Both(ForesightCallback):
        default_prefix = "both"

        def measure(self, trainer, pl_module):
            bad = pl_module.net[0].weight.sum()
            return {"a": bad, ("b", "c"): torch.stack([bad, bad])}

    (message,) = _warnings_of(Both(), max_epochs=4, model=Diverging)
    assert "NaN under both/a, both/b, both/c; the parameters net.0.weight" in message
    assert "hold NaN or infinity: the run has diverged" in message


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when it is told to."""
    now = [0.0]
    told = []
    monkeypatch.setattr(_cost, "perf_counter", lambda: now[0])
    monkeypatch.setattr(_cost, "rank_zero_info", told.append)

    def advance(seconds):
        now[0] += seconds

    advance.told = told
    return advance


def test_a_measurement_that_takes_long_names_its_slowest_layer_and_what_to_set_once(clock):
    def work(layer):
        clock(3.0 if layer == "second" else 0.5)
        return 1.0

    fit(Layered(work), max_epochs=2)
    assert clock.told == [
        "Layered: a measurement takes 3.5 s, 3.0 s of it layer 'second'. To spend less, set layers= or every_n_epochs=."
    ]


class SlowSteps(TinyModel):
    """Takes three seconds a step, of a clock that it is given."""

    def on_train_batch_start(self, batch, batch_idx):
        self.advance(3.0)


def test_many_short_measurements_are_told_of_when_they_are_a_tenth_of_the_run(clock):
    def run(seconds):
        def work(layer):
            clock(seconds / 2)
            return 1.0

        model = SlowSteps()
        model.advance = clock
        fit(Layered(work, every_n_steps=1), model=model, max_epochs=2)

    run(0.2)  # 6%, and 2.4 s in all
    assert clock.told == []
    run(0.5)
    assert len(clock.told) == 1
    assert (
        "a measurement takes 0.5 s, 0.2 s of it layer 'first'; until step 5 (epoch 1) measuring was 14% of the training"
        in (clock.told[0])
    )


@pytest.mark.parametrize("make", [EICallback, PIDCallback])
def test_two_callbacks_of_a_class_without_prefixes_are_told_to_have_one(make):
    name = make.__name__
    message = rf"{name}\(prefix='(ei|pid)'\): {name} in the same Trainer logs under it too; give each callback a prefix"
    with pytest.raises(ValueError, match=message + rf" of its own, for instance {name}\(prefix='(ei|pid)_2'\)"):
        fit([make(), make()])


def test_the_key_in_a_checkpoint_is_that_of_class_and_prefix(tmp_path):
    trainer = fit([EICallback(measures=("weights",))], max_epochs=1)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert "EICallback[ei]" in torch.load(tmp_path / "a.ckpt", weights_only=True)["callbacks"]


def test_a_setup_of_ones_own_costs_no_history(tmp_path):
    class OwnSetup(Layered):
        def setup(self, trainer, pl_module, stage):
            """Forget to call that of the base."""

    trainer = fit(OwnSetup(), max_epochs=1)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    resumed = OwnSetup()
    fit(resumed, max_epochs=2, ckpt_path=str(tmp_path / "a.ckpt"))
    assert [row.epoch for row in resumed.history["layered/first/x"]] == [0, 1, 2]


def test_values_of_one_step_are_one_line_of_a_csv_file_however_many_callbacks_measure(tmp_path):
    logger = CSVLogger(tmp_path)
    fit([Layered(), Layered(prefix="again"), EICallback(measures=("weights",))], logger=logger, max_epochs=2)
    logger.save()
    with open(f"{logger.log_dir}/metrics.csv") as file:
        lines = [line for line in csv.DictReader(file) if line["layered/first/x"]]
    assert [int(line["step"]) for line in lines] == [0, 5, 11]
    assert all(line["again/second/x"] and line["ei/network"] for line in lines)


class Unsure(ForesightCallback):
    """One value with an error, one without, both announced as bands."""

    default_prefix = "unsure"

    def measure(self, trainer, pl_module):
        one = torch.tensor(1.0)
        return {
            "known": make_estimate(one, std_error=0.1),
            "unknown": make_estimate(one, std_error=float("nan")),
        }

    def bands(self):
        return ["known", "unknown"]


def test_a_value_without_a_known_error_has_no_interval_and_no_band(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    callback = Unsure()
    fit(callback, logger=logger, max_epochs=1)
    unknown, known = (callback.history.last()[f"unsure/{name}"] for name in ("unknown", "known"))
    assert math.isnan(unknown.lower)
    assert math.isnan(unknown.upper)
    assert known.lower == pytest.approx(1 - 0.1959964, abs=1e-5)
    accumulator = EventAccumulator(logger.log_dir).Reload()
    tags = {tag for tag in accumulator.Tags()["scalars"] if tag.startswith("unsure")}
    assert tags == {"unsure/known", "unsure/known_lower", "unsure/known_upper", "unsure/unknown"}
    layout = accumulator.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    assert b"unsure/known" in layout
    assert b"unsure/unknown" not in layout


def _told(caplog, run):
    caplog.clear()
    with caplog.at_level("INFO"):
        run()
    return [message for message in caplog.messages if "nothing " in message]


def test_calls_that_measure_nothing_say_so_once_for_all_callbacks(caplog):
    callbacks = [EICallback(measures=("weights",)), Layered()]
    trainer = Trainer(**QUIET, callbacks=callbacks)
    (message,) = _told(caplog, lambda: trainer.validate(TinyModel(), tiny_data()[1], verbose=False))
    assert message.startswith("EICallback, Layered: nothing is measured by trainer.validate, only while trainer.fit")
    assert "measure_checkpoints" in message
    assert _told(caplog, lambda: trainer.validate(TinyModel(), tiny_data()[1], verbose=False)) == []


@pytest.mark.parametrize("settings", [{"max_epochs": 0}, {"limit_train_batches": 0}], ids=["no_epoch", "no_batch"])
def test_a_run_without_a_step_says_that_nothing_was_measured(settings, caplog):
    (message,) = _told(caplog, lambda: fit([Layered()], **settings))
    assert message == "Layered: nothing was measured, as the run took no step."
    assert _told(caplog, lambda: fit([Layered()], fast_dev_run=True)) == []


def test_testing_after_training_is_no_news(caplog):
    trainer = fit([Layered()], max_epochs=1)
    assert _told(caplog, lambda: trainer.validate(TinyModel(), tiny_data()[1], verbose=False)) == []
