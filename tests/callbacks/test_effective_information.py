"""What EICallback logs is what the functions say of the layers, at the weights of that moment."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lightning_foresight.callbacks.effective_information import EICallback
from lightning_foresight.functional import ei_parts, sensitivity, weight_effective_information
from tests.contract.cases import TinyModel, fit


def test_values_are_those_of_the_functions_on_the_final_weights():
    callback = EICallback(in_range=(-1, 2), in_bins=8, out_bins=16)
    model = fit(callback).model
    last = {key: row.value for key, row in callback.history.last().items()}

    weights = weight_effective_information(model.eval(), torch.zeros(1, 6))
    assert last["ei/network"] == pytest.approx(float(weights.ei), abs=1e-6)
    assert last["ei/network_determinism"] == pytest.approx(float(weights.determinism), abs=1e-6)
    assert last["ei/network_degeneracy"] == pytest.approx(float(weights.degeneracy), abs=1e-6)
    assert last["ei/network_effectiveness"] == pytest.approx(float(weights.effectiveness), abs=1e-6)
    assert last["ei/net.4/weights"] == pytest.approx(float(weights.layers["net.4"].ei), abs=1e-6)

    bins = {"in_bins": 8, "out_bins": 16}
    # The ranges of inner layers are those of the activation before them: tanh, then (BatchNorm-free) ReLU.
    parts = ei_parts(model.net[4], nn.ReLU(), in_range=(-1, 1), **bins).sum()
    alone = sensitivity(model.net[4], nn.ReLU(), in_range=(-1, 1), **bins).sum()
    assert last["ei/net.4/parts"] == pytest.approx(float(parts), rel=1e-6)
    assert last["ei/net.4/sensitivity"] == pytest.approx(float(alone), rel=1e-6)
    assert last["ei/net.4/degeneracy"] == pytest.approx(float(alone - parts), rel=1e-5)
    layers = [value for key, value in last.items() if key.endswith("/parts")]
    assert len(layers) == 3
    assert last["ei/total_parts"] == pytest.approx(sum(layers), rel=1e-5)


def test_only_the_measures_asked_for_are_logged():
    callback = EICallback(measures=["weights"])
    fit(callback, max_epochs=1)
    kinds = {key.rsplit("/", 1)[1] for key in callback.history.keys() if key.count("/") == 2}  # noqa: SIM118
    assert kinds == {"weights"}
    callback = EICallback(measures=["sensitivity"], in_bins=4, out_bins=4)
    fit(callback, max_epochs=1)
    assert all(key.endswith(("/sensitivity", "/total_sensitivity")) for key in callback.history.keys())  # noqa: SIM118


def test_large_layers_are_measured_on_a_choice_of_pairs_with_an_interval():
    exact = EICallback(in_bins=8, out_bins=8, measures=("parts", "sensitivity"))
    chosen = EICallback(in_bins=8, out_bins=8, measures=("parts", "sensitivity"), max_pairs=24, prefix="some")
    fit([exact, chosen])
    row = chosen.history.last()["some/net.0/parts"]
    assert row.kind == "estimate"
    assert row.num_samples == 24  # of 48 pairs: 4 of 8 outputs, with 6 inputs each
    truth = exact.history.last()["ei/net.0/parts"].value
    # Of 4 outputs the standard error itself is uncertain by 40%: three half-widths of the normal interval.
    assert abs(row.value - truth) < 3 * (row.upper - row.value)
    assert "net.0/parts" not in exact.bands()
    assert exact.history.last()["ei/net.0/parts"].kind == "exact"


class _Gelu(TinyModel):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 4), nn.Softmax(-1), nn.Linear(4, 3))


def test_what_has_no_exact_method_is_sampled_with_an_error():
    callback = EICallback(in_bins=4, out_bins=64, in_range=(-1, 1), num_samples=20_000)
    fit(callback, model=_Gelu, max_epochs=1)
    assert callback.num_failures == 0
    last = callback.history.last()
    assert (last["ei/net.0/parts"].kind, last["ei/net.2/parts"].kind) == ("estimate", "exact")
    assert last["ei/net.0/parts"].lower < last["ei/net.0/parts"].value < last["ei/net.0/parts"].upper
    assert last["ei/net.0/parts"].num_samples == 20_000


def test_vector_information_has_an_interval_and_never_exceeds_the_input():
    callback = EICallback(measures=["vector"], in_bins=2, out_bins=4, in_range=(-1, 1), num_samples=4096)
    fit(callback, model=_Gelu, max_epochs=1)
    rows = [row for row in callback.history if row.key == "ei/net.2/vector"]
    assert len(rows) == 2
    assert all(0 <= row.value <= 4 + 0.1 for row in rows)  # four inputs of one bit
    assert all(row.has_interval for row in rows)


def test_what_saturates_is_logged_as_bounds_and_not_as_a_value(caplog):
    callback = EICallback(measures=["parts", "vector"], in_bins=64, out_bins=64, in_range=(-1, 1), num_samples=4096)
    with caplog.at_level("INFO"):
        fit(callback, max_epochs=1)
    last = callback.history.last()
    for kind in ("net.0/vector", "net.0/phi", "total_phi"):
        assert f"ei/{kind}" not in last
        assert last[f"ei/{kind}_lower"].value < last[f"ei/{kind}_upper"].value
        assert (last[f"ei/{kind}_lower"].kind, last[f"ei/{kind}_upper"].kind) == ("lower_bound", "upper_bound")
    parts = last["ei/net.0/parts"].value
    assert last["ei/net.0/phi_lower"].value == pytest.approx(last["ei/net.0/vector_lower"].value - parts, abs=1e-4)
    assert sum("beyond what samples can tell" in message for message in caplog.messages) == 1
    assert callback.num_failures == 0


def test_the_range_of_the_first_layer_is_that_of_the_data_unless_given():
    wide, given = EICallback(in_bins=4, out_bins=4), EICallback(in_bins=4, out_bins=4, in_range=(0, 1), prefix="given")
    fit([wide, given], max_epochs=1)
    assert wide.history.last()["ei/net.0/parts"].value != given.history.last()["given/net.0/parts"].value
    # Layers further in do not depend on it.
    assert wide.history.last()["ei/net.6/parts"].value == given.history.last()["given/net.6/parts"].value


def test_example_input_array_is_used_where_there_is_one():
    class WithExample(TinyModel):
        def __init__(self):
            super().__init__()
            self.example_input_array = torch.linspace(-3, 5, 12).reshape(2, 6)

    callback, given = EICallback(in_bins=4, out_bins=4), EICallback(in_bins=4, out_bins=4, in_range=(-3, 5), prefix="g")
    fit([callback, given], model=WithExample, max_epochs=1)
    assert callback.history.last()["ei/net.0/parts"].value == given.history.last()["g/net.0/parts"].value


def test_layers_narrow_both_kinds_of_measure():
    callback = EICallback(layers=["net.4", "net.6"], in_bins=4, out_bins=4)
    fit(callback, max_epochs=1)
    assert {key.split("/")[1] for key in callback.history.keys() if key.count("/") == 2} == {"net.4", "net.6"}  # noqa: SIM118


def test_figures_are_the_causal_plane_and_the_weights():
    callback = EICallback(in_bins=4, out_bins=4)
    fit(callback)
    figures = callback.figures()
    assert list(figures) == ["causal_plane", "weights"]
    axes = figures["causal_plane"].axes[0]
    assert axes.get_xlabel() == "degeneracy in bits"
    legend = figures["causal_plane"].legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["net.0", "net.4", "net.6"]
    last = callback.history.last()
    points = axes.collections[-1].get_offsets()
    assert points[-1][0] == pytest.approx(last["ei/net.6/degeneracy"].value)
    assert points[-1][1] == pytest.approx(last["ei/net.6/sensitivity"].value)


class Cnn(TinyModel):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Unflatten(1, (1, 2, 3)),
            nn.Conv2d(1, 4, 2),
            nn.ReLU(),
            nn.AvgPool2d((1, 2)),
            nn.Flatten(),
            nn.Linear(4, 3),
        )


def test_a_convolutional_network_is_measured_whole():
    callback = EICallback(in_bins=8, out_bins=8)
    fit(callback, model=Cnn, max_epochs=1)
    assert callback.num_failures == 0
    last = callback.history.last()
    assert {"ei/network", "ei/net.1/parts", "ei/net.1/weights", "ei/net.5/sensitivity"} <= last.keys()
    assert all(math.isfinite(row.value) for row in last.values())


@pytest.mark.parametrize(("layers", "keys"), [(None, {"ei/net.1/weights", "ei/net.5/weights"}), (nn.AvgPool2d, set())])
def test_layers_without_parameters_count_in_the_network_and_have_no_key_of_their_own(layers, keys):
    callback = EICallback(measures=("weights",), layers=layers)
    model = fit(callback, model=Cnn, max_epochs=1).model.eval()
    last = callback.history.last()
    assert {key for key in last if key.endswith("/weights")} == keys
    chosen = None if layers is None else lambda name, module: isinstance(module, layers)
    whole = weight_effective_information(model, torch.zeros(1, 6), layers=chosen)
    assert "net.3" in whole.layers
    assert last["ei/network"].value == pytest.approx(float(whole.ei), abs=1e-6)


def test_weights_that_become_nan_warn_once_and_leave_the_run_alone():
    class Diverging(TinyModel):
        def on_train_epoch_end(self):
            with torch.no_grad():
                self.net[0].weight.fill_(float("nan"))

    callback = EICallback(measures=("weights",))
    with pytest.warns(UserWarning, match="EICallback: a measurement at step .* NaN"):
        fit(callback, model=Diverging, max_epochs=2)
    assert all(math.isfinite(row.value) for row in callback.history)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EICallback(measures=()), r"EICallback\(measures=\(\)\): expected a non-empty sequence"),
        (lambda: EICallback(measures="weights"), r"EICallback\(measures='weights'\): expected a non-empty sequence"),
        (lambda: EICallback(measures=["luck"]), r"EICallback\(measures='luck'\): expected one of 'weights'"),
        (lambda: EICallback(norm="max"), r"EICallback\(norm='max'\): expected one of 'lin', 'soft', 'sig'"),
        (lambda: EICallback(method="fast"), r"EICallback\(method='fast'\)"),
        (lambda: EICallback(in_bins=1), r"EICallback\(in_bins=1\): expected an integer of at least 2"),
        (lambda: EICallback(out_bins=2.5), r"EICallback\(out_bins=2.5\)"),
        (lambda: EICallback(in_range=(1, 0)), r"EICallback\(in_range=\(1, 0\)\): expected a pair \(low, high\)"),
        (lambda: EICallback(num_samples=1), r"EICallback\(num_samples=1\)"),
        (lambda: EICallback(max_pairs=0), r"EICallback\(max_pairs=0\)"),
    ],
)
def test_bad_arguments_are_refused_at_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_model_without_measurable_layers_is_refused():
    class Nothing(TinyModel):
        def __init__(self):
            super().__init__()
            self.net = nn.LayerNorm(6)

    with pytest.raises(ValueError, match=r"EICallback: no layer of the model can be measured.*LayerNorm"):
        fit(EICallback(), model=Nothing)


def test_an_unknown_layer_is_refused_with_those_that_can_be_measured():
    with pytest.raises(ValueError, match=r"EICallback\(layers=\['fc9'\]\).*net\.0, net\.4, net\.6"):
        fit(EICallback(layers=["fc9"]))


class BlockModel(TinyModel):
    """A network of which one layer is a block with a skip connection, followed by a normalisation."""

    def __init__(self):
        super().__init__()
        self.net[4] = nn.Sequential(Skip(8), nn.Linear(8, 5))
        self.net.append(nn.LayerNorm(3))


class Skip(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, x):
        return x + torch.tanh(self.inner(x))


def test_any_module_is_measured_if_it_is_named():
    model = BlockModel()
    number = str(len(model.net) - 1)
    callback = EICallback(layers=["net.4.0", nn.LayerNorm], in_bins=4, out_bins=4, num_samples=500)
    fit(callback, model=model, max_epochs=1)
    last = callback.history.last()
    measures = {"parts", "sensitivity", "degeneracy"}
    totals = {f"ei/total_{kind}" for kind in measures}
    assert set(last) == totals | {f"ei/{name}/{kind}" for name in ("net.4.0", f"net.{number}") for kind in measures}
    assert last["ei/net.4.0/parts"].kind == "estimate"


class PoolModel(TinyModel):
    """Six numbers are an image of two channels: normalised, halved in two ways, and read."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Sigmoid(),
            nn.AvgPool2d((2, 1)), nn.MaxPool2d((1, 3)), nn.Flatten(), nn.Linear(2, 3),
        )  # fmt: skip


def test_affine_modules_are_measured_exactly_where_they_are_chosen():
    bins = {"in_bins": 4, "out_bins": 4}
    chosen = [nn.AvgPool2d, nn.BatchNorm2d, nn.Flatten, nn.MaxPool2d]
    callback = EICallback(layers=chosen, measures=["parts"], num_samples=2_000, in_range=(-1, 1), **bins)
    model = fit(callback, model=PoolModel, max_epochs=1).model.eval()
    rows = callback.history.last()
    kinds = {key.split("/")[1]: row.kind for key, row in rows.items() if key.endswith("/parts")}
    assert kinds == {"net.2": "exact", "net.4": "exact", "net.5": "estimate", "net.6": "exact"}
    assert set(callback.bands()) == {"net.5/parts", "total_parts"}
    # A single position of an image, a single window, all that Flatten reads.
    norm = ei_parts(model.net[2], nn.Sigmoid(), in_range=(-10, 10), in_shape=(2, 1, 1), **bins).sum()
    assert rows["ei/net.2/parts"].value == pytest.approx(float(norm), rel=1e-6)
    window = ei_parts(model.net[4], in_range=(0, 1), out_range=(0, 1), **bins).sum()
    assert rows["ei/net.4/parts"].value == pytest.approx(float(window), rel=1e-6)
    assert rows["ei/net.6/parts"].value == 2 * 2


class Adapted(nn.Linear):
    """Its weights alone tell nothing."""

    def __init__(self):
        super().__init__(6, 3)
        self.more = nn.Parameter(torch.full((3, 6), 2.0))
        nn.init.zeros_(self.weight)

    def forward(self, x):
        return super().forward(x) + x @ self.more.T


class AdaptedModel(TinyModel):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(Adapted())


def test_a_linear_layer_with_a_forward_of_its_own_is_sampled_as_it_is():
    options = {"in_bins": 4, "out_bins": 4, "num_samples": 2_000, "in_range": (-1, 1)}
    callback = EICallback(measures=["parts"], **options)
    fit(callback, model=AdaptedModel, max_epochs=1)
    found = callback.history.last()["ei/net.0/parts"]
    assert found.kind == "estimate"
    assert found.value > 0.1


class TransformerBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4))

    def forward(self, x):
        read = self.norm(x)
        x = x + self.attention(read, read, read, need_weights=False)[0]
        return x + self.mlp(x)


class Transformer(TinyModel):
    """Six numbers are three tokens, each turned into four features."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Unflatten(1, (3, 2)), nn.Linear(2, 4), TransformerBlock(), nn.Flatten(), nn.Linear(12, 3)
        )


def test_layers_that_treat_tokens_alone_are_measured_on_one_token():
    options = {"in_bins": 4, "out_bins": 4, "num_samples": 2_000, "in_range": (-1, 1), "max_pairs": 64}
    callback = EICallback(layers=[nn.LayerNorm, "net.2.mlp"], measures=["parts"], **options)
    model = fit(callback, model=Transformer, max_epochs=1).model
    shapes = {"net.2.norm": (1, 4), "net.2.mlp": (1, 4), "net.2.mlp.0": (1, 4)}
    found = {key: row.value for key, row in callback.history.last().items() if key.endswith("/parts")}
    assert set(found) == {f"ei/{name}/parts" for name in shapes}
    alone = ei_parts(
        model.net[2].norm.eval(), in_range=(-10, 10), in_bins=4, out_bins=4, in_shape=(4,), num_samples=20_000
    )
    # 2,000 samples, 16 pairs of about 0.1 bits each.
    assert found["ei/net.2.norm/parts"] == pytest.approx(float(alone.sum()), abs=0.2)


def test_blocks_that_mix_tokens_are_measured_whole():
    callback = EICallback(layers=["net.2"], measures=["parts"], max_pairs=20)
    with pytest.raises(ValueError, match=r"layers='net.2'\): it reads 12 numbers"):
        fit(callback, model=Transformer, max_epochs=1)


class Recurrent(TinyModel):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(2, 3, num_layers=2, batch_first=True)
        self.head = nn.Linear(9, 3)

    def forward(self, x):
        return self.head(self.lstm(x.view(-1, 3, 2))[0].flatten(1))


@pytest.mark.parametrize(
    ("model", "layers", "expected"),
    [
        (Transformer, "net.2.attention.q_proj", ["net.2.attention.q_proj"]),
        (Transformer, ["*.out_proj", "net.4"], ["net.2.attention.out_proj", "net.4"]),
        (Transformer, "*attention.?_proj", [f"net.2.attention.{letter}_proj" for letter in "qkv"]),
        (Transformer, nn.MultiheadAttention, [f"net.2.attention.{part}_proj" for part in ("q", "k", "v", "out")]),
        (Recurrent, "lstm.l1", ["lstm.l1"]),
        (Recurrent, ["lstm", "head"], ["lstm.l0", "lstm.l1", "head"]),
    ],
)
def test_parts_of_modules_are_chosen_by_the_names_under_which_they_are_logged(model, layers, expected):
    callback = EICallback(
        layers=layers, measures=["weights", "parts"], in_bins=4, out_bins=4, num_samples=500, in_range=(-1, 1)
    )
    fit(callback, model=model, max_epochs=1)
    for kind in ("weights", "parts"):
        logged = {key for key in callback.history.last() if key.endswith(f"/{kind}")}
        assert logged == {f"ei/{name}/{kind}" for name in expected}


def test_parts_of_modules_are_among_the_layers_that_an_unknown_name_is_answered_with():
    with pytest.raises(ValueError, match=r"\['net.2.attention.w_proj'\].*net.2.attention, net.2.attention.q_proj, "):
        fit(EICallback(layers="net.2.attention.w_proj"), model=Transformer)


def test_by_default_blocks_are_seen_through_their_layers():
    callback = EICallback(measures=("sensitivity",), in_bins=4, out_bins=4)
    fit(callback, model=BlockModel(), max_epochs=1)
    assert "ei/net.4.0.inner/sensitivity" in callback.history.last()
    assert "ei/net.4.0/sensitivity" not in callback.history.last()


def test_a_block_that_reads_too_much_is_refused():
    callback = EICallback(layers=["net.4.0"], max_pairs=10)
    with pytest.raises(ValueError, match=r"layers='net.4.0'\).*reads 8 numbers.*max_pairs=10.*raise max_pairs"):
        fit(callback, model=BlockModel(), max_epochs=1)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x, factor):
        return self.layer(x) * factor


class WithScaled(TinyModel):
    def __init__(self):
        super().__init__()
        self.scaled = Scaled()

    def forward(self, x):
        return self.scaled(x, 2.0)


@pytest.mark.parametrize(
    ("model", "arguments", "text"),
    [
        (
            WithScaled,
            {"layers": "scaled"},
            r"layers='scaled'\): it cannot be called with noise of shape \(2, 6\) alone",
        ),
        (
            BlockModel,
            {"layers": nn.LayerNorm, "method": "exact"},
            r"method='exact'\): net.7 .* no exact method.*'auto'",
        ),
    ],
)
def test_layers_that_every_measurement_would_fail_on_stop_the_run_before_it_starts(model, arguments, text):
    with pytest.raises(ValueError, match=text):
        fit(EICallback(in_range=(-1, 1), **arguments), model=model)


class WithComplex(TinyModel):
    def __init__(self):
        super().__init__()
        self.rotation = nn.Linear(6, 6, dtype=torch.complex64)

    def forward(self, x):
        return self.net(self.rotation(x.to(torch.complex64)).real)


@pytest.mark.parametrize("measures", [("weights",), ("parts",)])
def test_complex_weights_stop_the_run_before_it_starts_unless_they_are_left_out(measures):
    with pytest.raises(TypeError, match=r"layers='rotation'\): its weights are .* complex64; expected real.*layers="):
        fit(EICallback(in_range=(-1, 1), measures=measures), model=WithComplex())
    others = EICallback(in_range=(-1, 1), measures=measures, layers="net.*")
    fit(others, model=WithComplex(), max_epochs=1)
    assert others.num_failures == 0
    assert len(others.history) > 0


def test_fewer_samples_than_an_estimate_takes_are_refused_at_once():
    with pytest.raises(ValueError, match=r"EICallback\(num_samples=15\): expected an integer of at least 16"):
        EICallback(num_samples=15)


def test_outputs_are_binned_over_the_range_asked_for():
    found = {}
    for out_range in (None, (-2.0, 2.0), "dynamic"):
        callback = EICallback(measures=("parts",), in_range=(-1, 1), out_range=out_range, in_bins=8, out_bins=8)
        fit(callback, max_epochs=1)
        assert callback.num_failures == 0
        found[out_range] = {key: row.value for key, row in callback.history.last().items()}
    # No activation follows the first layer: by default its outputs are a few bins of (-10, 10).
    values = [found[out_range]["ei/net.0/parts"] for out_range in (None, (-2.0, 2.0), "dynamic")]
    assert values[0] < values[1]
    assert values[0] < values[2]
    with pytest.raises(ValueError, match=r"EICallback\(out_range='wide'\)"):
        EICallback(out_range="wide")
    with pytest.raises(ValueError, match=r"EICallback\(out_range=\(1, 0\)\)"):
        EICallback(out_range=(1, 0))


class Gan(TinyModel):
    """Two networks, of which forward runs the second."""

    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 6))


@pytest.mark.parametrize("measures", [("weights",), ("parts",), ("weights", "parts")])
def test_layers_that_forward_does_not_run_are_told_of_once_with_what_to_override(measures):
    callback = EICallback(measures=measures, in_bins=4, out_bins=4)
    with pytest.warns(UserWarning, match="generator") as caught:
        fit(callback, model=Gan, max_epochs=1)
    told = [str(warning.message) for warning in caught if "generator" in str(warning.message)]
    assert told == [
        "EICallback: leaves out generator.0, generator.2, which the forward pass does not call. Override "
        "run_model(self, pl_module, batch) of the callback to run the parts of the model that they belong to."
    ]
    assert {key.split("/")[1] for key in callback.history.keys() if key.count("/") == 2} == {"net.0", "net.4", "net.6"}  # noqa: SIM118


def test_run_model_can_run_what_forward_leaves_out():
    class Both(EICallback):
        def run_model(self, pl_module, batch):
            return pl_module(pl_module.generator(batch[0][:, :2]))

    callback = Both(measures=("weights",))
    fit(callback, model=Gan, max_epochs=1)
    assert {"ei/generator.0/weights", "ei/net.0/weights"} <= callback.history.last().keys()


class Standardised(nn.Conv2d):
    """Does with its weights what its class does not say."""

    def forward(self, x):
        return nn.functional.conv2d(x, self.weight - self.weight.mean(), self.bias, padding=self.padding)


def test_a_default_layer_whose_forward_is_unknown_and_too_wide_stops_no_run():
    model = TinyModel()
    model.net = nn.Sequential(
        nn.Unflatten(1, (1, 3, 2)), Standardised(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3)
    )
    options = {"in_bins": 4, "out_bins": 4, "in_range": (-1, 1), "max_pairs": 11}
    callback = EICallback(**options)
    with pytest.warns(UserWarning, match=r"leaves net\.1 out of perturbation.*reads 6 numbers"):
        fit(callback, model=model, max_epochs=1)
    assert "ei/net.4/parts" in callback.history.last()
    assert "ei/net.1/weights" in callback.history.last()
    with pytest.raises(ValueError, match="reads 6 numbers"):
        fit(EICallback(layers=["net.1"], **options), model=model, max_epochs=1)
