"""What InfoPlaneCallback logs is what the functions say of the activations, at the weights of that moment."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_foresight.callbacks._plane_presets import PRESETS
from lightning_foresight.callbacks.information_plane import InfoPlaneCallback
from lightning_foresight.functional import input_information, label_information
from lightning_foresight.metrics import DependenceMetric
from tests.contract.cases import NUM_SAMPLES, TinyModel, fit, tiny_data


def test_values_are_those_of_the_functions_on_the_final_weights():
    callback = InfoPlaneCallback(estimator="binned", num_samples=NUM_SAMPLES, options={"bins": 5})
    trainer = fit(callback)
    model = trainer.model.eval()
    inputs, labels = tiny_data()[1].dataset.tensors
    with torch.no_grad():
        tanh = model.net[:3](inputs)
        logits = model(inputs)
    last = callback.history.last()
    for layer, activation in (("net.2", tanh), ("net.6", logits)):
        about_input = input_information(activation, estimator="binned", bins=5)
        about_label = label_information(activation, labels, estimator="binned", bins=5)
        assert last[f"info_plane/{layer}/I_XT"].value == pytest.approx(float(about_input.value), abs=1e-6)
        assert last[f"info_plane/{layer}/I_TY"].value == pytest.approx(float(about_label.value), abs=1e-6)
        assert last[f"info_plane/{layer}/saturation"].value == pytest.approx(float(about_input.saturation), abs=1e-6)


def test_default_layers_are_the_activations_and_the_output():
    callback = InfoPlaneCallback()
    fit(callback, max_epochs=1)
    layers = {key.split("/")[1] for key in callback.history.keys()}  # noqa: SIM118
    assert layers == {"net.2", "net.5", "net.6"}


def test_a_model_that_calls_its_activations_as_functions_is_watched_behind_its_weights():
    class Functional(TinyModel):
        def __init__(self):
            super().__init__()
            self.net = nn.ModuleList([nn.Linear(6, 4), nn.Linear(4, 3)])

        def forward(self, x):
            return self.net[1](torch.tanh(self.net[0](x)))

    callback = InfoPlaneCallback()
    fit(callback, model=Functional(), max_epochs=1)
    assert {key.split("/")[1] for key in callback.history.keys()} == {"net.0", "net.1"}  # noqa: SIM118


@pytest.mark.parametrize("source", ["train", "val", "loader", "tensors"])
def test_samples_come_from_wherever_one_says(source):
    inputs, labels = tiny_data()[1].dataset.tensors
    dataloader = {
        "loader": DataLoader(TensorDataset(inputs, labels), batch_size=7),
        "tensors": (inputs, labels),
    }.get(source, source)
    callback = InfoPlaneCallback(dataloader=dataloader, num_samples=NUM_SAMPLES)
    fit(callback, max_epochs=1)
    assert callback.history.last()["info_plane/net.2/I_XT"].num_samples == NUM_SAMPLES


def test_targets_may_be_a_function_of_the_batch():
    callback = InfoPlaneCallback(targets=lambda batch: torch.zeros(len(batch[0]), dtype=torch.long))
    fit(callback, max_epochs=1)
    assert callback.history.last()["info_plane/net.2/I_TY"].value == pytest.approx(0, abs=1e-9)


def test_without_targets_only_the_information_about_the_input_is_logged():
    inputs = tiny_data()[1].dataset.tensors[0]
    callback = InfoPlaneCallback(dataloader=inputs)
    fit(callback, max_epochs=1)
    assert not any(key.endswith("I_TY") for key in callback.history.keys())  # noqa: SIM118
    assert callback.plot().axes[0].get_ylabel() == "I(X;T) in bits"


def test_the_plane_shows_every_layer_and_both_limits():
    callback = InfoPlaneCallback(num_samples=32)
    fit(callback, max_epochs=2)
    axes = callback.plot().axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["net.2", "net.5", "net.6", "shuffled labels"]
    verticals = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "--"]
    assert verticals[0].get_xdata()[0] == pytest.approx(math.log2(32))


def test_activations_that_become_nan_warn_once_and_leave_the_run_alone():
    class Diverging(TinyModel):
        def on_train_epoch_end(self):
            with torch.no_grad():
                self.net[0].weight.fill_(float("nan"))

    callback = InfoPlaneCallback()
    with pytest.warns(UserWarning, match="InfoPlaneCallback: a measurement at step .* NaN"):
        fit(callback, model=Diverging(), max_epochs=3)
    assert callback.num_failures == 2
    assert {row.epoch for row in callback.history} == {0.0, 1.0}


def _without_validation(callback):
    import pytorch_lightning as pl

    trainer = pl.Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=callback,
        accelerator="cpu",
    )
    trainer.fit(TinyModel(), tiny_data()[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InfoPlaneCallback(estimator="tarot"), r"InfoPlaneCallback\(estimator='tarot'\)"),
        (
            lambda: InfoPlaneCallback(estimator="binned", options={"bins": 1}),
            r"bins=1\): expected an integer of at least 2",
        ),
        (
            lambda: InfoPlaneCallback(estimator="binned", options={"bandwidth": 1}),
            r"InfoPlaneCallback\(bandwidth\).*no such option",
        ),
        (
            lambda: InfoPlaneCallback(num_samples=1),
            r"InfoPlaneCallback\(num_samples=1\): expected an integer of at least 2",
        ),
        (lambda: InfoPlaneCallback(prefix=""), r"InfoPlaneCallback\(prefix=''\)"),
        (lambda: InfoPlaneCallback(prefix="///"), r"InfoPlaneCallback\(prefix='///'\)"),
        (lambda: InfoPlaneCallback(seed=-1), r"InfoPlaneCallback\(seed=-1\)"),
    ],
)
def test_bad_arguments_are_refused_at_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": "fc9"}, r"InfoPlaneCallback\(layers=\['fc9'\]\): no layer of the model has that name.*net\.2"),
        ({"dataloader": "test"}, r"InfoPlaneCallback\(dataloader='test'\): expected 'train', 'val'"),
        ({"dataloader": DataLoader(TensorDataset(torch.ones(0, 6)))}, "the loader holds no sample"),
        ({"dataloader": (torch.ones(1, 6), torch.ones(1).long())}, "expected at least 2 samples"),
        (
            {"targets": lambda batch: batch[0][:, 0]},
            r"dtype float32 for 48 samples; expected one integer label each",
        ),
        (
            {"targets": lambda batch: torch.zeros(3, dtype=torch.long)},
            r"got a tensor of shape \(18,\) and dtype int64 for 48 samples; expected one integer label each",
        ),
    ],
)
def test_a_run_that_cannot_be_measured_is_refused_before_it_starts(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fit(InfoPlaneCallback(**arguments))


def test_without_a_validation_loader_the_training_data_is_watched():
    callback = InfoPlaneCallback(num_samples=NUM_SAMPLES)
    _without_validation(callback)
    assert callback.history.last()["info_plane/net.2/I_XT"].num_samples == NUM_SAMPLES


def test_the_null_is_the_estimate_for_shuffled_labels():
    callback = InfoPlaneCallback(estimator="binned", num_samples=NUM_SAMPLES, options={"bins": 30})
    fit(callback, max_epochs=1)
    last = callback.history.last()
    # Saturated bins cannot tell real labels from shuffled ones: that is what the null is for.
    assert last["info_plane/net.2/saturation"].value > 0.9
    assert last["info_plane/net.2/I_TY_null"].value == pytest.approx(last["info_plane/net.2/I_TY"].value, abs=0.2)
    coarse = InfoPlaneCallback(estimator="binned", num_samples=NUM_SAMPLES, options={"bins": 2}, layers="net.6")
    fit(coarse, max_epochs=8)
    last = coarse.history.last()
    assert last["info_plane/net.6/I_TY_null"].value < last["info_plane/net.6/I_TY"].value
    assert "shuffled labels" in [text.get_text() for text in callback.plot().axes[0].get_legend().get_texts()]
    silent = InfoPlaneCallback(null=False)
    fit(silent, max_epochs=1)
    assert not any(key.endswith("_null") for key in silent.history.keys())  # noqa: SIM118


def test_several_targets_are_logged_by_name():
    callback = InfoPlaneCallback(
        targets={"class": lambda batch: batch[1], "sign": lambda batch: (batch[0][:, 0] > 0).long()}, layers="net.6"
    )
    fit(callback, max_epochs=1)
    kinds = {key.rsplit("/", 1)[1] for key in callback.history.keys()}  # noqa: SIM118
    assert kinds == {"I_XT", "saturation", "I_TY_class", "I_TY_sign", "I_TY_class_null", "I_TY_sign_null"}
    assert list(callback.figures()) == ["plane_class", "plane_sign"]


def test_adjacent_layers_are_compared_and_the_chain_is_checked():
    callback = InfoPlaneCallback(estimator="binned", adjacent=True, num_samples=NUM_SAMPLES, options={"bins": 3})
    fit(callback, max_epochs=1)
    last = {key: row.value for key, row in callback.history.last().items()}
    assert {"info_plane/net.2/I_TT", "info_plane/net.5/I_TT"} <= last.keys()
    assert "info_plane/net.6/I_TT" not in last
    about_input = [last[f"info_plane/net.{layer}/I_XT"] for layer in (2, 5, 6)]
    rises = [b - a for a, b in pairwise(about_input)]
    assert last["info_plane/data_processing_gap"] == pytest.approx(max(0, *rises), abs=1e-9)
    with pytest.raises(ValueError, match=r"InfoPlaneCallback\(estimator='kde'\): cannot answer this question"):
        InfoPlaneCallback(estimator="kde", adjacent=True)


def test_activations_are_reduced_as_asked():
    class Tokens(TinyModel):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Linear(2, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.embed(x.reshape(-1, 3, 2)).tanh().mean(1))

    inputs = tiny_data()[1].dataset.tensors[0]
    for name, how in {
        "flatten": lambda tokens: tokens.flatten(1),
        "mean_tokens": lambda tokens: tokens.mean(1),
        "last_token": lambda tokens: tokens[:, -1],
        "mean_pixels": lambda tokens: tokens.mean(2),
    }.items():
        callback = InfoPlaneCallback(
            estimator="binned", reduce=name, layers="embed", num_samples=NUM_SAMPLES, options={"bins": 3}
        )
        model = fit(callback, model=Tokens, max_epochs=1).model
        with torch.no_grad():
            tokens = model.embed(inputs.reshape(-1, 3, 2))
        expected = input_information(how(tokens), estimator="binned", bins=3)
        assert callback.history.last()["info_plane/embed/I_XT"].value == pytest.approx(float(expected.value), abs=1e-6)
    with pytest.raises(ValueError, match=r"InfoPlaneCallback\(reduce='median'\): expected one of 'flatten'"):
        InfoPlaneCallback(reduce="median")


class _Shapes(DependenceMetric):
    """Tells what it was given: the number of features of the first and the last axis of the second."""

    def dependence(self, a, b):
        return torch.tensor(float(a.shape[1] * 100 + b.shape[-1]))


def test_a_metric_of_ones_own_compares_inputs_activations_and_labels():
    callback = InfoPlaneCallback(estimator=_Shapes(), layers="net.5", num_samples=NUM_SAMPLES)
    fit(callback, max_epochs=1)
    assert callback.num_failures == 0
    last = callback.history.last()
    assert last["info_plane/net.5/I_XT"].value == 605  # 6 inputs, 5 units
    assert last["info_plane/net.5/I_TY"].value == 503  # 5 units, one-hot rows of 3 classes
    assert "info_plane/net.5/saturation" not in last
    assert callback.plot().axes[0].get_title() == "Information plane, _Shapes"
    with pytest.raises(ValueError, match=r"InfoPlaneCallback\(options=\{'bins': 3\}\): expected none beside a metric"):
        InfoPlaneCallback(estimator=_Shapes(), options={"bins": 3})


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_measure_with_published_settings(preset):
    callback = InfoPlaneCallback(preset=preset, num_samples=NUM_SAMPLES, layers=["net.2"])
    fit(callback, max_epochs=1)
    assert callback.num_failures == 0
    row = callback.history.last()["info_plane/net.2/I_XT"]
    inputs, _ = tiny_data()[1].dataset.tensors
    assert row.num_samples == len(inputs)


def test_a_preset_leaves_nothing_else_to_choose():
    with pytest.raises(ValueError, match=r"preset='saxe-2018'\): expected neither estimator= nor options= beside it"):
        InfoPlaneCallback(preset="saxe-2018", options={"bound": "lower"})
    with pytest.raises(ValueError, match=r"InfoPlaneCallback\(preset='me-2026'\): expected one of 'shwartz-ziv-2017'"):
        InfoPlaneCallback(preset="me-2026")
