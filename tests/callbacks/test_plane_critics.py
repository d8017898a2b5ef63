"""Critics of InfoPlaneCallback go on from one measurement to the next, and from a checkpoint."""

from __future__ import annotations

import pytest
import torch

from lightning_foresight.callbacks._plane_critics import CriticStore
from lightning_foresight.callbacks.information_plane import InfoPlaneCallback
from lightning_foresight.functional import input_information, mutual_information
from tests.contract.cases import NUM_SAMPLES, TinyModel, fit, tiny_data

OPTIONS = {"max_steps": 25, "hidden": 8, "learning_rate": 1e-2}


class Frozen(TinyModel):
    """Nothing moves but the critics: not even the running means of BatchNorm."""

    def __init__(self):
        super().__init__()
        self.net[1].momentum = 0.0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def watch(**arguments):
    settings = {"estimator": "infonce", "options": OPTIONS, "num_samples": NUM_SAMPLES, "layers": ["net.2", "net.5"]}
    return InfoPlaneCallback(**settings | arguments)


def values(callback, key):
    return [row.value for row in callback.history[key]]


def test_each_measurement_goes_on_from_the_last():
    callback = watch()
    model = fit(callback, model=Frozen, max_epochs=2).model.eval()
    inputs, _ = tiny_data()[1].dataset.tensors
    with torch.no_grad():
        activation = model.net[:3](inputs)
    source = CriticStore(OPTIONS["hidden"], seed=0).source("net.2/I_XT")
    expected = [
        float(input_information(activation, inputs=inputs, estimator="infonce", critic=source, **OPTIONS).value)
        for _ in range(3)
    ]
    assert values(callback, "info_plane/net.2/I_XT") == pytest.approx(expected, abs=1e-5)
    assert expected[2] > expected[1] > expected[0]


def test_a_resumed_run_goes_on_with_the_critics_of_the_checkpoint(tmp_path):
    whole, first, second = watch(), watch(), watch()
    fit(whole, model=Frozen, max_epochs=3)
    fit(first, model=Frozen, max_epochs=2).save_checkpoint(tmp_path / "two.ckpt")
    fit(second, model=Frozen, max_epochs=3, ckpt_path=tmp_path / "two.ckpt")
    for key in ("info_plane/net.2/I_XT", "info_plane/net.5/I_TY", "info_plane/net.5/I_TY_null"):
        assert values(second, key) == pytest.approx(values(whole, key), abs=1e-5)


def test_other_widths_and_weights_that_do_not_fit_get_a_new_critic():
    store = CriticStore(4, seed=0)
    first = store.source("a")(2, 3, torch.device("cpu"))
    assert store.source("a")(2, 3, torch.device("cpu")) is first
    assert store.source("a")(2, 4, torch.device("cpu")).widths == (2, 4)
    other = CriticStore(4, seed=0)
    other.load_state_dict(store.state_dict())
    assert other.source("a")(5, 3, torch.device("cpu")).widths == (5, 3)


def test_what_is_no_critic_is_refused():
    with pytest.raises(ValueError, match="expected a Critic to go on from, what gives one, or None"):
        mutual_information(torch.rand(50), torch.rand(50), estimator="infonce", critic=3)
