"""What can be asked of the callback besides the plain noise scale: windows, curvature, probes, doubts."""

from __future__ import annotations

import warnings

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, hessian
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric

from lightning_foresight.callbacks import GradientNoiseScaleCallback
from lightning_foresight.functional import exact_noise_scale
from tests.contract.cases import assert_same_run
from tests.contract.noise_cells import GAN, DictBatch, SkipsFirst, SparseEmbedding
from tests.reference.gradient_noise import per_example_gradients
from tests.reference.noise_runs import Observed, fit, loader


def fresh(model_class, *args):
    torch.manual_seed(0)
    return model_class(*args)


def test_a_window_averages_the_latest_observations_alike():
    model = fresh(Observed)
    callback = GradientNoiseScaleCallback(window=4, every_n_steps=1)
    fit(model, callback, accumulate_grad_batches=2, max_epochs=3, log_every_n_steps=1)
    last = callback.history.last()
    assert last["gns/b_simple"].num_samples == 4
    assert last["gns/trace_sigma"].value == pytest.approx(sum(model.noise[-4:]) / 4, rel=1e-5)
    assert callback.history["gns/trace_sigma"][1].value == pytest.approx(sum(model.noise[:2]) / 2, rel=1e-5)


class AtRest(Observed):
    """Learning rate 0: the truth stays the same at every step."""

    optimizer = staticmethod(lambda parameters: torch.optim.SGD(parameters, lr=0.0))

    def observe(self, losses, loss):
        pass


def exact_curvature(net, inputs, targets):
    """Return tr(H Sigma) and G^T H G from the Hessian matrix and the gradients of all examples."""
    names = dict(net.named_parameters())
    flat = torch.cat([p.detach().flatten() for p in names.values()])

    def loss(vector):
        parts = vector.split([p.numel() for p in names.values()])
        weights = {name: part.view_as(p) for (name, p), part in zip(names.items(), parts, strict=True)}
        return F.cross_entropy(functional_call(net, weights, (inputs,)), targets)

    h = hessian(loss)(flat).double()
    gradients = torch.from_numpy(per_example_gradients(net, F.cross_entropy, inputs, targets))
    mean = gradients.mean(0)
    numerator = (h * torch.cov(gradients.T)).sum()
    # The mean gradient's own noise is no part of G.
    return float(numerator), float(mean @ h @ mean - numerator / len(gradients))


def test_curvature_agrees_with_the_exact_hessian_within_three_standard_errors():
    torch.manual_seed(3)
    model = AtRest(nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 3)))
    dataset = loader(samples=256).dataset
    data = DataLoader(dataset, batch_size=32, shuffle=True)
    callback = GradientNoiseScaleCallback(hessian=1, decay=1.0, every_n_steps=16)
    fit(model, callback, data=data, max_epochs=12)
    assert callback.num_failures == 0
    last = callback.history.last()
    truth = dict(zip(("trace_h_sigma", "grad_h_grad"), exact_curvature(model.net, *dataset.tensors), strict=True))
    for key, value in truth.items():
        row = last[f"gns/{key}"]
        error = (row.upper - row.lower) / 2 / 1.959964
        assert abs(row.value - value) < 3 * error
        assert error < 0.25 * abs(value)  # the test would notice a wrong factor
    assert last["gns/b_noise"].value == pytest.approx(last["gns/trace_h_sigma"].value / last["gns/grad_h_grad"].value)
    assert last["gns/b_noise"].lower < truth["trace_h_sigma"] / truth["grad_h_grad"] < last["gns/b_noise"].upper
    (axes,) = callback.plot().axes
    (drawn,) = [line for line in axes.containers if "noise" in line.get_label()]
    assert list(drawn[0].get_ydata()) == [row.value for row in callback.history["gns/b_noise"]]


def test_the_blocks_of_the_curvature_follow_the_seed_and_the_step():
    def values(seed):
        callback = GradientNoiseScaleCallback(hessian=1, decay=1e-4, every_n_steps=1, seed=seed)
        # One batch, weights at rest, and no memory: only the blocks differ from epoch to epoch.
        fit(fresh(lambda: AtRest(nn.Linear(6, 3))), callback, data=loader(32, 32), max_epochs=3, log_every_n_steps=1)
        return [row.value for row in callback.history["gns/trace_h_sigma"]]

    first, second = values(0), values(7)
    assert first == values(0)
    assert len({*first, *second}) == 6


class Recording(Observed):
    """A training_step that appends, counts, logs and draws, on layers that change buffers."""

    def __init__(self):
        super().__init__(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3)))
        self.outputs, self.calls, self.mean = [], 0, MeanMetric()

    def training_step(self, batch, batch_idx):
        loss = self.losses(batch).mean()
        self.outputs.append(float(loss))
        self.calls += 1
        self.mean(loss.detach())
        self.log("loss", loss, on_epoch=True)
        return {"loss": loss}


@pytest.mark.filterwarnings("ignore:.*curvature is indefinite")
@pytest.mark.parametrize("accumulate", [1, 2])
def test_measuring_curvature_leaves_the_run_and_what_its_steps_record_alone(accumulate):
    data = loader(80, 16)
    settings = {"data": data, "accumulate_grad_batches": accumulate}
    watched, unwatched = fresh(Recording), fresh(Recording)
    callback = GradientNoiseScaleCallback(hessian=1, method="auto", every_n_steps=1)
    runs = fit(watched, callback, **settings), fit(unwatched, [], **settings)
    assert callback.num_failures == 0
    assert "gns/trace_h_sigma" in callback.history.last()
    assert_same_run(*runs)
    assert (watched.outputs, watched.calls) == (unwatched.outputs, unwatched.calls)
    assert torch.equal(watched.mean.compute(), unwatched.mean.compute())
    assert torch.equal(*(run.callback_metrics["loss"] for run in runs))


class Saddle(AtRest):
    """A loss that bends down in every direction."""

    def losses(self, batch):
        return -self.net(batch[0]).square().sum(1)


def test_indefinite_curvature_is_flagged_once_and_gives_no_batch_size():
    callback = GradientNoiseScaleCallback(hessian=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(fresh(lambda: Saddle(nn.Linear(6, 2))), callback, data=loader(64, 32), log_every_n_steps=1)
    said = [str(warning.message) for warning in caught if "indefinite" in str(warning.message)]
    assert len(said) == 1
    assert "G^T H G = -" in said[0]
    assert "b_noise is left out until both are positive" in said[0]
    last = callback.history.last()
    assert last["gns/grad_h_grad"].value < 0
    assert "gns/b_noise" not in last


def test_batches_too_small_for_curvature_are_refused_in_words_and_the_rest_goes_on():
    callback = GradientNoiseScaleCallback(hessian=True)
    with pytest.warns(UserWarning, match="hessian on a batch of 8: expected at least 16 examples"):
        fit(fresh(Observed), callback)
    assert callback.num_failures == 1  # true is once in 500 steps
    assert "gns/b_simple" in callback.history.last()


def test_a_resumed_run_goes_on_with_the_window_and_the_curvature():
    callback = GradientNoiseScaleCallback(hessian=1, window=5, every_n_steps=1)
    fit(fresh(Observed), callback, data=loader(64, 16))
    model = fresh(Observed)
    trainer = fit(model, callback, data=loader(64, 16), max_epochs=1)
    assert callback.history.last()["gns/b_simple"].num_samples == 4  # a new run
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, loader(64, 16))
    last = callback.history.last()
    assert last["gns/b_simple"].num_samples == 5
    assert last["gns/trace_h_sigma"].num_samples == 5 * 8


@pytest.mark.parametrize("method", ["micro_batches", "per_example"])
def test_a_callback_is_deaf_to_what_another_one_sends_through_the_graph(method):
    def run(*others):
        callback = GradientNoiseScaleCallback(method=method, decay=1.0, every_n_steps=1)
        splits = [GradientNoiseScaleCallback(method="split", every_n_steps=1, prefix=f"other{i}") for i in others]
        fit(fresh(Observed), [*splits[:1], callback, *splits[1:]], accumulate_grad_batches=2)
        assert callback.num_failures == 0
        return [(row.key, row.value) for row in callback.history]

    assert run(0, 1) == run()


def test_a_first_batch_without_a_loss_is_made_up_for_at_the_next_step():
    callback = GradientNoiseScaleCallback()  # one step in 200, beginning with the first
    fit(fresh(SkipsFirst), callback, max_epochs=1)
    assert callback.history.last()["gns/b_simple"].num_samples == 1


class AdamW(Observed):
    optimizer = staticmethod(lambda parameters: torch.optim.AdamW(parameters, lr=0.01))


@pytest.mark.filterwarnings("ignore:.*curvature is indefinite")
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("arguments", [{"preconditioner": "adam"}, {"window": 4}, {"groups": "types"}, {"hessian": 3}])
def test_no_option_changes_a_bit_of_the_run(arguments, accumulate):
    settings = {"data": loader(64, 16), "accumulate_grad_batches": accumulate}
    callback = GradientNoiseScaleCallback(every_n_steps=1, **arguments)
    watched = fit(fresh(AdamW), callback, **settings)
    assert callback.num_failures == 0
    assert len(callback.history) > 0
    assert_same_run(watched, fit(fresh(AdamW), [], **settings))


def test_the_first_step_without_a_second_moment_is_left_out():
    callback = GradientNoiseScaleCallback(preconditioner="adam", every_n_steps=1, decay=1.0)
    fit(fresh(AdamW), callback)
    assert callback.num_failures == 0
    assert callback.history.last()["gns/b_simple"].num_samples == 11  # of 12 steps


def test_a_probe_measures_a_model_at_rest_until_it_is_precise_enough():
    model = fresh(Recording)
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    dataset = loader(samples=2048).dataset
    data = DataLoader(dataset, batch_size=16, shuffle=True)
    scale = GradientNoiseScaleCallback().probe(model, data, rtol=0.1, max_batches=512)
    exact = exact_noise_scale(model.net, F.cross_entropy, *dataset.tensors)
    assert scale.b_simple.std_error <= 0.1 * scale.b_simple.value
    assert abs(scale.b_simple.value - exact.b_simple.value) < 3 * scale.b_simple.std_error
    assert scale.b_simple.num_samples <= 128  # no more than it took
    assert model.outputs == []
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_probe_gives_the_step_what_the_hooks_of_a_transfer_make_of_a_batch():
    model = fresh(DictBatch)  # its step takes mappings, made before the transfer
    scale = GradientNoiseScaleCallback(layers="net.2").probe(model, loader(samples=128), max_batches=16)
    assert scale.b_simple.num_samples == 16


def test_a_probe_counts_examples_as_the_callback_is_told_to():
    callback = GradientNoiseScaleCallback(batch_size=lambda batch: 2 * len(batch[0]))
    half, plain = (one.probe(fresh(Observed), loader(samples=128)) for one in (callback, GradientNoiseScaleCallback()))
    assert half.trace_sigma.value == pytest.approx(2 * float(plain.trace_sigma.value), rel=1e-5)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (loader().dataset, r"probe\(dataloader=.*expected batches\. Wrap the dataset: DataLoader\(dataset, 32\)"),
        (None, r"probe\(dataloader=None\): expected a DataLoader, or another iterable of batches"),
    ],
)
def test_a_probe_of_no_batches_is_refused(source, text):
    with pytest.raises(TypeError, match=text):
        GradientNoiseScaleCallback().probe(fresh(Observed), source)


def test_a_probe_of_a_model_that_steps_by_itself_is_refused():
    model = fresh(GAN)
    fit(model, [])
    with pytest.raises(ValueError, match=r"GAN optimizes manually.*Use probe_noise_scale"):
        GradientNoiseScaleCallback().probe(model, loader())


@pytest.mark.parametrize("changed", [{"groups": "layers"}, {"window": 4}], ids=["groups", "window"])
def test_a_checkpoint_of_other_groups_or_averaging_is_not_taken_over_in_silence(changed, tmp_path):
    first = GradientNoiseScaleCallback(every_n_steps=1)
    fit(fresh(Observed), first, accumulate_grad_batches=2).save_checkpoint(tmp_path / "at.ckpt")
    second = GradientNoiseScaleCallback(every_n_steps=1, **changed)
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        callbacks=[second], accumulate_grad_batches=2,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="the checkpoint's observations, of shape .* averages begin anew"):
        trainer.fit(fresh(Observed), loader(), ckpt_path=tmp_path / "at.ckpt")
    assert second.history.last()["gns/b_simple"].num_samples == 3  # those of the third epoch


def test_a_probe_that_stays_imprecise_names_itself_and_says_what_there_is_more_of():
    text = r"Callback\.probe\(rtol=1e-09\): not reached by 6 batches, .* error is 0?\.?[\d.]{3,}\. Pass more of them\."
    with pytest.warns(UserWarning, match=text):
        GradientNoiseScaleCallback().probe(fresh(Observed), loader(), rtol=1e-9)


def test_a_suggestion_for_several_optimizers_asks_which():
    callback = GradientNoiseScaleCallback(every_n_steps=1)
    fit(fresh(GAN), callback)
    with pytest.raises(ValueError, match=r"suggest_batch_size: optimizer=None\): expected 0 to 1"):
        callback.suggest_batch_size()
    assert callback.suggest_batch_size(1).reason


def said_by(callback, model, **settings):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, callback, **settings)
    return [str(warning.message) for warning in caught if callback.name in str(warning.message)]


def test_batchnorm_under_a_split_is_warned_of_once():
    callback = GradientNoiseScaleCallback(method="split")
    said = said_by(callback, fresh(Recording))
    assert len(said) == 1
    assert "BatchNorm couples the examples of a batch (net.1)" in said[0]
    assert said_by(callback, fresh(Recording)) == []
    assert said_by(GradientNoiseScaleCallback(), fresh(Recording), accumulate_grad_batches=2) == []


def test_an_embedding_scaled_by_frequency_is_doubted_under_a_split():
    model = fresh(Observed)
    model.words = torch.nn.Embedding(3, 2, scale_grad_by_freq=True).requires_grad_(False)
    said = said_by(GradientNoiseScaleCallback(method="split"), model)
    assert len(said) == 1
    assert "scale_grad_by_freq=True couples the examples of a batch (words)" in said[0]


def test_a_run_too_short_for_its_budget_is_told_what_to_set_once():
    callback = GradientNoiseScaleCallback(method="split")
    said = said_by(callback, fresh(Observed), max_epochs=10)  # of 6 steps
    assert len(said) == 1
    assert "GradientNoiseScaleCallback: measuring by method='split'. " in said[0]
    assert "budget=0.02 allows one observation in 200 steps, 1 in the 60 of this run" in said[0]
    assert "fewer than 16 make a wide interval, often without an end" in said[0]
    assert "Set every_n_steps=3, which takes about 133% of the training time" in said[0]
    assert said_by(callback, fresh(Observed), max_epochs=10) == []


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ({"every_n_steps": 30}, {}),  # as the user wants it
        ({"budget": 1.0}, {}),  # every step
        ({"method": "micro_batches"}, {"accumulate_grad_batches": 2}),
        ({}, {"max_epochs": 2}),  # too short for any period
    ],
)
def test_a_run_is_called_too_short_only_where_the_budget_makes_it_so(arguments, settings):
    said = said_by(GradientNoiseScaleCallback(**arguments), fresh(Observed), **({"max_epochs": 10} | settings))
    assert said == []


class Recurrent(Observed):
    def __init__(self):
        super().__init__(nn.ModuleDict({"rnn": nn.GRU(6, 4), "head": nn.Linear(4, 3)}))

    def losses(self, batch):
        states, _ = self.net["rnn"](batch[0].unsqueeze(0))
        return F.cross_entropy(self.net["head"](states[-1]), batch[1], reduction="none")


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_layers_with_time_first_are_doubted_unless_the_batch_size_is_told(micro_batches):
    said = said_by(GradientNoiseScaleCallback(), fresh(Recurrent), accumulate_grad_batches=micro_batches)
    assert len(said) == 1
    assert "net.rnn has batch_first=False" in said[0]
    told = GradientNoiseScaleCallback(batch_size=lambda batch: len(batch[1]))
    assert said_by(told, fresh(Recurrent)) == []


class NormedGAN(GAN):
    def __init__(self):
        super().__init__()
        self.discriminator = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 1))


class Toggled(NormedGAN):
    """Each loss leaves the other optimizer's parameters out of its graph."""

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers():
            self.toggle_optimizer(optimizer)
            optimizer.zero_grad()
            self.manual_backward(self.discriminator(self.generator(torch.randn(len(batch[0]), 2)) + batch[0]).mean())
            optimizer.step()
            self.untoggle_optimizer(optimizer)


def test_an_optimizer_reports_the_groups_that_it_trains():
    callback = GradientNoiseScaleCallback(groups="layers", every_n_steps=1)
    fit(fresh(NormedGAN), callback)
    assert callback.num_failures == 0
    groups = {key for key in callback.history.last() if key.startswith("gns/b_simple") and key.count("/") == 3}
    assert groups == {
        "gns/b_simple/optimizer_0/generator",
        "gns/b_simple/optimizer_1/discriminator.0",
        "gns/b_simple/optimizer_1/discriminator.1",
    }


def test_frozen_groups_are_left_out():
    model = fresh(Observed)
    model.net[0].requires_grad_(False)
    model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=0.1)
    callback = GradientNoiseScaleCallback(groups="layers", every_n_steps=1)
    fit(model, callback)
    assert callback.num_failures == 0
    assert "gns/b_simple/net.2" in callback.history.last()
    assert "gns/b_simple/net.0" not in callback.history.last()


def test_an_optimizer_without_normalisation_layers_is_left_out_in_words():
    callback = GradientNoiseScaleCallback(method="norm_layers", every_n_steps=1)
    with pytest.warns(UserWarning, match="optimizer_0 updates no normalisation layer, and is not measured"):
        fit(fresh(NormedGAN), callback)
    assert callback.num_failures == 0
    assert {key.split("/")[2] for key in callback.history.last()} == {"optimizer_1"}


def test_a_backward_pass_that_reaches_no_measured_parameter_shows_nothing():
    callback = GradientNoiseScaleCallback(method="split", layers="discriminator", every_n_steps=1)
    fit(fresh(Toggled), callback)
    assert callback.num_failures == 0
    assert {key.split("/")[2] for key in callback.history.last()} == {"optimizer_1"}


@pytest.mark.parametrize("size", ["8", 0, 2.5, None])
def test_a_batch_size_that_is_no_count_is_refused_in_words(size):
    callback = GradientNoiseScaleCallback(every_n_steps=1, batch_size=lambda batch: size)
    with pytest.warns(UserWarning, match=r"batch_size=.*expected a batch to have a whole number of examples"):
        fit(fresh(Observed), callback, max_epochs=1)
    assert len(callback.history) == 0


def test_curvature_of_sparse_gradients_is_refused():
    with pytest.raises(ValueError, match=r"hessian=True\): expected dense gradients; those of net\..* are sparse"):
        fit(fresh(Observed, SparseEmbedding()), GradientNoiseScaleCallback(hessian=True))
