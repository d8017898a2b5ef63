"""GradientNoiseScaleCallback against exact per-example gradients, and what it refuses."""

from __future__ import annotations

import math
import warnings
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from torch import nn
from torch.utils.data import DataLoader

from lightning_foresight.callbacks import GradientNoiseScaleCallback
from lightning_foresight.callbacks._noise_memory import Discounted, Observation
from lightning_foresight.callbacks._noise_methods import default_period
from lightning_foresight.callbacks._noise_values import efficiency
from lightning_foresight.functional import exact_noise_scale
from lightning_foresight.functional.gradient_noise.plain import ratio_interval
from lightning_foresight.schedule import LogSchedule
from tests.contract.cases import assert_same_run
from tests.contract.noise_cells import GAN, Convolutional, Manual
from tests.reference.noise_runs import Observed, fit, loader


class Frozen(Observed):
    """Learning rate 0: the truth stays the same at every step."""

    optimizer = staticmethod(lambda parameters: torch.optim.SGD(parameters, lr=0.0))

    def observe(self, losses, loss):
        pass


class SmallTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.block(self.embedding((x > 0).long() + torch.arange(6) // 3 * 2)).mean(1))


NETWORKS = {
    "mlp": lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)),
    "cnn": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    ),
    "transformer": SmallTransformer,
}


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("name", NETWORKS)
def test_frozen_weights_give_the_exact_noise_scale_within_three_standard_errors(name, accumulate):
    torch.manual_seed(2)
    model = Frozen(NETWORKS[name]())
    dataset = loader(samples=256).dataset
    data = DataLoader(dataset, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(3))
    callback = GradientNoiseScaleCallback(decay=1.0, every_n_steps=1)
    fit(model, callback, data=data, max_epochs=4 * accumulate)
    exact = exact_noise_scale(model.net, F.cross_entropy, *dataset.tensors)
    last = callback.history.last()
    for key, truth in zip(("trace_sigma", "grad_sq_norm"), exact[1:], strict=True):
        row = last[f"gns/{key}"]
        error = (row.upper - row.lower) / 2 / 1.959964
        assert abs(row.value - float(truth.value)) < 3 * error
        assert error < 0.2 * float(truth.value)  # the test would notice a wrong factor
    row = last["gns/b_simple"]
    assert row.value == pytest.approx(float(exact.b_simple.value), rel=0.5)
    assert row.lower < row.value < row.upper


def fresh(model_class):
    torch.manual_seed(0)
    return model_class()


def test_groups_are_measured_apart_and_add_up():
    everything = GradientNoiseScaleCallback(decay=1.0, groups="layers")
    parts = [
        GradientNoiseScaleCallback(decay=1.0, layers=layer, prefix=f"gns_{layer[-1]}") for layer in ("net.0", "net.2")
    ]
    fit(Observed(), [everything, *parts], accumulate_grad_batches=2)
    last = everything.history.last()
    for key in ("trace_sigma", "grad_sq_norm"):
        total = sum(part.history.last()[f"{part.prefix}/{key}"].value for part in parts)
        assert last[f"gns/{key}"].value == pytest.approx(total, rel=1e-5)
    for part, layer in zip(parts, ("net.0", "net.2"), strict=True):
        assert last[f"gns/b_simple/{layer}"].value == pytest.approx(
            part.history.last()[f"{part.prefix}/b_simple"].value
        )


def test_decay_forgets_the_beginning():
    whole = GradientNoiseScaleCallback(decay=1.0, every_n_steps=1)
    recent = GradientNoiseScaleCallback(decay=0.5, prefix="recent", every_n_steps=1)
    model = Observed()
    fit(model, [whole, recent], accumulate_grad_batches=2, max_epochs=3)
    weights = torch.tensor([0.5 ** (len(model.noise) - 1 - i) for i in range(len(model.noise))])
    expected = (weights * torch.tensor(model.noise)).sum() / weights.sum()
    assert recent.history.last()["recent/trace_sigma"].value == pytest.approx(float(expected), rel=1e-5)
    assert recent.history.last()["recent/b_simple"].num_samples == 3
    assert whole.history.last()["gns/b_simple"].num_samples == len(model.noise)


def test_reports_come_at_logging_steps_and_at_the_end_of_epochs():
    callback = GradientNoiseScaleCallback(every_n_steps=1)
    fit(Observed(), callback, accumulate_grad_batches=2, log_every_n_steps=2)
    assert [row.step for row in callback.history["gns/b_simple"]] == [1, 2, 3, 5]


def test_the_batch_size_is_the_usual_one_and_not_that_of_a_last_step_with_fewer_batches():
    callback = GradientNoiseScaleCallback(every_n_steps=1)
    fit(Observed(), callback, accumulate_grad_batches=2, log_every_n_steps=2)  # 16, 16 and 8 + 4 examples
    assert [row.value for row in callback.history["gns/batch_size"]] == pytest.approx([16.0] * 4)
    last = callback.history.last()
    noise, signal = (max(last[f"gns/{part}"].value, 0.0) for part in ("trace_sigma", "grad_sq_norm"))
    assert last["gns/efficiency"].value == pytest.approx(16 * signal / (16 * signal + noise), rel=1e-4)


@pytest.mark.filterwarnings("ignore:.*allows one observation")
def test_split_is_paced_by_its_budget_and_starts_at_once():
    callback = GradientNoiseScaleCallback(budget=0.4)  # four steps for an observation of tiny parameters: one in ten
    fit(Observed(), callback, max_epochs=4)
    assert callback.history.last()["gns/b_simple"].num_samples == 3  # steps 1, 10 and 20 of 24


@pytest.mark.parametrize(
    ("width", "method", "period"),
    [
        (16, "split", 200),
        (256, "split", 50),
        (256, "norm_layers", 5),
        (16, "micro_batches", 5),
        (256, "micro_batches", 1),
    ],
)
def test_small_parameters_are_looked_at_less_often(width, method, period):
    parameters = [torch.nn.Parameter(torch.zeros(width, width))]
    assert default_period(method, parameters, budget=0.02) == period


@pytest.mark.parametrize(("width", "expected"), [(8, 2), (8192, 8)])  # 8 steps: 1 and 5, or all
def test_tiny_parameters_are_looked_at_less_often(width, expected):
    net = nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, 12), nn.Tanh(), nn.Linear(12, 3))
    callback = GradientNoiseScaleCallback(decay=1.0)
    fit(Observed(net), callback, accumulate_grad_batches=3, max_epochs=4)
    assert callback.history.last()["gns/b_simple"].num_samples == expected


@pytest.mark.parametrize("schedule", [LogSchedule(8, 4, unit="steps"), LogSchedule(3, 2)])
def test_a_schedule_says_which_steps_or_epochs_are_observed(schedule):
    callback = GradientNoiseScaleCallback(schedule=schedule, decay=1.0)
    fit(Observed(), callback, max_epochs=3)
    expected = {"steps": 4, "epochs": 12}[schedule.unit]
    assert callback.history.last()["gns/b_simple"].num_samples == expected


def test_per_example_leaves_the_bits_and_no_hooks():
    callback = GradientNoiseScaleCallback(method="per_example", every_n_steps=1)
    model = fresh(lambda: Observed(Convolutional()))
    watched = fit(model, callback)
    assert len(callback.history) > 0
    assert not any(module._forward_hooks for module in model.modules())
    assert_same_run(watched, fit(fresh(lambda: Observed(Convolutional())), []))


def test_an_accumulation_scheduler_switches_the_method():
    model = Observed()
    callback = GradientNoiseScaleCallback(decay=1.0, every_n_steps=1)
    fit(model, [callback, GradientAccumulationScheduler({0: 1, 1: 2, 2: 3})], max_epochs=3)
    methods = {row.epoch: row.num_samples for row in callback.history["gns/b_simple"]}
    assert callback.method_in_use == "micro_batches"
    assert list(methods.values()) == [6, 9, 11]


def test_manual_optimization_is_taken_as_it_comes():
    callback = GradientNoiseScaleCallback(every_n_steps=1)
    fit(Manual(), callback)
    assert callback.method_in_use == "micro_batches"  # from the second epoch on: two were seen in the first
    assert callback.num_failures == 0


class TwoLosses(Observed):
    """Two backward passes on one batch before the step."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        losses = self.losses(batch)
        self.manual_backward(losses.mean(), retain_graph=True)
        self.manual_backward(losses.square().mean())
        self.optimizers().step()
        self.optimizers().zero_grad()


def test_parts_of_one_loss_are_not_taken_for_micro_batches():
    callback = GradientNoiseScaleCallback(method="micro_batches")
    with pytest.warns(UserWarning, match="several backward passes on one batch; .* add them before .* yield the parts"):
        watched = fit(fresh(TwoLosses), callback)
    assert len(callback.history) == 0
    assert_same_run(watched, fit(fresh(TwoLosses), []))


class PartsOfBatches(TwoLosses):
    """Each half of a batch has a backward pass of its own."""

    def training_step(self, batch, batch_idx):
        for half in zip(*(tensor.chunk(2) for tensor in batch), strict=True):
            self.manual_backward(self.losses(half).mean() / 2)
        self.optimizers().step()
        self.optimizers().zero_grad()


@pytest.mark.parametrize("method", ["auto", "micro_batches", "split"])
def test_backward_passes_on_parts_of_a_batch_are_refused_with_advice_that_manual_optimization_can_follow(method):
    callback = GradientNoiseScaleCallback(method=method, every_n_steps=1)
    with pytest.warns(UserWarning, match="let the DataLoader yield the parts"):
        fit(fresh(PartsOfBatches), callback)
    assert len(callback.history) == 0


class ListOfParameters(Observed):
    def __init__(self):
        super().__init__()
        self.net = None
        self.parts = nn.ParameterList([nn.Parameter(torch.randn(6, width)) for width in (2, 1)])

    def losses(self, batch):
        return nn.functional.cross_entropy(batch[0] @ torch.cat(list(self.parts), 1), batch[1], reduction="none")


def test_parameters_outside_of_layers_are_named_where_single_examples_cannot_be_measured():
    callback = GradientNoiseScaleCallback(method="per_example", every_n_steps=1)
    with pytest.warns(UserWarning, match=r"no outer products for parts\.0, parts\.1.*method=\"split\""):
        fit(fresh(ListOfParameters), callback)
    assert len(callback.history) == 0


class Compiled(Observed):
    def __init__(self):
        net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Linear(8, 3))
        super().__init__(torch.compile(net, backend="aot_eager"))

    def observe(self, losses, loss):
        pass


class Reentrant(Compiled):
    def __init__(self):
        Observed.__init__(self)

    def losses(self, batch):
        hidden = torch.utils.checkpoint.checkpoint(self.net[:2], batch[0].requires_grad_(), use_reentrant=True)
        return F.cross_entropy(self.net[2](hidden), batch[1], reduction="none")


@pytest.mark.parametrize(
    ("model", "advice"), [(Compiled, "donated_buffer = False"), (Reentrant, "2 of 4 parameters.*use_reentrant=False")]
)
def test_a_graph_that_cannot_be_passed_twice_is_refused_with_advice_and_the_run_goes_on(model, advice):
    callback = GradientNoiseScaleCallback(method="split", every_n_steps=1)
    with pytest.warns(UserWarning, match=advice):
        watched = fit(fresh(model), callback)
    assert callback.num_failures > 0
    assert_same_run(watched, fit(fresh(model), []))


def test_batches_of_one_are_refused_with_advice_and_the_run_goes_on():
    callback = GradientNoiseScaleCallback()
    with pytest.warns(UserWarning, match="signed split of a batch of 1: the noise of a gradient takes at least two"):
        fit(Observed(), callback, data=loader(4, 1))
    assert len(callback.history) == 0


def test_batches_of_one_are_measured_under_accumulation():
    model, callback = Observed(), GradientNoiseScaleCallback(decay=1.0, every_n_steps=1)
    fit(model, callback, data=loader(8, 1), accumulate_grad_batches=4)
    assert callback.history.last()["gns/trace_sigma"].value == pytest.approx(
        sum(model.noise) / len(model.noise), rel=1e-5
    )


class Lbfgs(Observed):
    optimizer = staticmethod(lambda parameters: torch.optim.LBFGS(parameters))


class NoOptimizer(Observed):
    def configure_optimizers(self):
        return None


@pytest.mark.parametrize(
    ("model", "arguments", "text"),
    [
        (Lbfgs, {}, "LBFGS evaluates the gradient several times a step, each time at other weights"),
        (NoOptimizer, {}, "the run has no optimizer"),
        (
            Observed,
            {"method": "micro_batches"},
            "expected more than one micro-batch a step: accumulate_grad_batches of 2",
        ),
        (
            Observed,
            {"layers": "net.9"},
            r"layers='net.9'\): no parameter matches. Layers with parameters: net.0, net.2",
        ),
        (Observed, {"preconditioner": "adam"}, r"preconditioner='adam'\): expected optimizers with a second.*got SGD"),
        (Observed, {"method": "norm_layers"}, r"none of LayerNorm, RMSNorm, GroupNorm with weights of its own. Use "),
        (
            Manual,
            {"hessian": True},
            r"hessian=True\): expected automatic optimization: .* Use functional.hessian_noise",
        ),
        (Observed, {"groups": {"head": "fc"}}, r"group 'head'='fc'\): no parameter matches"),
    ],
)
def test_what_cannot_be_measured_stops_the_run_before_it_starts(model, arguments, text):
    with pytest.raises(ValueError, match=text), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(model(), GradientNoiseScaleCallback(**arguments))


class InBatches:
    unit = "batches"

    def __call__(self, count):
        return True


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"method": "exact"}, r"\(method='exact'\): expected one of 'auto', 'micro_batches', 'split', 'per_example'"),
        ({"decay": 1.5}, r"\(decay=1.5\): expected a factor in \(0, 1\]"),
        ({"decay": "a"}, r"\(decay='a'\): expected a factor in \(0, 1\]"),
        ({"decay": math.nan}, r"\(decay=nan\): expected a factor in \(0, 1\]"),
        ({"window": 1}, r"\(window=1\): expected an integer of at least 2"),
        ({"window": 8, "method": "norm_layers"}, r"\(window=8\): expected None with method=.norm_layers"),
        ({"confidence": None}, r"\(confidence=None\): expected a probability between 0 and 1"),
        ({"budget": math.inf}, r"\(budget=inf\): expected a positive share"),
        ({"budget": True}, r"\(budget=True\): expected a positive share"),
        ({"seed": 2**70}, r"\(seed=1180591620717411303424\): expected an integer below 2\*\*63"),
        ({"schedule": 3}, r"\(schedule=3\): expected LogSchedule\(...\) or a callable"),
        ({"schedule": InBatches()}, r"expected a unit of 'epochs' or 'steps', got 'batches'"),
        ({"hessian": 0.5}, r"\(hessian=0.5\): expected an integer of at least 1"),
        ({"batch_size": 32}, r"\(batch_size=32\): expected a function of a batch"),
        ({"preconditioner": "sgd"}, r"\(preconditioner='sgd'\): expected one of None, 'adam'"),
        ({"confidence": 95}, r"\(confidence=95\): expected a probability between 0 and 1"),
        ({"budget": 0}, r"\(budget=0\): expected a positive share"),
        ({"every_n_steps": 0}, r"\(every_n_steps=0\): expected an integer of at least 1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        GradientNoiseScaleCallback(**arguments)


def run_under(strategy, model, *, num_optimizers=1, tensor_parallel=1):
    """What a callback sees of a run under a strategy that cannot be had here, or that needs several processes."""
    mesh = {"tensor_parallel": SimpleNamespace(size=lambda: tensor_parallel)}
    optimizers = [torch.optim.Adam(model.parameters(), lr=0.1) for _ in range(num_optimizers)]
    strategy = type(strategy, (), {"device_mesh": mesh})()
    return SimpleNamespace(strategy=strategy, optimizers=optimizers, callbacks=[], lightning_module=model)


@pytest.mark.parametrize("strategy", ["FSDPStrategy", "DeepSpeedStrategy"])
def test_strategies_that_hide_gradients_are_refused(strategy):
    model = Observed()
    with pytest.raises(ValueError, match=f"under {strategy} no hook sees the gradient of a single micro-batch. Use a"):
        GradientNoiseScaleCallback().prepare(run_under(strategy, model), model)


@pytest.mark.parametrize(
    ("model", "run", "text"),
    [
        (Observed, {"tensor_parallel": 2}, "tensor parallelism cuts single layers into parts.*tensor_parallel_size=1"),
        (Observed, {}, "the gradients of net.0.weight, .* are not averaged over all devices. Call fully_shard on the"),
        (GAN, {"num_optimizers": 2}, "several optimizers on sharded parameters.* Use DDPStrategy"),
    ],
)
def test_shards_that_cannot_be_measured_are_refused(model, run, text):
    model = model()
    with pytest.raises(ValueError, match=text):
        GradientNoiseScaleCallback().prepare(run_under("ModelParallelStrategy", model, **run), model)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"hessian": True}, r"\(hessian=True\): not possible under ModelParallelStrategy: no device holds all"),
        ({"preconditioner": "adam"}, r"\(preconditioner='adam'\): not possible under ModelParallelStrategy"),
        ({"method": "norm_layers"}, r"\(method='norm_layers'\): expected \"auto\" or \"micro_batches\" under"),
    ],
)
def test_options_that_need_whole_parameters_are_refused_on_shards(arguments, text):
    model = Observed()
    with pytest.raises(ValueError, match=text):
        GradientNoiseScaleCallback(**arguments).prepare(run_under("ModelParallelStrategy", model), model)


def test_a_second_fit_of_the_same_trainer_goes_on_with_the_moments():
    model, callback = Observed(), GradientNoiseScaleCallback(decay=1.0, every_n_steps=1)
    trainer = fit(model, callback, accumulate_grad_batches=2)
    trainer.fit_loop.max_epochs = 4
    trainer.fit(model, loader())
    assert callback.history.last()["gns/b_simple"].num_samples == len(model.noise) == 12


def test_the_figure_shows_the_noise_scale_beside_the_batch_size():
    callback = GradientNoiseScaleCallback(groups="layers")
    with pytest.raises(ValueError, match="nothing to draw"):
        callback.plot()
    fit(Observed(), callback, accumulate_grad_batches=2, max_epochs=4)
    (axes,) = callback.plot().axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert {"batch size", "net.0", "net.2"} <= set(labels)
    (line,) = [line for line in axes.lines if line.get_label() == "batch size"]
    assert list(line.get_ydata()) == [row.value for row in callback.history["gns/batch_size"]]


def test_the_suggestion_and_the_efficiency_follow_from_the_last_noise_scale():
    callback = GradientNoiseScaleCallback(decay=1.0, every_n_steps=1)
    with pytest.raises(ValueError, match=r"suggest_batch_size\(\): nothing has been measured yet"):
        callback.suggest_batch_size()
    torch.manual_seed(7)  # weights with which the interval has two ends, whatever tests ran before
    fit(Observed(), callback, accumulate_grad_batches=2, max_epochs=6)
    last = callback.history.last()
    scale, size, efficiency = (last[f"gns/{key}"] for key in ("b_simple", "batch_size", "efficiency"))
    assert efficiency.value == pytest.approx(size.value / (size.value + scale.value))
    assert efficiency.upper == pytest.approx(size.value / (size.value + scale.lower))
    assert efficiency.lower == pytest.approx(size.value / (size.value + scale.upper))
    suggestion = callback.suggest_batch_size()
    assert (suggestion.lower, suggestion.upper) == (max(0, scale.lower), scale.upper)


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [
        ((-0.5, 0.1, -0.2, -0.3), (90.0, 80.0, 85.0, 95.0), 0.0),  # the noise hides the gradient
        ((-0.5, -0.51, -0.49, -0.5), (-90.0, -80.0, -85.0, -95.0), 0.0),
        ((0.5, 0.51, 0.49, 0.5), (-9.0, 8.0, -5.0, -4.0), 1.0),
        ((0.5, 0.51, 0.49, 0.5), (32.0, 33.0, 31.0, 32.0), 1 / 3),  # 32 / (32 + 64)
    ],
)
def test_the_efficiency_is_a_share_within_its_interval(signal, noise, expected):
    memory = Discounted(1, decay=1.0)
    memory.add([Observation([pair], None) for pair in zip(noise, signal, strict=True)])
    (means,) = memory.means()
    share = efficiency(ratio_interval(means, 0.95), means.numerator, means.denominator, batch_size=32.0)
    assert share.value == pytest.approx(expected)
    assert 0 <= share.lower <= share.value <= share.upper <= 1


def test_one_observation_has_a_value_and_an_unbounded_interval():
    callback = GradientNoiseScaleCallback(log_figures=False)
    fit(Observed(), callback, accumulate_grad_batches=6, max_epochs=1)
    row = callback.history.last()["gns/b_simple"]
    assert math.isfinite(row.value)
    assert (row.lower, row.upper) == (-math.inf, math.inf)
