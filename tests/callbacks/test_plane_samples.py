"""What stays of the samples of an information plane: the limits that its figures show."""

from __future__ import annotations

import pytest

from lightning_foresight import InfoPlaneCallback
from tests.contract.cases import fit

TARGETS = {"class": lambda batch: batch[1], "sign": lambda batch: (batch[0][:, 0] > 0).long()}


def _shown(callback):
    return {
        name: (
            figure.axes[0].get_xlim(),
            [text.get_text() for text in figure.axes[0].get_legend().get_texts()],
        )
        for name, figure in callback.figures().items()
    }


@pytest.mark.parametrize(("targets", "names"), [(None, ["plane"]), (TARGETS, ["plane_class", "plane_sign"])])
def test_the_figures_of_a_loaded_state_are_those_of_the_run(targets, names):
    callback = InfoPlaneCallback(num_samples=32, targets=targets, layers="net.2")
    fit(callback, max_epochs=1)
    loaded = InfoPlaneCallback(num_samples=32, targets=targets, layers="net.2")
    assert loaded.figures() == {}
    loaded.load_state_dict(callback.state_dict())
    assert list(loaded.figures()) == names
    assert _shown(loaded) == _shown(callback)
    assert all(any("log$_2$ n = 5.00" in text for text in legend) for _, legend in _shown(loaded).values())
    assert all(any("H(Y) = " in text for text in legend) for _, legend in _shown(loaded).values())


def test_a_resumed_run_has_the_limits_of_its_own_samples(tmp_path):
    trainer = fit(InfoPlaneCallback(num_samples=32, layers="net.2"), max_epochs=1)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    resumed = InfoPlaneCallback(num_samples=16, layers="net.2")
    fit(resumed, ckpt_path=tmp_path / "run.ckpt", max_epochs=2)
    assert resumed.num_failures == 0
    assert resumed.state_dict()["limits"]["input"] == 4.0
