"""In every kind of run the noise scale is what plain autograd finds, or is refused in words; and the docs say which."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch
import torch._dynamo
import torch._functorch.config

from lightning_foresight.callbacks import GradientNoiseScaleCallback
from tests.contract.noise_cells import CELLS, EXACT, METHODS, YES, ManualAcrossEpochs, OneIsSlower, signs
from tests.contract.noise_two_processes import RUNS
from tests.reference.noise_runs import fit

ROOT = Path(__file__).parents[2]
VERDICTS = {name: cell[-1] for name, cell in {**CELLS, **RUNS}.items()}
on_two_ranks = pytest.mark.xdist_group("two ranks")


def every_cell_of(names):
    """Parametrize over name, method and verdict, in words where it is a refusal."""
    cells = [(name, *one) for name in names for one in zip(METHODS, VERDICTS[name], strict=True) if one[1] is not None]
    ids = [f"{name}-{method}" for name, method, _ in cells]
    return pytest.mark.parametrize(("name", "method", "verdict"), cells, ids=ids)


@pytest.fixture(scope="module")
def ranks(two_ranks):
    return two_ranks("tests.contract.noise_two_processes")


def run_cell(name, method, every_n_steps=1, **others):
    """Train once; return the callback, the noise and signal of each optimizer by definition, and the warnings."""
    model_class, net, settings, arguments, _, _ = CELLS[name]
    settings = {"accumulate_grad_batches": METHODS[method]} | settings
    settings |= others
    companions = [companion() for companion in settings.pop("callbacks", [])]
    donated = settings.pop("donated", True)
    if "plugins" in settings:
        settings["plugins"] = settings["plugins"](METHODS[method])
    torch._dynamo.reset()  # what other tests compiled would be taken
    torch.manual_seed(7)
    model = model_class(net(), signs=signs if method == "split" else None, examples=method == "per_example")
    callback = GradientNoiseScaleCallback(method=method, decay=1.0, every_n_steps=every_n_steps, **arguments)
    with (
        torch._functorch.config.patch(donated_buffer=donated),
        torch._dynamo.config.patch(assume_static_by_default=False),  # one graph for all lengths of a batch
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        fit(model, [callback, *companions], **settings)
    seen = model.seen if hasattr(model, "seen") else {"": (model.noise, model.signal)}
    return callback, seen, [str(warning.message) for warning in caught]


def check_values(reported, noise, signal, tolerance):
    """Compare means; unbiased is signed, so the mean of the signal may come near 0, its parts do not."""
    noise, signal = torch.tensor(noise), torch.tensor(signal)
    assert reported["trace_sigma"] == pytest.approx(float(noise.mean()), rel=tolerance)
    scale = float(signal.abs().mean() + noise.mean() / 8)
    assert reported["grad_sq_norm"] == pytest.approx(float(signal.mean()), abs=tolerance * scale)


@every_cell_of(CELLS)
def test_each_cell_is_right_or_refused_in_words(name, method, verdict):
    if verdict == YES:
        callback, seen, _ = run_cell(name, method)
        assert callback.num_failures == 0
        last = callback.history.last()
        for suffix, (noise, signal) in seen.items():
            assert last[f"gns/b_simple{suffix}"].num_samples == len(noise) > 0
            reported = {key: last[f"gns/{key}{suffix}"].value for key in ("trace_sigma", "grad_sq_norm")}
            check_values(reported, noise, signal, CELLS[name][-2])
    else:
        try:
            callback, _, said = run_cell(name, method)
            assert len(callback.history) == 0
        except ValueError as error:
            said = [str(error)]
        assert any(verdict in text for text in said), said


@on_two_ranks
@every_cell_of(RUNS)
def test_each_cell_of_two_processes_is_right_or_refused_in_words(ranks, name, method, verdict):
    for rank in ranks:
        result = rank["watched"][name][method]
        if verdict != YES:
            assert verdict in result
            continue
        assert result["failures"] == 0
        assert result["num_samples"] == len(result["noise"]) > 0
        check_values(result["reported"], result["noise"], result["signal"], EXACT)


@pytest.mark.parametrize("every", [2, 3])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "name",
    [
        "unequal batches, partial windows",
        "manual optimization",
        "manual optimization, steps across epochs",
        "several optimizers",
    ],
)
def test_every_nth_step_is_seen_as_a_whole(name, method, every):
    if name == "several optimizers" and method == "micro_batches":
        pytest.skip("no step of that run has several")
    callback, seen, _ = run_cell(name, method, every, max_epochs=6)
    assert callback.num_failures == 0
    for suffix, (noise, signal) in seen.items():
        noise, signal = noise[every - 1 :: every], signal[every - 1 :: every]
        last = callback.history.last()
        assert last[f"gns/b_simple{suffix}"].num_samples == len(noise) > 1
        reported = {key: last[f"gns/{key}{suffix}"].value for key in ("trace_sigma", "grad_sq_norm")}
        check_values(reported, noise, signal, EXACT)


def test_auto_finds_out_how_many_batches_make_a_manual_step():
    torch.manual_seed(7)
    model = ManualAcrossEpochs()
    callback = GradientNoiseScaleCallback(decay=1.0, every_n_steps=2)
    fit(model, [callback], max_epochs=8)
    assert callback.num_failures == 0
    assert callback.method_in_use == "micro_batches"
    assert callback.history.last()["gns/b_simple"].num_samples == len(model.noise) // 2


def test_an_optimizer_whose_steps_are_never_seen_whole_is_named():
    torch.manual_seed(7)
    callback = GradientNoiseScaleCallback(method="split", every_n_steps=2)
    with pytest.warns(UserWarning, match="optimizer_1: 8 of its steps were seen in part only.*every_n_steps=1"):
        fit(OneIsSlower(), [callback], max_epochs=12)
    assert {key for row in callback.history for key in [row.key] if "b_simple" in key} == {"gns/b_simple/optimizer_0"}


@on_two_ranks
def test_both_ranks_report_the_same_and_count_all_examples(ranks):
    for name, methods in ranks[0]["watched"].items():
        for method, result in methods.items():
            if isinstance(result, dict):
                assert result["reported"] == ranks[1]["watched"][name][method]["reported"]
                size = 32 if "accumulation" in name else 16  # 8 examples a micro-batch on each rank; the last has fewer
                assert result["reported"]["batch_size"] == pytest.approx(size)


@on_two_ranks
def test_both_ranks_agree_on_curvature_calibrated_layers_and_windows(ranks):
    assert [rank["others"]["failures"] for rank in ranks] == [0, 0]
    assert {"gns/trace_h_sigma", "norms/b_norm_layers", "window/b_simple/net.0"} <= set(ranks[0]["others"]["values"])
    assert ranks[0]["others"]["values"] == ranks[1]["others"]["values"]


@on_two_ranks
@pytest.mark.parametrize("name", ["DDP, accumulation", "FSDP2, accumulation"])
def test_watching_leaves_the_weights_and_hooks_of_two_processes_alone(ranks, name):
    for rank in ranks:
        for key in ("weights", "hooks"):
            assert rank["watched"][name]["micro_batches"][key] == rank["unwatched"][name][key]


def test_the_table_of_the_docs_says_what_these_tests_hold():
    text = (ROOT / "docs/gradient_noise_scale.md").read_text().split("## In which runs it works")[1].split("\n## ")[0]
    table = [[entry.strip() for entry in line.strip("| ").split("|")] for line in re.findall(r"^\|.*\|$", text, re.M)]
    assert table[0][1:4] == [f"`{method}`" for method in METHODS]
    told = {row[0]: tuple(entry.split(",")[0] for entry in row[1:4]) for row in table[2:] if len(row) == 4}
    words = {YES: "yes", None: "-"}
    assert told == {
        name: tuple(words.get(verdict, "refused") for verdict in verdicts) for name, verdicts in VERDICTS.items()
    }
