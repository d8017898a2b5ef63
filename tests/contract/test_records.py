"""What was measured arrives under the right key and step, in every logger, and outlives a checkpoint."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from lightning_foresight.callbacks import ForesightCallback
from lightning_foresight.functional import make_estimate
from tests.contract.cases import CALLBACKS, QUIET, TinyModel, fit, tiny_model_of

every_callback = pytest.mark.parametrize("name", CALLBACKS)


class StepCounter(ForesightCallback):
    """Measures something known: the number of the optimizer step."""

    default_prefix = "count"

    def measure(self, trainer, pl_module):
        step = torch.tensor(float(trainer.global_step))
        return {
            "exact": step,
            "estimate": make_estimate(step, std_error=1.0, num_samples=7),
            ("a/x", "b/x"): torch.ones(2),
        }

    def bands(self):
        return ["estimate"]


def _scalars(folder, key):
    accumulator = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(key)]


def test_tensorboard_reads_back_every_value_under_its_own_step(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    fit(StepCounter(every_n_steps=2), logger=logger, log_every_n_steps=5, accumulate_grad_batches=2)
    # 6 batches an epoch, windows of 2, 2 epochs: 6 steps; Lightning calls the first of them step 0.
    assert _scalars(logger.log_dir, "count/exact") == [(1, 2.0), (3, 4.0), (5, 6.0)]
    lower = _scalars(logger.log_dir, "count/estimate_lower")
    assert [step for step, _ in lower] == [1, 3, 5]
    assert lower[0][1] == pytest.approx(2 - 1.959964, abs=1e-5)


def test_an_epoch_is_logged_under_the_step_of_the_models_own_epoch_metrics(tmp_path):
    class Model(TinyModel):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.log("own", loss, on_epoch=True, on_step=False)
            return loss

    logger = TensorBoardLogger(tmp_path)
    fit(StepCounter(), model=Model(), logger=logger)
    own = [step for step, _ in _scalars(logger.log_dir, "own")]
    assert [step for step, _ in _scalars(logger.log_dir, "count/exact")][1:] == own


def test_the_bands_of_all_callbacks_are_merged_into_one_layout(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    fit([StepCounter(), StepCounter(prefix="again"), CALLBACKS["info_plane_kde"](log_figures=False)], logger=logger)
    accumulator = EventAccumulator(logger.log_dir).Reload()
    key = "custom_scalars__config__"
    assert len(accumulator.Tensors(key)) == 1
    layout = layout_pb2.Layout.FromString(accumulator.Tensors(key)[0].tensor_proto.string_val[0])
    charts = {category.title: [chart.title for chart in category.chart] for category in layout.category}
    assert charts["count"] == ["count/estimate"]
    assert charts["again"] == ["again/estimate"]
    assert "info_plane/net.2/I_XT" in charts["info_plane"]
    band = layout.category[0].chart[0].margin.series[0]
    assert (band.value, band.lower, band.upper) == ("count/estimate", "count/estimate_lower", "count/estimate_upper")


@every_callback
def test_csv_logger_holds_the_history(name, tmp_path):
    logger = CSVLogger(tmp_path)
    callback = CALLBACKS[name](log_figures=False)
    fit(callback, logger=logger)
    logger.save()
    with open(f"{logger.log_dir}/metrics.csv") as file:
        lines = list(csv.DictReader(file))
    for key, row in callback.history.last().items():
        written = [float(line[key]) for line in lines if line.get(key) and int(line["step"]) == row.step]
        assert written[-1] == pytest.approx(row.value, rel=1e-6, abs=1e-6)


@every_callback
def test_tensorboard_holds_scalars_and_a_figure(name, tmp_path):
    pytest.importorskip("matplotlib")
    logger = TensorBoardLogger(tmp_path)
    callback = CALLBACKS[name]()
    fit(callback, logger=logger, max_epochs=1)
    accumulator = EventAccumulator(logger.log_dir).Reload()
    tags = accumulator.Tags()
    assert set(callback.history.keys()) <= set(tags["scalars"])
    assert any(tag.startswith(f"{callback.prefix}/") for tag in tags["images"])


@every_callback
def test_without_a_tensorboard_logger_figures_become_files(name, tmp_path):
    logger = CSVLogger(tmp_path)
    callback = CALLBACKS[name]()
    fit(callback, logger=logger, max_epochs=1)
    assert list(Path(logger.log_dir).glob(f"figures/{callback.prefix}/*/*.png"))


@every_callback
def test_without_loggers_the_history_is_there(name):
    callback = CALLBACKS[name]()
    fit(callback, logger=False, max_epochs=1)
    assert len(callback.history) > 0
    assert callback.plot() is not None


def test_per_layer_false_keeps_layers_out_of_the_loggers_only(tmp_path):
    logger = CSVLogger(tmp_path)
    callback = StepCounter(per_layer=False)
    fit(callback, logger=logger)
    logger.save()
    header = Path(logger.log_dir, "metrics.csv").read_text().splitlines()[0].split(",")
    assert "count/exact" in header
    assert "count/a/x" not in header
    assert "count/a/x" in callback.history.keys()  # noqa: SIM118


@every_callback
def test_two_instances_with_prefixes_of_their_own_agree(name):
    first, second = CALLBACKS[name](), CALLBACKS[name](prefix="other")
    fit([first, second], max_epochs=1)
    one = [(row.step, row.key.split("/", 1)[1], row.value) for row in first.history]
    other = [(row.step, row.key.split("/", 1)[1], row.value) for row in second.history]
    assert one == other


def test_two_callbacks_under_one_prefix_are_refused():
    with pytest.raises(ValueError, match=r"prefix='info_plane'.*give each callback a prefix of its own"):
        fit([CALLBACKS["info_plane_kde"](), StepCounter(prefix="info_plane")])


@pytest.mark.filterwarnings("ignore:.*allows one observation")
@every_callback
@pytest.mark.parametrize("saved", ["after_the_epoch", "at_validation_end"])
def test_resumed_run_continues_the_history(name, saved, tmp_path):
    whole = CALLBACKS[name]()
    fit(whole, max_epochs=4)

    keep = ModelCheckpoint(
        tmp_path, save_top_k=-1, save_on_train_epoch_end=saved == "after_the_epoch", filename="{epoch}"
    )
    fit([CALLBACKS[name](), keep], max_epochs=2, enable_checkpointing=True)
    resumed = CALLBACKS[name]()
    # The generator of the shuffling is not part of a checkpoint: step the resumed run's forward to where it would be.
    fit([resumed], max_epochs=4, ckpt_path=str(tmp_path / "epoch=1.ckpt"))

    moments = [(row.step, row.epoch, row.key) for row in whole.history]
    assert [(row.step, row.epoch, row.key) for row in resumed.history] == moments
    until = 11  # the last step of the second epoch
    old = [row for row in resumed.history if row.step <= until]
    expected = [row for row in whole.history if row.step <= until]
    assert [row.value for row in old] == pytest.approx([row.value for row in expected], rel=1e-6, abs=1e-7)


@every_callback
def test_state_is_plain_enough_for_a_weights_only_checkpoint(name):
    callback = CALLBACKS[name]()
    fit(callback, max_epochs=1)
    buffer = io.BytesIO()
    torch.save(callback.state_dict(), buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    fresh = CALLBACKS[name]()
    fresh.load_state_dict(state)
    assert list(fresh.history) == list(callback.history)


def test_a_new_run_starts_a_new_history():
    callback = StepCounter()
    fit(callback)
    first = callback.history
    fit(callback)
    assert callback.history is not first
    assert [row.value for row in callback.history] == [row.value for row in first]


@every_callback
def test_a_trainer_of_the_other_package_takes_the_callback_in_and_out_of_a_list(name):
    lightning = pytest.importorskip("lightning.pytorch")

    for listed in (False, True):
        callback = CALLBACKS[name]()
        trainer = lightning.Trainer(**QUIET, max_epochs=1, callbacks=[callback] if listed else callback)
        trainer.fit(tiny_model_of(lightning)())
        assert len(callback.history) > 0
        assert callback.num_failures == 0


def test_the_progress_bar_shows_values_of_the_network_only():
    callback = StepCounter(prog_bar=True)
    trainer = fit(callback)
    assert "count/exact" in trainer.progress_bar_metrics
    assert "count/a/x" not in trainer.progress_bar_metrics


def test_should_measure_is_where_a_rule_of_ones_own_goes():
    class OnlyLast(StepCounter):
        def should_measure(self, trainer, pl_module):
            return self.event == "epoch" and trainer.current_epoch == trainer.max_epochs - 1

    callback = OnlyLast()
    fit(callback, max_epochs=3)
    assert {row.epoch for row in callback.history} == {3.0}


def test_everything_but_figures_works_without_matplotlib():
    code = """
import sys
import lightning_foresight
assert not any(name.startswith("lightning_foresight.plotting") for name in sys.modules)
import warnings; warnings.simplefilter("ignore")
sys.modules["matplotlib"] = None  # importing it raises ImportError from here on
sys.modules["matplotlib.figure"] = None
from tests.contract.cases import CALLBACKS, fit
from pytorch_lightning.loggers import CSVLogger
callbacks = [make(prefix=name, log_figures=False) for name, make in CALLBACKS.items()]
fit([*callbacks], logger=CSVLogger(sys.argv[1]), max_epochs=1)
assert all(len(callback.history) for callback in callbacks)
assert not any(callback.num_failures for callback in callbacks)
"""
    root = Path(__file__).parents[2]
    with TemporaryDirectory() as folder:
        run = subprocess.run(
            [sys.executable, "-c", code, folder], cwd=root, capture_output=True, text=True, check=False
        )
    assert run.returncode == 0, run.stderr[-2000:]


def test_the_callback_base_belongs_to_both_packages():
    lightning = pytest.importorskip("lightning.pytorch")
    assert issubclass(ForesightCallback, pl.Callback)
    assert issubclass(ForesightCallback, lightning.Callback)


class _Plain(ForesightCallback):
    default_prefix = "plain"

    def measure(self, trainer, pl_module):
        return {"number": 2.5, ("a", "b"): torch.tensor([1.0, 2.0])}


def test_a_measure_may_return_plain_numbers_and_is_drawn_without_a_figure_of_its_own():
    callback = _Plain()
    fit(callback)
    assert callback.num_failures == 0
    assert callback.history.last()["plain/number"].value == 2.5
    assert [text.get_text() for text in callback.plot().axes[0].get_legend().get_texts()] == ["number", "a", "b"]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (3.0, r"measure\(\) returned float; expected a mapping of keys to values"),
        (
            {"x": torch.ones(3)},
            r"bad/x: got 3 value\(s\) for 1 key\(s\); expected one number a key: return a",
        ),
    ],
)
def test_what_a_measure_cannot_return_is_said(returned, message):
    class Bad(ForesightCallback):
        default_prefix = "bad"

        def measure(self, trainer, pl_module):
            return returned

    callback = Bad()
    with pytest.warns(UserWarning, match=message):
        fit(callback)
    with pytest.raises(ValueError, match=r"nothing to draw: 0 values were measured, 3 measurements failed"):
        callback.plot()
