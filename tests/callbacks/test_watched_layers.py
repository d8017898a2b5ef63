"""Which layers are watched: those of a choice that run, and by default each stage of the model once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_foresight import InfoPlaneCallback, PIDCallback
from lightning_foresight.callbacks import _watched_layers, information_plane
from tests.contract.cases import TinyModel, fit

pytestmark = pytest.mark.filterwarnings("ignore:PIDCallback.*for each joint state:UserWarning")


class Encoder(TinyModel):
    """A transformer, whose attention uses the weights of its ``out_proj`` without calling it."""

    def __init__(self):
        super().__init__()
        self.net, self.embed, self.head = nn.Identity(), nn.Linear(2, 8), nn.Linear(8, 3)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)

    def forward(self, x):
        return self.head(self.encoder(self.embed(x.reshape(len(x), 3, 2))).mean(1))


OUT_PROJ = [f"encoder.layers.{n}.self_attn.out_proj" for n in range(2)]
PARTS = {"self_attn", "linear1", "dropout", "linear2", "norm1", "norm2", "dropout1", "dropout2"}
BLOCKS = {f"encoder.layers.{n}" for n in range(2)}
INSIDE = {f"{block}.{part}" for block in BLOCKS for part in PARTS}
LINEAR = {"embed", "head", *(f"{block}.linear{n}" for block in BLOCKS for n in (1, 2))}


def _layers(callback) -> set[str]:
    assert callback.num_failures == 0
    return {key.split("/")[1] for key in callback.history.keys()}  # noqa: SIM118


@pytest.fixture
def told(monkeypatch):
    texts = []
    monkeypatch.setattr(_watched_layers, "rank_zero_info", texts.append)
    return texts


@pytest.mark.parametrize(
    ("layers", "found"),
    [
        (["encoder.*", "head"], BLOCKS | INSIDE | {"head"}),  # as in docs/information_plane.md
        ("*.layers.*", BLOCKS | INSIDE),
        (nn.Linear, LINEAR),
        (lambda name, module: isinstance(module, nn.Linear), LINEAR),
    ],
    ids=["docs", "glob", "type", "rule"],
)
@pytest.mark.parametrize("make", [InfoPlaneCallback, PIDCallback])
def test_what_a_choice_matches_and_never_runs_is_left_out_and_told_of(make, layers, found, told):
    few = {"sources": "random:1x1"} if make is PIDCallback else {"estimator": "binned"}
    callback = make(layers=layers, log_figures=False, **few)
    fit(callback, model=Encoder, max_epochs=1)
    assert _layers(callback) == found
    assert told == [f"{make.__name__}: leaves out {', '.join(OUT_PROJ)}, never called in a forward pass."]


@pytest.mark.parametrize("make", [InfoPlaneCallback, PIDCallback])
@pytest.mark.parametrize(
    ("layers", "missing"),
    [
        (OUT_PROJ[0], OUT_PROJ[:1]),
        (["encoder.*", OUT_PROJ[1]], OUT_PROJ[1:]),
        ("*.out_proj", OUT_PROJ),
    ],
)
def test_a_name_that_never_runs_and_a_choice_of_nothing_else_are_refused(make, layers, missing):
    with pytest.raises(ValueError, match=rf"^{make.__name__}: {', '.join(missing)} never called in a forward pass"):
        fit(make(layers=layers), model=Encoder)


class Autoencoder(TinyModel):
    def __init__(self, bottleneck=nn.Identity, act=nn.ReLU):
        super().__init__()
        self.net = nn.Identity()
        self.enc = nn.Sequential(nn.Linear(6, 5), act(), nn.Linear(5, 2), bottleneck())
        self.dec = nn.Sequential(nn.Linear(2, 5), act(), nn.Linear(5, 3))

    def forward(self, x):
        return self.dec(self.enc(x))


class Convolutional(TinyModel):
    """A bottleneck between convolutions, behind which lie a norm, a dropout and a change of shape."""

    def __init__(self):
        super().__init__()
        self.net = nn.Identity()
        self.enc = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Conv1d(4, 1, 2), nn.BatchNorm1d(1), nn.Dropout())
        self.dec = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 3))

    def forward(self, x):
        return self.dec(self.enc(x.unsqueeze(1)).flatten(1))


class Residual(TinyModel):
    """A sum behind a layer, a layer that both an activation and a layer read, and a gate: no bottlenecks."""

    def __init__(self):
        super().__init__()
        self.net, self.act = nn.Identity(), nn.ReLU()
        self.one, self.two, self.both, self.skip = (nn.Linear(6, 6) for _ in range(4))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = x + self.two(self.act(self.one(x)))
        both = self.both(x)
        return self.head(self.act(both) + self.skip(both))


class Tokens(TinyModel):
    """Two linear layers on tokens that lie one below the other."""

    def __init__(self):
        super().__init__()
        self.net, self.act = nn.Identity(), nn.ReLU()
        self.down, self.up, self.head = nn.Linear(2, 1), nn.Linear(1, 2), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.act(self.up(self.down(x.reshape(-1, 2))).reshape(-1, 6)))


class TwoViews(TinyModel):
    """Two views of each sample on an axis before that of the samples: 2 rows, however many samples there are."""

    def __init__(self, act=nn.Identity):
        super().__init__()
        self.net, self.act = nn.Identity(), nn.ReLU()
        self.enc = nn.Sequential(nn.Linear(6, 4), act(), nn.Linear(4, 4))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        one, other = self.enc(torch.stack([x, x.flip(1)]))
        return self.head(self.act(torch.cat([one, other], 1)))


class Patches(TinyModel):
    """A convolution whose pixels the next layer takes for tokens."""

    def __init__(self):
        super().__init__()
        self.net, self.act = nn.Identity(), nn.ReLU()
        self.embed, self.one, self.head = nn.Conv2d(1, 4, 1), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        tokens = self.embed(x.reshape(-1, 1, 2, 3)).flatten(2).transpose(1, 2)
        return self.head(self.act(self.one(tokens)).mean(1))


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (Autoencoder, {"enc.1", "enc.2", "dec.1", "dec.2"}),
        (lambda: Autoencoder(nn.Dropout), {"enc.1", "enc.2", "dec.1", "dec.2"}),
        (lambda: Autoencoder(nn.Tanh), {"enc.1", "enc.3", "dec.1", "dec.2"}),
        (Convolutional, {"enc.1", "enc.2", "dec.1", "dec.2"}),
        (Residual, {"act", "act:2", "head"}),
        (Tokens, {"act", "head"}),
        (TwoViews, {"act", "head"}),
    ],
    ids=["linear", "dropout", "tanh", "convolution", "residual", "tokens", "views"],
)
@pytest.mark.parametrize("make", [InfoPlaneCallback, PIDCallback])
def test_the_bottleneck_of_an_autoencoder_is_watched_by_default_and_no_layer_twice(make, model, found):
    torch.manual_seed(0)
    few = {"sources": "random:1x1"} if make is PIDCallback else {}
    callback = make(log_figures=False, **few)
    fit(callback, model=model() if not isinstance(model, type) else model, max_epochs=1)
    assert _layers(callback) == found


@pytest.mark.parametrize("make", [InfoPlaneCallback, PIDCallback])
def test_an_activation_without_a_row_for_each_sample_is_left_out_by_default_and_told_of(make, told):
    few = {"sources": "random:1x1"} if make is PIDCallback else {}
    callback = make(log_figures=False, **few)
    fit(callback, model=TwoViews(nn.Tanh), max_epochs=1)
    assert _layers(callback) == {"act", "head"}
    text = "leaves out enc.1, without a row for each sample; see reduce= and layers=."
    assert told == [f"{make.__name__}: {text}"]
    with pytest.raises(ValueError, match=r"\(reduce\): enc.1 has 2 rows for 8 samples; expected one row each"):
        fit(make(layers=["enc.1", "act"]), model=TwoViews(nn.Tanh))


def test_a_bottleneck_that_reduce_does_not_take_is_not_watched_by_default():
    callback = InfoPlaneCallback(log_figures=False, reduce="mean_tokens")
    fit(callback, model=Patches, max_epochs=1)
    assert _layers(callback) == {"act", "head"}
    with pytest.raises(ValueError, match="embed gives"):
        fit(InfoPlaneCallback(layers="embed", reduce="mean_tokens"), model=Patches)


def test_layers_are_in_the_order_of_the_model():
    callback = InfoPlaneCallback(log_figures=False)
    fit(callback, model=Autoencoder, max_epochs=1)
    order = list(dict.fromkeys(key.split("/")[1] for key in callback.history.keys()))  # noqa: SIM118
    assert order == ["enc.1", "enc.2", "dec.1", "dec.2"]


def test_all_layers_before_functions_are_named_in_the_advice(monkeypatch):
    class Functional(TinyModel):
        def __init__(self):
            super().__init__()
            self.net, self.act = nn.Identity(), nn.Tanh()
            self.one, self.two, self.three, self.head = (nn.Linear(6, n) for n in (6, 6, 6, 3))

        def forward(self, x):
            return self.head(self.act(self.three(torch.relu(self.two(torch.relu(self.one(x)))))))

    told = []
    monkeypatch.setattr(information_plane, "rank_zero_info", told.append)
    fit(InfoPlaneCallback(), model=Functional, max_epochs=1)
    assert "Behind one, two forward calls an activation" in told[0]
    assert told[0].endswith("or what it takes by layers=['one', 'two'].")
