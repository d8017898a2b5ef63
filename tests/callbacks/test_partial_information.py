"""What PIDCallback logs is what the functions say of the codes, at the weights of that moment."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_foresight import PIDCallback
from lightning_foresight.functional import (
    joint_table,
    o_information,
    quantize,
    representational_complexity,
    shannon_invariants,
)
from lightning_foresight.metrics import OInformation, SxPID
from lightning_foresight.training import QuantizeActivations
from tests.contract.cases import NUM_SAMPLES, TinyModel, fit, tiny_data

pytestmark = pytest.mark.filterwarnings("ignore:PIDCallback. layer .* saturation:UserWarning")
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


def test_null_is_the_information_about_shuffled_labels():
    callback = PIDCallback(layers=OUTPUT, quantizer=3)
    fit(callback)
    last = callback.history.last()
    assert 0 < last[f"pid/{OUTPUT}/mi_null"].value < last[f"pid/{OUTPUT}/mi"].value
    without = PIDCallback(layers=OUTPUT, null=False)
    fit(without)
    assert not any("null" in key for key in without.history.keys())  # noqa: SIM118


@pytest.mark.parametrize("sources", ["neurons", "groups:2", [(0, 1), (4,)], "random:3x2"])
def test_sources_are_neurons_groups_or_random_sets(sources):
    callback = PIDCallback(layers="net.5", sources=sources, quantizer=2)
    fit(callback, max_epochs=1)
    row = callback.history.last()["pid/net.5/complexity"]
    most = {"neurons": 5, "random:3x2": 2}.get(str(sources), 2)
    assert 1 - 1e-9 <= row.value <= most
    if sources == "random:3x2":
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


def test_a_metric_of_many_values_warns_and_leaves_the_run_alone():
    callback = PIDCallback(layers=OUTPUT, measure=SxPID())
    with pytest.warns(UserWarning, match=r"PIDCallback\(measure=SxPID\): compute\(\) returned SxPIDResult"):
        fit(callback, max_epochs=1)
    assert callback.num_failures > 0


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


def corrected_with_prefix(callback: PIDCallback) -> PIDCallback:
    callback.prefix = "corrected"
    return callback


@pytest.mark.filterwarnings("default")
def test_saturation_above_one_half_warns_once_with_what_to_do():
    callback = PIDCallback(layers="net.2", quantizer=20)
    with pytest.warns(UserWarning, match=r"layer 'net.2' has a saturation of .*Take more samples") as caught:
        fit(callback, max_epochs=3)
    assert sum("saturation" in str(warning.message) for warning in caught) == 1


def test_figures_show_every_layer():
    callback = PIDCallback()
    fit(callback, max_epochs=2)
    labels = [text.get_text() for text in callback.plot().axes[0].get_legend().get_texts()]
    assert labels == ["net.2", "net.5", "net.6"]
    assert set(callback.figures()) == {"complexity", "redundancy", "vulnerability"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": "synergy"}, r"PIDCallback\(measure='synergy'\): expected one of 'complexity', 'invariants'"),
        ({"sources": "random:5"}, r"PIDCallback\(sources='random:5'\): expected 'auto', 'neurons'.*'random:26x5'"),
        ({"sources": "random:0x5"}, r"PIDCallback\(sources='random:0x5'\)"),
        ({"sources": [(0,), ()]}, r"PIDCallback\(sources=.*expected groups of neurons"),
        ({"target": "labels"}, r"PIDCallback\(target='labels'\): expected one of 'label', 'prediction', 'input'"),
        ({"quantizer": 1}, r"PIDCallback\(quantizer=1\): expected an integer of at least 2"),
        ({"correction": "magic"}, r"PIDCallback\(correction='magic'\): expected one of 'none'"),
        ({"bootstrap": -1}, r"PIDCallback\(bootstrap=-1\)"),
        ({"num_samples": 1}, r"PIDCallback\(num_samples=1\)"),
    ],
)
def test_bad_arguments_are_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        PIDCallback(**options)


def test_batches_without_labels_are_refused_before_training():
    with pytest.raises(ValueError, match=r"PIDCallback\(target='label'\): the batches hold no labels"):
        fit(PIDCallback(dataloader=tiny_data()[1].dataset.tensors[0]), max_epochs=1)
