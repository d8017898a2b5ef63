"""What InfoPlaneCallback logs is what the functions say of the activations, at the weights of that moment."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_foresight.callbacks import information_plane
from lightning_foresight.callbacks._plane_presets import PRESETS
from lightning_foresight.callbacks.information_plane import InfoPlaneCallback
from lightning_foresight.callbacks.partial_information import PIDCallback
from lightning_foresight.functional import input_information, label_information, layer_pair_information
from lightning_foresight.metrics import DependenceMetric, MutualInformation
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
    with pytest.warns(UserWarning, match="all 48 samples have the same label, 0, about which there is nothing to know"):
        fit(callback, max_epochs=1)
    assert callback.history.last()["info_plane/net.2/I_TY"].value == pytest.approx(0, abs=1e-9)


def test_without_targets_only_the_information_about_the_input_is_logged():
    inputs = tiny_data()[1].dataset.tensors[0]
    callback = InfoPlaneCallback(dataloader=inputs)
    fit(callback, max_epochs=1)
    assert not any(key.endswith("I_TY") for key in callback.history.keys())  # noqa: SIM118
    assert callback.plot().axes[0].get_ylabel() == "I(X;T) in bits"


def test_curves_without_labels_name_no_estimator_of_labels_and_show_what_samples_can_express():
    callback = InfoPlaneCallback(dataloader=tiny_data()[1].dataset.tensors[0], adjacent=True)
    fit(callback, max_epochs=1)
    figures = callback.figures()
    assert [figure.axes[0].get_title() for figure in figures.values()] == ["auto: noise 5%"] * 2
    legend = [text.get_text() for text in figures["I_XT"].axes[0].get_legend().get_texts()]
    assert "I(X;T) of the population" in legend
    assert f"log$_2$ n = {math.log2(NUM_SAMPLES):.2f}" in [name.partition(",")[0] for name in legend]


def test_a_saturated_layer_has_no_upper_end_in_loggers_and_the_exact_one_in_the_history(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    noises = {"fine": 1e-3, "coarse": 1.0}
    callbacks = [
        InfoPlaneCallback(prefix=name, options={"relative_noise": noise}, layers="net.2", log_figures=False)
        for name, noise in noises.items()
    ]
    fit(callbacks, logger=logger, max_epochs=1)
    scalars = EventAccumulator(logger.log_dir).Reload()
    for callback in callbacks:
        assert all(math.isfinite(row.upper) for row in callback.history[f"{callback.prefix}/net.2/I_XT"])
        for end in ("lower", "upper"):
            logged = [event.value for event in scalars.Scalars(f"{callback.prefix}/net.2/I_XT_{end}")]
            kept = [getattr(row, end) for row in callback.history[f"{callback.prefix}/net.2/I_XT"]]
            infinite = callback.prefix == "fine" and end == "upper"
            assert logged == ([math.inf] * len(kept) if infinite else pytest.approx(kept, rel=1e-6))


def test_the_title_of_the_plane_says_at_which_resolution():
    for options, shown in (({"bin_width": 0.5}, "bin_width=0.5"), ({"edges": [-1.0, 0.0, 1.0]}, "edges=3")):
        callback = InfoPlaneCallback(num_samples=32, estimator="binned", options=options)
        fit(callback, max_epochs=1)
        assert callback.plot().axes[0].get_title() == f"Information plane, binned ({shown})"


def test_the_plane_shows_every_layer_and_both_limits():
    callback = InfoPlaneCallback(num_samples=32)
    fit(callback, max_epochs=2)
    axes = callback.plot().axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[:5] == ["net.2", "net.5", "net.6", "shuffled labels", "I(X;T) of the population"]
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
            r"the targets are a tensor of shape \(18,\) and dtype int64 for 48 samples; expected one integer label",
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
    with pytest.raises(ValueError, match=r"InfoPlaneCallback\(estimator='probe'\): cannot answer this question"):
        InfoPlaneCallback(estimator="probe", adjacent=True)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_published_settings_compare_adjacent_layers_too(preset):
    callback = InfoPlaneCallback(preset=preset, adjacent=True, num_samples=NUM_SAMPLES)
    fit(callback, max_epochs=1)
    assert callback.num_failures == 0
    assert math.isfinite(callback.history.last()["info_plane/net.2/I_TT"].value)


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
    # Its error is not known: no ends, no band, but it says of how many samples it is.
    row = last["info_plane/net.5/I_TY"]
    assert [math.isnan(row.lower), math.isnan(row.upper), row.has_interval] == [True, True, False]
    assert row.num_samples == NUM_SAMPLES
    axes = callback.plot().axes[0]
    assert not axes.containers
    assert axes.get_title() == "Information plane, _Shapes"
    # It has no unit, and log2 n and H(Y) are no limits of it.
    assert axes.get_xlabel() == "dependence of layer T on the inputs X"
    assert not [text for text in axes.texts if text.get_text()]
    with pytest.raises(ValueError, match=r"InfoPlaneCallback\(options=\{'bins': 3\}\): expected none beside a metric"):
        InfoPlaneCallback(estimator=_Shapes(), options={"bins": 3})


class _Wrong(DependenceMetric):
    """Does what its argument says, in place of measuring."""

    def __init__(self, way):
        super().__init__()
        self.way = way

    def dependence(self, a, b):
        return {
            "float": lambda: 1.0,
            "matrix": lambda: a.T @ a,
            "nan": lambda: (a.sum() * 0 + b.sum() * 0).log() * 0,
            "error": lambda: a @ a,
        }[self.way]()


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (
            DependenceMetric,
            r"DependenceMetric.dependence fails on the inputs and the outputs of net.2 \(NotImplemented",
        ),
        (lambda: _Wrong("error"), r"_Wrong.dependence fails on the inputs .* expected a scalar tensor or an Estimate"),
        (lambda: _Wrong("float"), r"_Wrong.dependence returns something of type float for the inputs and the outputs"),
        (lambda: _Wrong("matrix"), r"_Wrong.dependence returns something of shape \(6, 6\) for the inputs and the"),
        (lambda: _Wrong("nan"), r"_Wrong.dependence returns nan for the inputs .* expected a finite number"),
    ],
)
def test_a_measure_that_cannot_work_is_refused_before_the_run(metric, message):
    with pytest.raises(ValueError, match=f"InfoPlaneCallback: {message}"):
        fit(InfoPlaneCallback(estimator=metric()))


def test_a_measure_that_fails_on_labels_is_refused_too_and_told_in_which_form_they_come():
    class Columns(DependenceMetric):
        def dependence(self, a, b):
            if b.shape[1] == 3:
                raise IndexError("no more than 2 columns")
            return a.mean() + b.mean()

    expected = r"Columns.dependence fails on the outputs of net.2 and the labels .* labels as one-hot rows"
    with pytest.raises(ValueError, match=expected):
        fit(InfoPlaneCallback(estimator=Columns(), layers="net.2"))


def test_a_measure_may_need_more_samples_than_a_first_look_takes_and_may_be_undefined_for_constant_units():
    class Picky(DependenceMetric):
        def dependence(self, a, b):
            if len(a) < 48:
                raise ValueError("too few")
            return a.std() / b.std(0).min()  # 0 / 0 for a unit that never changes

    from lightning_foresight.callbacks import _plane_trial

    rows = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    _plane_trial.try_measure("owner", Picky(), "layer", rows[:50], rows[:50], None)
    _plane_trial.try_measure("owner", Picky(), "layer", rows, torch.zeros(100, 3), None)
    with pytest.raises(ValueError, match=r"owner: Picky.dependence fails on .* \(ValueError: too few\)"):
        _plane_trial.try_measure("owner", Picky(), "layer", rows[:40], rows[:40], None)


@pytest.mark.parametrize(
    ("layer", "reduce", "message"),
    [
        (
            "conv",
            "mean_tokens",
            r"conv gives \(samples, channels, positions ...\), here \(8, 4, 1, 2\); choose 'mean_pix",
        ),
        ("relu", "last_token", r"relu gives \(samples, channels, positions ...\), here \(8, 4, 1, 2\)"),
        (
            "embed",
            "mean_pixels",
            r"embed gives \(samples, tokens, features\), here \(8, 2, 5\); choose 'mean_tokens' or",
        ),
    ],
)
@pytest.mark.parametrize("make", [InfoPlaneCallback, PIDCallback])
def test_averages_over_what_a_layer_does_not_have_are_refused(make, layer, reduce, message):
    class Mixed(TinyModel):
        def __init__(self):
            super().__init__()
            self.conv, self.relu, self.embed, self.head = (
                nn.Conv2d(1, 4, 2),
                nn.ReLU(),
                nn.Linear(4, 5),
                nn.Linear(5, 3),
            )

        def forward(self, x):
            pixels = self.relu(self.conv(x.reshape(-1, 1, 2, 3)))
            return self.head(self.embed(pixels.flatten(2).transpose(1, 2)).mean(1))

    with pytest.raises(ValueError, match=rf"{make.__name__}\(reduce='{reduce}'\): {message}"):
        fit(make(layers=layer, reduce=reduce), model=Mixed)


def test_the_default_layers_are_told_once_with_the_activations_that_cannot_be_seen(monkeypatch):
    class Half(TinyModel):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.act, self.head = nn.Linear(6, 4), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.act(self.two(torch.relu(self.one(x)))))

    told = []
    monkeypatch.setattr(information_plane, "rank_zero_info", told.append)
    fit(InfoPlaneCallback(), max_epochs=2)
    fit(InfoPlaneCallback(layers="act"), model=Half, max_epochs=1)
    fit(InfoPlaneCallback(), model=Half, max_epochs=1)
    plain, half = told
    assert plain == "InfoPlaneCallback: measures the outputs of net.2, net.5, net.6; layers= chooses others."
    assert "Behind one forward calls an activation as a function, such as F.relu, which is no layer." in half
    assert half.endswith("to measure it, or what it takes by layers=['one'].")


class Encoder(TinyModel):
    def __init__(self):
        super().__init__()
        block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.net, self.embed, self.head = nn.Identity(), nn.Linear(2, 8), nn.Linear(8, 3)
        self.encoder = nn.TransformerEncoder(block, 2)

    def forward(self, x):
        return self.head(self.encoder(self.embed(x.reshape(len(x), 3, 2))).mean(1))


def test_only_layers_that_feed_a_function_are_told_of_activations_that_cannot_be_seen(monkeypatch):
    class Normed(TinyModel):
        def __init__(self):
            super().__init__()
            self.net, self.one, self.norm, self.head = (
                nn.Identity(),
                nn.Linear(6, 4),
                nn.BatchNorm1d(4),
                nn.Linear(4, 3),
            )

        def forward(self, x):
            return torch.log_softmax(self.head(nn.functional.dropout(torch.relu(self.norm(self.one(x))))), 1)

    told = []
    monkeypatch.setattr(information_plane, "rank_zero_info", told.append)
    fit(InfoPlaneCallback(log_figures=False), model=Encoder, max_epochs=1)
    fit(InfoPlaneCallback(log_figures=False), model=Normed, max_epochs=1)
    encoder, normed = told
    assert "Behind encoder.layers.0.linear1, encoder.layers.1.linear1 forward calls" in encoder
    assert "Behind one forward calls" in normed


@pytest.mark.parametrize("blocks", ["*.layers.?", nn.TransformerEncoderLayer], ids=["glob", "type"])
def test_blocks_of_a_transformer_are_chosen_by_glob_or_type(blocks):
    callback = InfoPlaneCallback(layers=[blocks, "head"], reduce="mean_tokens", log_figures=False)
    fit(callback, model=Encoder, max_epochs=1)
    layers = {key.split("/")[1] for key in callback.history.keys()}  # noqa: SIM118
    assert layers == {"encoder.layers.0", "encoder.layers.1", "head"}


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


class _Spy(DependenceMetric):
    """Remembers the inputs of every comparison with a layer."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def dependence(self, a, b):
        self.seen.append(a.clone())
        return torch.tensor(float(b.shape[1]))


def _two_loaders(model, callback, max_epochs=2):
    """Train with training inputs below 0 and validation inputs above."""
    inputs, labels = tiny_data()[1].dataset.tensors
    loaders = (DataLoader(TensorDataset(sign * inputs.abs(), labels), batch_size=8) for sign in (-1, 1))
    settings = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    pl.Trainer(max_epochs=max_epochs, num_sanity_val_steps=0, callbacks=callback, **settings).fit(model, *loaders)
    assert callback.num_failures == 0
    return inputs.abs()


@pytest.mark.parametrize(("source", "sign"), [("val", 1), ("train", -1)])
def test_the_same_samples_are_watched_throughout_without_the_augmentations_of_training(source, sign):
    class Augmenting(TinyModel):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            inputs, labels = batch
            return inputs + 100 * torch.rand_like(inputs) if self.trainer.training else inputs, labels

    spy = _Spy()
    callback = InfoPlaneCallback(
        estimator=spy, dataloader=source, num_samples=NUM_SAMPLES, layers="net.2", null=False, every_n_steps=3
    )
    expected = _two_loaders(Augmenting(), callback)
    of_inputs = [seen for seen in spy.seen if seen.shape[1] == 6]
    assert len(of_inputs) == 5  # one try before the run, then every third of 12 steps
    for seen in of_inputs:
        torch.testing.assert_close(seen, sign * expected)


def test_the_entry_of_a_mapping_that_is_the_target_is_no_input():
    class FromMapping(TinyModel):
        def forward(self, pixels):
            return self.net(pixels)

    inputs, labels = tiny_data()[1].dataset.tensors
    spy = _Spy()
    batches = [{"label": labels, "pixels": inputs}]
    fit(InfoPlaneCallback(estimator=spy, dataloader=batches, layers="net.2"), model=FromMapping, max_epochs=1)
    torch.testing.assert_close(spy.seen[-1], inputs)


def test_every_step_of_an_epoch_is_in_the_history():
    callback = InfoPlaneCallback(num_samples=NUM_SAMPLES, layers="net.6", every_n_steps=1)
    fit(callback, max_epochs=2)
    rows = callback.history["info_plane/net.6/I_XT"]
    assert [row.step for row in rows] == list(range(12))
    assert [row.epoch for row in rows] == pytest.approx([(batch + 1) / 6 for batch in range(12)])
    assert len({row.value for row in rows}) == 12
    points = callback.plot().axes[0].collections[-1]
    assert points.get_array().tolist() == pytest.approx([row.epoch for row in rows])


class _Transformer(TinyModel):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, nhead=2, dim_feedforward=8, batch_first=True)
        self.embed, self.encoder = nn.Linear(2, 4), nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(4, 3)

    def tokens(self, x):
        return self.encoder(self.embed(x.reshape(-1, 3, 2)))

    def forward(self, x):
        return self.head(self.tokens(x)[:, -1])


@pytest.mark.parametrize("reduce", ["flatten", "mean_tokens", "last_token"])
def test_layers_inside_a_transformer_are_watched(reduce):
    callback = InfoPlaneCallback(
        layers=["encoder.layers.?", "encoder.layers.0.linear1"],
        estimator="binned",
        options={"bins": 3},
        reduce=reduce,
        num_samples=NUM_SAMPLES,
    )
    model = fit(callback, model=_Transformer, max_epochs=1).model.eval()
    assert callback.num_failures == 0
    layers = {key.split("/")[1] for key in callback.history.keys()}  # noqa: SIM118
    assert layers == {"encoder.layers.0", "encoder.layers.0.linear1", "encoder.layers.1"}
    with torch.no_grad():
        tokens = model.tokens(tiny_data()[1].dataset.tensors[0])
    reduced = {"flatten": tokens.flatten(1), "mean_tokens": tokens.mean(1), "last_token": tokens[:, -1]}[reduce]
    expected = input_information(reduced, estimator="binned", bins=3)
    value = callback.history.last()["info_plane/encoder.layers.1/I_XT"].value
    assert value == pytest.approx(float(expected.value), abs=1e-6)


class _Recurrent(TinyModel):
    """An LSTM, whose output is a tuple of a tensor and a tuple."""

    batch_first = True

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(2, 4, batch_first=self.batch_first), nn.Linear(4, 3)

    def forward(self, x):
        steps = x.reshape(-1, 3, 2)
        states, _ = self.lstm(steps if self.batch_first else steps.transpose(0, 1))
        return self.head(states[:, -1] if self.batch_first else states[-1])


class _TimeFirst(_Recurrent):
    batch_first = False


def test_of_a_tuple_the_first_tensor_counts():
    callback = InfoPlaneCallback(layers="lstm", estimator=_Shapes(), reduce="last_token", num_samples=NUM_SAMPLES)
    fit(callback, model=_Recurrent, max_epochs=1)
    assert callback.history.last()["info_plane/lstm/I_XT"].value == 604  # 6 inputs, 4 units of the last step


def test_a_layer_with_time_first_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"InfoPlaneCallback\(reduce\): lstm has 3 rows for 8 samples; expected one "):
        fit(InfoPlaneCallback(layers="lstm"), model=_TimeFirst)
    callback = InfoPlaneCallback(
        layers="lstm", estimator=_Shapes(), reduce=lambda states: states.transpose(0, 1).flatten(1), num_samples=48
    )
    fit(callback, model=_TimeFirst, max_epochs=1)
    assert callback.history.last()["info_plane/lstm/I_XT"].value == 612


@pytest.mark.parametrize(("reduce", "features"), [("flatten", 8), ("mean_pixels", 4)])
def test_convolutions_are_flattened_or_pooled(reduce, features):
    class Convolutional(TinyModel):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 4, 2), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.conv(x.reshape(-1, 1, 2, 3)).flatten(1))

    callback = InfoPlaneCallback(layers="conv", estimator=_Shapes(), reduce=reduce, num_samples=NUM_SAMPLES)
    fit(callback, model=Convolutional, max_epochs=1)
    assert callback.history.last()["info_plane/conv/I_XT"].value == 600 + features


def test_between_layers_with_noise_there_is_no_more_than_either_says_of_the_input():
    callback = InfoPlaneCallback(num_samples=NUM_SAMPLES, adjacent=True)
    model = fit(callback, max_epochs=1).model.eval()
    last = callback.history.last()
    inputs = tiny_data()[1].dataset.tensors[0]
    with torch.no_grad():
        layers = {"net.2": model.net[:3](inputs), "net.5": model.net[:6](inputs)}
    expected = layer_pair_information(*layers.values())
    row = last["info_plane/net.2/I_TT"]
    assert row.value == pytest.approx(float(expected.value), abs=1e-4)
    assert row.lower < row.value < row.upper
    assert row.value <= min(last[f"info_plane/{layer}/I_XT"].value for layer in layers) + 0.05
    assert list(callback.figures()) == ["plane", "I_TT"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"targets": 5}, TypeError, r"targets=5\): expected a function from a batch to labels, or several by name"),
        ({"targets": {"class": 1}}, TypeError, r"targets=\{'class': 1\}\): expected a function"),
        ({"targets": {}}, ValueError, r"targets=\[\]\): expected at least one name"),
        ({"targets": {"a/b": len}}, ValueError, r"targets=\['a/b'\]\): expected at least one name, each a string wi"),
        ({"options": [1]}, TypeError, r"options=\[1\]\): expected a mapping of names to values, such as"),
        ({"options": {1: 2}}, TypeError, r"options=\{1: 2\}\): expected a mapping of names to values"),
        ({"dataloader": 5}, TypeError, r"dataloader=5\): expected 'train', 'val', a DataLoader or tensors"),
        ({"dataloader": None}, TypeError, r"dataloader=None\): expected 'train', 'val'"),
        ({"dataloader": {"x": torch.ones(3)}}, TypeError, r"dataloader=\{'x'.*expected 'train', 'val'"),
        ({"dataloader": TensorDataset(torch.ones(3))}, TypeError, r"Wrap the dataset: DataLoader\(dataset, 256\)"),
        ({"dataloader": "test"}, ValueError, r"dataloader='test'\): expected 'train', 'val'"),
        ({"estimator": 5}, TypeError, r"estimator=5\): expected a name such as 'auto'"),
        ({"estimator": _Shapes}, TypeError, r"instance of a DependenceMetric; pass an instance"),
        ({"estimator": ["kde", "binned"]}, TypeError, r"pass a callback with a prefix of its own for each estimator"),
        ({"estimator": "gaussian"}, ValueError, r"estimator='gaussian'\): is not an estimator"),
        ({"reduce": 5}, ValueError, r"reduce=5\): expected one of 'flatten'"),
        ({"null": "no"}, TypeError, r"null='no'\): expected True or False"),
        ({"adjacent": 1}, TypeError, r"adjacent=1\): expected True or False"),
        ({"num_samples": 2.5}, ValueError, r"num_samples=2.5\): expected an integer of at least 2"),
        ({"preset": 5}, ValueError, r"preset=5\): expected one of 'shwartz-ziv-2017'"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused_at_construction(arguments, error, message):
    with pytest.raises(error, match=r"InfoPlaneCallback\(.*" + message):
        InfoPlaneCallback(**arguments)


def test_neighbouring_layers_are_compared_by_a_measure_without_unit():
    callback = InfoPlaneCallback(num_samples=32, estimator="cka", adjacent=True, null=False)
    fit(callback, max_epochs=1)
    assert 0 < callback.history.last()["info_plane/net.2/I_TT"].value <= 1
    assert callback.figures()["I_TT"].axes[0].get_ylabel().startswith("dependence of T and the next layer")


def test_a_measure_without_unit_says_once_that_its_values_are_no_bits(caplog):
    with caplog.at_level("INFO"):
        fit(InfoPlaneCallback(estimator="hsic", layers="net.6", num_samples=NUM_SAMPLES), max_epochs=2)
    assert caplog.text.count("'hsic' has no unit. What is logged as I_XT and I_TY is its value") == 1


def test_the_axes_carry_the_unit_of_the_estimator():
    for estimator, label in (
        ("hsic", "dependence of layer T on the inputs X"),
        (MutualInformation("ksg", base=math.e), "I(X;T) in nats"),
        ("binned", "I(X;T) in bits"),
    ):
        callback = InfoPlaneCallback(estimator=estimator, layers="net.6", num_samples=NUM_SAMPLES)
        fit(callback, max_epochs=1)
        assert callback.plot().axes[0].get_xlabel() == label


@pytest.mark.parametrize(
    "settings",
    [{"estimator": "auto"}, {"estimator": "kde", "options": {"noise_variance": 0.1}}, {"preset": "goldfeld-2019"}],
)
def test_both_informations_are_logged_with_the_ends_of_their_bands(settings, tmp_path):
    logger = TensorBoardLogger(tmp_path)
    callback = InfoPlaneCallback(layers="net.2", num_samples=NUM_SAMPLES, log_figures=False, **settings)
    fit(callback, logger=logger, max_epochs=1)
    scalars = EventAccumulator(logger.log_dir).Reload()
    for kind in ("I_XT", "I_TY"):
        key = f"info_plane/net.2/{kind}"
        value, lower, upper = (scalars.Scalars(f"{key}{end}")[-1].value for end in ("", "_lower", "_upper"))
        assert lower <= value <= upper
        assert lower < upper
    assert "info_plane/net.2/I_TY_null_lower" not in scalars.Tags()["scalars"]


class PreparedOnTheHost(TinyModel):
    def on_before_batch_transfer(self, batch, dataloader_idx):
        self.__dict__.setdefault("hooks", []).append("before")
        return 3 * batch[0], batch[1]

    def on_after_batch_transfer(self, batch, dataloader_idx):
        self.__dict__.setdefault("hooks", []).append("after")
        return batch[0] - 1, batch[1]


def test_samples_pass_both_hooks_around_their_transfer_in_the_order_of_a_run():
    seen = []

    class Watching(InfoPlaneCallback):
        def prepare(self, trainer, pl_module):
            pl_module.hooks = []
            super().prepare(trainer, pl_module)
            assert pl_module.hooks == ["before", "after"] * len(self._samples.batches)
            seen.append(self._samples.inputs())

    fit(Watching(num_samples=NUM_SAMPLES), model=PreparedOnTheHost, max_epochs=1)
    torch.testing.assert_close(seen[0], 3 * tiny_data()[1].dataset.tensors[0] - 1)


class TimeFirst(pl.LightningModule):
    """Reads rows of numbers as time steps."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.RNN(1, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.rnn(x.T.unsqueeze(2))[0][-1])

    training_step, configure_optimizers = TinyModel.training_step, TinyModel.configure_optimizers


@pytest.mark.parametrize("watching", [InfoPlaneCallback, PIDCallback])
def test_as_many_time_steps_as_samples_do_not_hide_that_time_comes_first(watching):
    samples = TensorDataset(torch.randn(24, 6), torch.arange(24) % 3)
    with pytest.raises(ValueError, match=r"\(reduce\): rnn has 6 rows for 5 samples"):
        fit(watching(layers="rnn", dataloader=DataLoader(samples, 6)), model=TimeFirst, max_epochs=1)
