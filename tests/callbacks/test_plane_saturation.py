from __future__ import annotations

import pytest
import torch
from pytorch_lightning import seed_everything
from torch import nn

from lightning_foresight import InfoPlaneCallback
from lightning_foresight.callbacks import _plane_saturation
from lightning_foresight.functional import input_information
from tests.contract.cases import TinyModel, fit


class Wide(TinyModel):
    """Sixty-four units: at noise of 5% of its size each sample keeps a place of its own."""

    def __init__(self):
        super().__init__()
        seed_everything(0)
        self.net = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 3))


@pytest.fixture
def told(monkeypatch):
    texts = []
    monkeypatch.setattr(_plane_saturation, "rank_zero_info", texts.append)
    return texts


def test_saturated_layers_are_named_once_a_run_with_what_can_be_done(told):
    callback = InfoPlaneCallback(num_samples=32, layers="net.1")
    fit(callback, model=Wide, max_epochs=2)
    assert [row.value > 0.95 for row in callback.history["info_plane/net.1/saturation"]] == [True] * 3
    (text,) = told
    assert text.startswith("InfoPlaneCallback: I(X;T) of net.1 is above 95% of log2 of the 32 samples.")
    assert text.endswith(
        "More samples (num_samples=) raise the limit; more noise (options={'relative_noise': 0.5}) asks for "
        "less detail, and is another question."
    )
    fit(callback, model=Wide, max_epochs=1)
    assert len(told) == 2


def test_noise_of_ones_own_choice_ends_the_saturation_and_leaves_i_ty_and_its_null_alone(told):
    settings = {"a": {}, "b": {"relative_noise": 5.0}}
    callbacks = [InfoPlaneCallback(num_samples=32, layers="net.1", prefix=p, options=o) for p, o in settings.items()]
    for callback in callbacks:
        fit(callback, model=Wide, max_epochs=1)
    usual, noisier = (callback.history.last() for callback in callbacks)
    assert noisier["b/net.1/saturation"].value < 0.5 < usual["a/net.1/saturation"].value
    for kind in ("I_TY", "I_TY_null"):
        assert noisier[f"b/net.1/{kind}"].value == usual[f"a/net.1/{kind}"].value
    assert len(told) == 1


def test_the_size_that_noise_is_relative_to_is_that_of_the_standard_deviations():
    rows = torch.randn(200, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.arange(1, 7)
    size = float(rows.var(0, correction=0).mean().sqrt())
    for shifted in (rows, rows + 100.0):
        relative, absolute = (
            input_information(shifted, estimator="noisy", **options).value
            for options in ({"relative_noise": 0.5}, {"noise_std": 0.5 * size})
        )
        torch.testing.assert_close(relative, absolute)


@pytest.mark.parametrize(
    ("estimator", "options", "advice"),
    [
        ("noisy", {"noise_std": 0.001}, "(options={'noise_std': 0.01}), while that is less than the layer's own"),
        ("auto", {"relative_noise": 0.5}, "more noise (options={'relative_noise': 1}) asks for less detail"),
        ("auto", {"relative_noise": 1.0}, "; a narrower layer (layers=, or reduce= to pool it) helps, too, as the"),
        ("noisy", {"relative_noise": 5}, "; a narrower layer (layers=, or reduce= to pool it) helps, too, as the"),
        ("kde", {}, r"(options={'noise_variance': 0.1})"),
        ("binned", {"bins": 100}, "wider bins ask for less detail."),
        ("kde", {"noise_variance": "fitted"}, "raise the limit."),
    ],
)
def test_advice_is_in_the_terms_of_the_estimator(told, estimator, options, advice):
    notice = _plane_saturation.SaturationNotice("Callback", estimator, options)
    notice.look({"a/saturation": torch.tensor(0.5), "b/saturation": torch.tensor(0.99)}, 100)
    assert "I(X;T) of b is" in told[0]
    assert advice in told[0]
