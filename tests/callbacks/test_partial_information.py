"""What PIDCallback logs is what the functions say of the codes, at the weights of that moment."""

from __future__ import annotations

import math
import re
import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_foresight import PIDCallback
from lightning_foresight.callbacks import partial_information
from lightning_foresight.callbacks._pid_saturation import SaturationWarning
from lightning_foresight.ensemble import SeedEnsemble
from lightning_foresight.functional import (
    joint_table,
    make_estimate,
    noisy_table,
    o_information,
    quantize,
    representational_complexity,
    shannon_invariants,
)
from lightning_foresight.functional._random import own_generator
from lightning_foresight.metrics import JointTable, OInformation, SxPID
from lightning_foresight.training import QuantizeActivations
from tests.contract.cases import NUM_SAMPLES, TinyModel, assert_same_run, fit, tiny_data

pytestmark = pytest.mark.filterwarnings("ignore:PIDCallback.*for each joint state:UserWarning")
OUTPUT = "net.6"


def output_codes(trainer, levels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, labels = tiny_data()[1].dataset.tensors
    with torch.no_grad():
        return quantize(trainer.model.eval()(inputs), levels), labels


def test_values_are_those_of_the_functions_on_the_final_weights():
    callback = PIDCallback(quantizer=3)
    trainer = fit(callback)
    table = joint_table(*output_codes(trainer))
    invariants = shannon_invariants(table)
    last = callback.history.last()
    expected = {
        "complexity": representational_complexity(table).value,
        "mi": invariants.mutual_information,
        "redundancy": invariants.redundancy,
        "vulnerability": invariants.vulnerability,
        "saturation": invariants.saturation,
    }
    for key, value in expected.items():
        assert last[f"pid/{OUTPUT}/{key}"].value == pytest.approx(float(value), abs=1e-9)
    assert last[f"pid/{OUTPUT}/mi"].num_samples == NUM_SAMPLES
    assert f"pid/{OUTPUT}/mi_null" in last


def test_nulls_are_the_information_and_the_complexity_about_shuffled_labels():
    callback = PIDCallback(layers=OUTPUT, quantizer=3)
    trainer = fit(callback)
    codes, labels = output_codes(trainer)
    shuffled = labels[torch.randperm(NUM_SAMPLES, generator=own_generator("cpu"))]
    null = joint_table(codes, shuffled)
    last = callback.history.last()
    expected = {
        "mi": shannon_invariants(null).mutual_information,
        "complexity": representational_complexity(null).value,
    }
    for key, value in expected.items():
        row = last[f"pid/{OUTPUT}/{key}_null"]
        assert row.value == pytest.approx(float(value), abs=1e-9)
        assert row.num_samples == NUM_SAMPLES
        assert math.isnan(row.lower)
        assert math.isnan(row.upper)
    assert 0 < last[f"pid/{OUTPUT}/mi_null"].value < last[f"pid/{OUTPUT}/mi"].value
    without = PIDCallback(layers=OUTPUT, null=False)
    fit(without)
    assert not any("null" in key for key in without.history.keys())  # noqa: SIM118


def test_information_its_null_and_saturation_come_with_any_measure():
    callback = PIDCallback(layers=OUTPUT, measure="complexity", quantizer=3)
    fit(callback, max_epochs=1)
    keys = {key.removeprefix(f"pid/{OUTPUT}/") for key in callback.history.last()}
    assert keys == {"mi", "mi_null", "complexity", "complexity_null", "saturation"}


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        ({"quantizer": "center:3"}, lambda x: quantize(x, 3, limits=(-1, 1))),
        ({"quantizer": "bins:3"}, lambda x: quantize(x, 3, limits=(-1, 1), mode="bins")),
        ({"quantizer": "bins:3", "limits": "data"}, lambda x: quantize(x, 3, mode="bins")),
        ({"quantizer": 3, "limits": (-0.5, 0.7)}, lambda x: quantize(x, 3, limits=(-0.5, 0.7))),
        ({"quantizer": QuantizeActivations(3, (-1.2, 0.8))}, lambda x: quantize(x, 3, limits=(-1.2, 0.8))),
        ({"quantizer": lambda x: (x > 0).long()}, lambda x: (x > 0).long()),
        (
            {"quantizer": "stochastic:3"},
            lambda x: quantize(x, 3, limits=(-1, 1), mode="stochastic", generator=own_generator("cpu")),
        ),
    ],
)
def test_quantizers_are_levels_bins_modules_or_functions_between_stated_limits(options, codes):
    callback = PIDCallback(layers="net.2", sources=[(0,), (1,), (2,)], null=False, **options)
    trainer = fit(callback, max_epochs=1)
    inputs, labels = tiny_data()[1].dataset.tensors
    with torch.no_grad():
        states = codes(trainer.model.eval().net[:3](inputs))
    expected = shannon_invariants(joint_table(states[:, :3], labels))
    last = callback.history.last()
    assert last["pid/net.2/mi"].value == pytest.approx(float(expected.mutual_information), abs=1e-9)
    assert last["pid/net.2/vulnerability"].value == pytest.approx(float(expected.vulnerability), abs=1e-9)


def test_noisy_bins_are_measured_on_their_table_of_probabilities():
    callback = PIDCallback(layers="net.2", sources=[(0, 1), (2,)], quantizer="noisy:4x0.2", bootstrap=3)
    trainer = fit(callback, max_epochs=1)
    inputs, labels = tiny_data()[1].dataset.tensors
    with torch.no_grad():
        hidden = trainer.model.eval().net[:3](inputs)
    noisy = noisy_table(hidden[:, :3], labels, noise_std=0.2, num_bins=4, limits=(-1, 1))
    merged = torch.stack([noisy.rows[:, 0] * 100 + noisy.rows[:, 1], noisy.rows[:, 2]], 1)
    expected = shannon_invariants(joint_table(merged, noisy.target, weights=noisy.weights))
    last = callback.history.last()
    assert last["pid/net.2/redundancy"].value == pytest.approx(float(expected.redundancy), abs=1e-9)
    row = last["pid/net.2/mi"]
    assert row.value == pytest.approx(float(expected.mutual_information), abs=1e-9)
    assert row.lower < row.value < row.upper
    assert row.num_samples == NUM_SAMPLES
    # Probabilities do not say how many samples they are of.
    assert not any("saturation" in key for key in last)


def test_noisy_bins_of_wide_layers_take_random_sets_for_every_measure():
    callback = PIDCallback(layers="net.2", quantizer="noisy:2x0.4", num_samples=20)
    fit(callback, max_epochs=1)
    row = callback.history.last()["pid/net.2/redundancy"]
    assert row.lower < row.value < row.upper


@pytest.mark.parametrize("sources", ["neurons", "groups:2", [(0, 1), (4,)], "random:8x3"])
def test_sources_are_neurons_groups_or_random_sets(sources):
    callback = PIDCallback(layers="net.5", sources=sources, quantizer=2)
    fit(callback, max_epochs=1)
    row = callback.history.last()["pid/net.5/complexity"]
    most = {"neurons": 5, "random:8x3": 3}.get(str(sources), 2)
    assert 1 - 1e-9 <= row.value <= most
    if sources == "random:8x3":
        assert row.lower < row.value < row.upper


def test_wide_layers_take_random_sets_for_the_complexity_and_all_neurons_for_the_rest():
    callback = PIDCallback(layers="net.2", quantizer=2)
    trainer = fit(callback, max_epochs=1)
    inputs, labels = tiny_data()[1].dataset.tensors
    with torch.no_grad():
        codes = quantize(trainer.model.eval().net[:3](inputs), 2, limits=(-1, 1))
    last = callback.history.last()
    whole = shannon_invariants(joint_table(codes, labels))
    assert last["pid/net.2/redundancy"].value == pytest.approx(float(whole.redundancy), abs=1e-9)
    assert 1 <= last["pid/net.2/complexity"].value <= 5


@pytest.mark.parametrize("target", ["label", "prediction", "input", lambda batch: batch[1] % 2])
def test_targets_are_labels_predictions_inputs_or_a_function(target):
    callback = PIDCallback(layers=OUTPUT, target=target, quantizer=3)
    trainer = fit(callback, max_epochs=1)
    codes, labels = output_codes(trainer)
    inputs = tiny_data()[1].dataset.tensors[0]
    with torch.no_grad():
        wanted = {
            "label": labels,
            "prediction": trainer.model(inputs).argmax(1),
            "input": torch.arange(NUM_SAMPLES),
        }.get(target if isinstance(target, str) else "", labels % 2)
    expected = shannon_invariants(joint_table(codes, wanted)).mutual_information
    assert callback.history.last()[f"pid/{OUTPUT}/mi"].value == pytest.approx(float(expected), abs=1e-9)


class Constants(OInformation):
    pass


def test_metrics_of_ones_own_are_logged_under_their_names():
    callback = PIDCallback(layers=OUTPUT, measure=[Constants(target=True), "complexity"], quantizer=3)
    trainer = fit(callback)
    expected = o_information(joint_table(*output_codes(trainer)), target=True)
    assert callback.history.last()[f"pid/{OUTPUT}/Constants"].value == pytest.approx(float(expected), abs=1e-9)


class States(JointTable):
    """A measure of many values."""

    def compute(self):
        return self.table().rows.float()


class Broken(JointTable):
    def compute(self):
        raise KeyError("no such atom")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": SxPID()}, r"PIDCallback\(measure=SxPID\): compute\(\) returned SxPIDResult; expected an Estimate"),
        (
            {"measure": States()},
            r"\(measure=States\): compute\(\) returned a tensor of shape \(\d+, 4\) and",
        ),
        (
            {"measure": Broken()},
            r"layer 'net\.6' cannot be measured \(KeyError: 'no such atom'\)\. Found before",
        ),
        (
            {"measure": OInformation(num_sources=2, levels=8, num_targets=3)},
            r"layer 'net\.6' cannot be measured .*OInformation\.update\(sources=3\): expected 2 sources",
        ),
        (
            {"quantizer": "noisy:300x0.1"},
            r"layer 'net\.6' cannot be measured .*3 neurons and 3 target values make .* cells, .*use fewer bins",
        ),
        (
            {"quantizer": torch.relu},
            r"PIDCallback\(quantizer=relu\): returned a tensor of shape \(48, 3\) and dtype float32 for activations of "
            r"shape \(48, 3\); expected integer codes of that shape, for instance \(a > 0\)\.long\(\)",
        ),
        ({"quantizer": lambda a: a.argmax(1)}, r"returned a tensor of shape \(48,\) and dtype int64 for activations"),
        ({"quantizer": lambda a: a.tolist()}, r"returned list for activations of shape \(48, 3\)"),
    ],
)
def test_what_every_measurement_would_fail_on_stops_the_run_before_it_starts(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fit(PIDCallback(layers=OUTPUT, **options), max_epochs=1)


def test_a_metric_that_needs_more_than_a_few_samples_is_not_refused():
    class Hungry(Constants):
        def compute(self):
            if int(self.table().weights.sum()) < 48:
                raise ValueError("too few samples")
            return super().compute()

    samples = tiny_data()[1].dataset.tensors
    loader = DataLoader(TensorDataset(*(torch.cat([part, part]) for part in samples)), batch_size=24)
    callback = PIDCallback(layers=OUTPUT, measure=Hungry(), quantizer=3, dataloader=loader, num_samples=96)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partial_information, "_FEW", 24)
        fit(callback, max_epochs=1)
    assert f"pid/{OUTPUT}/Hungry" in callback.history.last()


class BreaksLater(Constants):
    """Fails after some calls, as a measure of a diverged layer may."""

    calls = 0

    def compute(self):
        type(self).calls += 1
        if self.calls > 3:
            raise ZeroDivisionError("no luck")
        return super().compute()


def test_a_metric_that_fails_in_mid_run_warns_once_and_training_goes_on():
    callback = PIDCallback(layers=OUTPUT, measure=BreaksLater(), quantizer=3)
    with pytest.warns(
        UserWarning, match=r"at step 11 \(epoch 2\) failed in layer 'net\.6' \(ZeroDivisionError"
    ) as caught:
        trainer = fit(callback, max_epochs=4)
    assert sum("no luck" in str(warning.message) for warning in caught) == 1
    assert callback.num_failures == 3
    assert_same_run(trainer, fit(max_epochs=4))


def test_the_first_samples_are_tried_with_all_target_values_and_nothing_is_logged_of_it():
    seen = []

    class Spy(Constants):
        def update(self, sources, target):
            seen.append((len(sources), target.unique().tolist()))
            super().update(sources, target)

    callback = PIDCallback(layers=OUTPUT, measure=Spy(), quantizer=2, num_samples=40)
    fit(callback, max_epochs=1)
    assert seen == [(40, [0, 1, 2])] * 3  # tried, before training, after the epoch
    assert {row.epoch for row in callback.history} == {0, 1}


def test_bootstrap_gives_error_bars_that_the_seed_repeats():
    rows = []
    for _ in range(2):
        callback = PIDCallback(layers=OUTPUT, quantizer=3, bootstrap=8)
        fit(callback, max_epochs=1)
        rows.append(callback.history.last()[f"pid/{OUTPUT}/complexity"])
    assert rows[0].lower < rows[0].value < rows[0].upper
    assert rows[0] == rows[1]


def test_quantised_layers_are_measured_at_their_own_levels():
    class Quantised(TinyModel):
        def __init__(self):
            super().__init__()
            self.net[5] = nn.Sequential(nn.Tanh(), QuantizeActivations(levels=3))

    callback = PIDCallback(layers="net.5.1", sources="neurons")
    trainer = fit(callback, model=Quantised, max_epochs=1)
    inputs, labels = tiny_data()[1].dataset.tensors
    with torch.no_grad():
        hidden = trainer.model.eval().net[:6](inputs)
    expected = shannon_invariants(joint_table(hidden.add(1).round().long(), labels))
    row = callback.history.last()["pid/net.5.1/mi"]
    assert row.value == pytest.approx(float(expected.mutual_information), abs=1e-9)


def test_correction_lowers_the_bias_of_the_information():
    plain, corrected = (PIDCallback(layers=OUTPUT, quantizer=3, correction=name) for name in ("none", "miller_madow"))
    fit([plain, corrected_with_prefix(corrected)], max_epochs=1)
    key = f"{OUTPUT}/mi_null"
    assert corrected.history.last()[f"corrected/{key}"].value < plain.history.last()[f"pid/{key}"].value


def test_correction_reaches_every_entropy_of_the_invariants():
    callback = PIDCallback(layers=OUTPUT, quantizer=3, correction="chao_wang_jost")
    trainer = fit(callback, max_epochs=1)
    expected = shannon_invariants(joint_table(*output_codes(trainer)), correction="chao_wang_jost")
    last = callback.history.last()
    for key, value in {
        "mi": expected.mutual_information,
        "redundancy": expected.redundancy,
        "vulnerability": expected.vulnerability,
    }.items():
        assert last[f"pid/{OUTPUT}/{key}"].value == pytest.approx(float(value), abs=1e-9)


def corrected_with_prefix(callback: PIDCallback) -> PIDCallback:
    callback.prefix = "corrected"
    return callback


@pytest.mark.filterwarnings("default")
def test_fewer_than_five_samples_a_state_warn_once_with_what_to_do():
    callback = PIDCallback(layers="net.2", quantizer=20)
    text = (
        r"48 samples are fewer than 5 for each joint state .* in net\.2 \(1\.0, saturation 1\.00\)\. .*num_samples="
        r".*quantizer=2 with sources='random:10x1', which these samples allow"
    )
    with pytest.warns(UserWarning, match=text) as caught:
        fit(callback, max_epochs=3)
    assert sum("saturation" in str(warning.message) for warning in caught) == 1


@pytest.mark.filterwarnings("default")
def test_all_layers_with_too_few_samples_are_one_warning_whose_advice_helps():
    with pytest.warns(UserWarning, match=r"in net\.2 .*, net\.5 .*, net\.6 .*") as caught:
        fit(PIDCallback(quantizer=20), max_epochs=1)
    (message,) = [str(warning.message) for warning in caught if "saturation" in str(warning.message)]
    (sources,) = re.findall(r"quantizer=2 with sources='(.*?)'", message)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "PIDCallback")
        fit(PIDCallback(quantizer=2, sources=sources), max_epochs=1)


def test_a_saturation_that_leaves_samples_enough_for_each_state_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warning = SaturationWarning("PIDCallback")
        saturation = torch.tensor(0.8)  # 10,000 samples: 1,585 states of 6.3 samples
        warning.look("a", {"saturation": make_estimate(saturation, num_samples=10_000)})
        warning.tell(torch.arange(10))
        warning.look("a", {"complexity_saturation": make_estimate(saturation + 0.05, num_samples=10_000)})
        message = r"10000 samples are fewer than 5 .* in a \(4\.0, complexity_saturation 0\.85\)\. .*'random:10x7'"
        with pytest.raises(UserWarning, match=message):
            warning.tell(torch.arange(10))
        warning.tell(torch.arange(10))  # once


def test_a_value_of_a_single_set_has_no_error_and_no_band():
    callback = PIDCallback(layers=OUTPUT, quantizer=3)
    fit(callback, max_epochs=1)
    assert not any(row.has_interval for row in callback.history)
    assert all(math.isnan(row.lower) for row in callback.history if row.kind == "estimate")
    assert not callback.plot().axes[0].collections
    several = PIDCallback(layers="net.2", quantizer=3, sources="random:4x2")
    fit(several, max_epochs=1)
    assert several.history.last()["pid/net.2/complexity"].has_interval


def test_saturation_of_the_sets_behind_the_complexity_is_logged_and_warned_of_too():
    callback = PIDCallback(layers="net.2", measure=["complexity", "invariants"], quantizer=2, sources="auto")
    fit(callback, max_epochs=1)
    last = callback.history.last()
    assert last["pid/net.2/complexity_saturation"].value < last["pid/net.2/saturation"].value


def test_figures_show_every_layer_with_its_null():
    callback = PIDCallback()
    fit(callback, max_epochs=2)
    axes = callback.plot().axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["net.2", "net.5", "net.6", "null: chance, labels shuffled"]
    figures = callback.figures()
    assert set(figures) == {"complexity", "redundancy", "vulnerability", "mi"}
    assert figures["mi"].axes[0].get_title() == "Information about the target"
    assert figures["mi"].axes[0].get_ylabel() == "I(S;T) in bits"
    for measure in ("complexity", "mi"):
        dashed = [
            line for line in figures[measure].axes[0].lines if line.get_linestyle() == "--" and len(line.get_xdata())
        ]
        drawn = [list(line.get_ydata()) for line in dashed]
        nulls = [[row.value for row in callback.history[f"pid/{name}/{measure}_null"]] for name in labels[:3]]
        assert drawn == nulls


def test_a_band_over_seeds_comes_from_an_ensemble():
    def run(seed):
        callback = PIDCallback(layers=OUTPUT, quantizer=3, seed=seed)
        torch.manual_seed(seed)
        fit(callback, model=TinyModel(), max_epochs=1)
        return [callback]

    summary = SeedEnsemble(run, seeds=range(3)).fit().summary()
    row = next(row for row in summary if row.key == f"pid/{OUTPUT}/complexity")
    assert row.num_runs == 3
    assert row.lower < row.center < row.upper


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": "synergy"}, r"PIDCallback\(measure='synergy'\): expected one of 'complexity', 'invariants'"),
        ({"measure": 5}, r"PIDCallback\(measure=5\): expected 'complexity', 'invariants', a JointTable metric"),
        ({"measure": []}, r"PIDCallback\(measure=\[\]\): expected 'complexity'"),
        ({"measure": [5]}, r"PIDCallback\(measure=5\): expected one of 'complexity', 'invariants'"),
        ({"sources": 5}, r"PIDCallback\(sources=5\): expected 'auto', 'neurons', .*\[\(0, 1\), \(2, 3\)\]"),
        ({"sources": (0, 99)}, r"PIDCallback\(sources=\(0, 99\)\): expected 'auto'"),
        ({"sources": [(0, -1)]}, r"PIDCallback\(sources=\[\(0, -1\)\]\): expected 'auto'"),
        ({"sources": []}, r"PIDCallback\(sources=\[\]\)"),
        ({"sources": "random:5"}, r"PIDCallback\(sources='random:5'\): expected 'auto', 'neurons'.*'random:26x5'"),
        ({"sources": "random:0x5"}, r"PIDCallback\(sources='random:0x5'\)"),
        ({"sources": [(0,), ()]}, r"PIDCallback\(sources=.*expected .*groups of neurons"),
        ({"target": "labels"}, r"PIDCallback\(target='labels'\): expected one of 'label', 'prediction', 'input'"),
        ({"quantizer": 1}, r"PIDCallback\(quantizer=1\): expected an integer of at least 2"),
        ({"quantizer": "bins:1"}, r"PIDCallback\(quantizer='bins:1'\): expected a number of levels, .*'bins:30'"),
        ({"quantizer": "noisy:8"}, r"PIDCallback\(quantizer='noisy:8'\): .*'noisy:8x0.1'"),
        ({"quantizer": "noisy:8x0.0"}, r"PIDCallback\(quantizer='noisy:8x0.0'\)"),
        ({"limits": "layer"}, r"PIDCallback\(limits='layer'\): expected 'activation', 'data', or a pair"),
        ({"limits": (1, 0)}, r"PIDCallback\(limits=\(1, 0\)\): expected a pair"),
        ({"correction": "magic"}, r"PIDCallback\(correction='magic'\): expected one of 'none'"),
        ({"correction": "nsb", "quantizer": "noisy:8x0.1"}, r"PIDCallback\(correction='nsb'\): noisy bins hold prob"),
        ({"bootstrap": -1}, r"PIDCallback\(bootstrap=-1\)"),
        ({"bootstrap": 1}, r"PIDCallback\(bootstrap=1\): expected 0 for none, or at least 2 resamples"),
        ({"num_samples": 1}, r"PIDCallback\(num_samples=1\)"),
    ],
)
def test_bad_arguments_are_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        PIDCallback(**options)


@pytest.mark.parametrize("argument", ["null", "per_layer", "prog_bar", "log_figures"])
def test_switches_are_true_or_false(argument):
    with pytest.raises(TypeError, match=rf"PIDCallback\({argument}='no'\): expected True or False"):
        PIDCallback(**{argument: "no"})


class WideModel(TinyModel):
    def __init__(self):
        super().__init__()
        self.net[4] = nn.Linear(8, 20)
        self.net[6] = nn.Linear(20, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sources": [(0,), (99,)]}, r"PIDCallback\(sources=\[\(0,\), \(99,\)\]\): layer 'net.5' has only 20 neurons"),
        ({"sources": "groups:100"}, r"PIDCallback\(sources='groups:100'\): layer 'net.5' has only 20 neurons"),
        (
            {"sources": "neurons"},
            r"PIDCallback\(sources='neurons'\): layer 'net.5' then has 20 sources, .*'random:26x5'",
        ),
    ],
)
def test_sources_that_a_layer_does_not_have_are_refused_before_training(options, message):
    with pytest.raises(ValueError, match=message):
        fit(PIDCallback(layers="net.5", **options), model=WideModel, max_epochs=1)


def test_batches_without_labels_are_refused_before_training():
    with pytest.raises(ValueError, match=r"PIDCallback\(target='label'\): the batches hold no labels"):
        fit(PIDCallback(dataloader=tiny_data()[1].dataset.tensors[0]), max_epochs=1)


class StochasticModel(TinyModel):
    """Rounds at random in evaluation, too, with the generator from which training draws."""

    def __init__(self):
        super().__init__()
        self.net[2] = nn.Sequential(nn.Tanh(), QuantizeActivations(4, eval_mode="stochastic"))


def test_quantised_layers_train_with_the_same_random_numbers_whether_they_are_watched_or_not():
    watched, alone = (
        fit(callback, model=StochasticModel, max_epochs=2).model.state_dict()
        for callback in (PIDCallback(num_samples=NUM_SAMPLES), None)
    )
    generators = [state.pop("net.2.1._extra_state")["state"] for state in (watched, alone)]
    assert torch.equal(*generators)
    assert all(torch.equal(watched[key], alone[key]) for key in alone)


class OneOutput(TinyModel):
    def training_step(self, batch, batch_idx):
        return nn.functional.binary_cross_entropy_with_logits(self(batch[0]).flatten(), (batch[1] > 0).float())

    def validation_step(self, batch, batch_idx):
        pass

    def __init__(self, *shape):
        super().__init__(classes=1)
        self.net.append(nn.Flatten(*shape))


@pytest.mark.parametrize("shape", [(0,), (1,)])  # (n,) and (n, 1)
def test_a_single_output_has_no_largest_and_is_refused_before_training(shape):
    with pytest.raises(ValueError, match=r"target='prediction'\): the model returned a tensor .*each class"):
        fit(
            PIDCallback(target="prediction", num_samples=48, dataloader=tiny_data()[1].dataset.tensors),
            model=OneOutput(*shape),
            max_epochs=1,
        )


def test_a_layer_with_time_first_is_refused_before_training():
    turned = PIDCallback(reduce=lambda activation: activation.T, num_samples=NUM_SAMPLES)
    with pytest.raises(ValueError, match=r"PIDCallback\(reduce\): .*net.6 has 3 rows for 8 samples"):
        fit(turned, max_epochs=1)


def test_labels_that_are_none_are_refused_with_what_to_do():
    for rule, message in [
        (
            lambda batch: batch[0],
            r"the targets are a tensor of shape \(48, 6\) and dtype float32 for 48 samples",
        ),
        (lambda batch: batch["y"], r"the function target= failed on a batch, a (tuple|list).*TypeError"),
        (lambda batch: "label", r"the targets of a batch are a str that makes no tensor of labels"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit(PIDCallback(target=rule, num_samples=NUM_SAMPLES), max_epochs=1)


def test_loaders_and_measures_that_cannot_be_are_refused_at_construction():
    with pytest.raises(TypeError, match=r"PIDCallback\(dataloader=None\): expected 'train', 'val', a DataLoader"):
        PIDCallback(dataloader=None)
    with pytest.raises(ValueError, match=r"PIDCallback\(target={}\): .*or a function from a batch to integer labels"):
        PIDCallback(target={})
    with pytest.raises(ValueError, match="noisy bins hold probabilities, and a metric counts samples"):
        PIDCallback(measure=SxPID(), quantizer="noisy:8x0.1")


@pytest.mark.filterwarnings("ignore")
def test_a_quantiser_is_measured_by_default_in_place_of_the_activation_before_it():
    class Quantised(TinyModel):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(6, 4), nn.Tanh(), QuantizeActivations(4), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)
            )

    default = PIDCallback(null=False, log_figures=False)
    chosen = PIDCallback(layers=QuantizeActivations, prefix="own", null=False, log_figures=False)
    fit([default, chosen], model=Quantised, max_epochs=1)
    layers = {key.split("/")[1] for key in default.history.keys()}  # noqa: SIM118
    assert layers == {"net.2", "net.4", "net.5"}
    for name in ("mi", "complexity", "saturation"):
        assert default.history.last()[f"pid/net.2/{name}"].value == chosen.history.last()[f"own/net.2/{name}"].value
