from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from lightning_foresight import EICallback
from lightning_foresight.ensemble import SeedEnsemble
from lightning_foresight.history import History
from tests.contract.cases import fit


def _draws(seed):
    history = History()
    for step in range(3):
        history.add(step=step, epoch=float(step), key="a", value=torch.randn(()) + step)
    return [history]


def test_every_seed_draws_numbers_of_its_own_and_the_global_generator_is_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first, second = SeedEnsemble(_draws, range(4)).fit(), SeedEnsemble(_draws, range(4)).fit()
    assert torch.equal(torch.rand(1), expected)
    assert first.histories == second.histories
    assert len({rows[0].value for rows in first.histories.values()}) == 4


@pytest.mark.parametrize("center", ["median", "mean"])
def test_summary_is_centre_and_quantiles_over_seeds(center):
    ensemble = SeedEnsemble(_draws, range(9)).fit()
    table = np.array([[row.value for row in rows] for rows in ensemble.histories.values()])
    summary = ensemble.summary(center, (0.1, 0.9))
    assert [row.step for row in summary] == [0, 1, 2]
    np.testing.assert_allclose([row.center for row in summary], getattr(np, center)(table, axis=0))
    np.testing.assert_allclose([row.lower for row in summary], np.quantile(table, 0.1, axis=0))
    assert {row.num_runs for row in summary} == {9}


def test_real_runs_are_summarised_drawn_and_written(tmp_path):
    def run(seed):
        callback = EICallback(measures=["weights"])
        fit(callback, max_epochs=2)
        return [callback]

    ensemble = SeedEnsemble(run, (0, 1)).fit()
    axes = ensemble.plot(["ei/network", "ei/net.0/weights"], ylabel="bits").axes[0]
    assert axes.get_title() == "median of 2 seeds, band 5% to 95%"
    assert len(axes.lines) == 2
    ensemble.to_csv(tmp_path / "seeds.csv")
    with open(tmp_path / "seeds.csv") as file:
        assert {line["seed"] for line in csv.DictReader(file)} == {"0", "1"}


def test_seeds_that_were_run_are_not_run_again():
    ensemble = SeedEnsemble(_draws, (0, 1)).fit()
    before = dict(ensemble.histories)
    ensemble.seeds.append(2)
    ensemble.fit()
    assert list(ensemble.histories) == [0, 1, 2]
    assert ensemble.histories[0] is before[0]


def test_mistakes_are_named():
    for seeds in ((), (1, 1)):
        with pytest.raises(ValueError, match="expected distinct seeds, at least one"):
            SeedEnsemble(_draws, seeds)
    with pytest.raises(ValueError, match="nothing was run yet"):
        SeedEnsemble(_draws, (0,)).summary()
    ensemble = SeedEnsemble(_draws, (0,)).fit()
    with pytest.raises(ValueError, match=r"SeedEnsemble.plot\(keys='b'\): expected one of a"):
        ensemble.plot("b")
    with pytest.raises(ValueError, match="expected 0 <= lower < upper <= 1"):
        ensemble.summary(quantiles=(0.9, 0.1))


@pytest.mark.parametrize(
    ("run", "seeds", "message"),
    [
        (5, (0,), r"SeedEnsemble\(run=5\): expected a function from a seed to callbacks"),
        (lambda seed: None, (0,), r"function that returned NoneType.*: expected callbacks .* return \[callback\]"),
        (lambda seed: [5], (0,), "function that returned int"),
    ],
)
def test_functions_that_return_no_callbacks_are_named(run, seeds, message):
    with pytest.raises(TypeError, match=message):
        SeedEnsemble(run, seeds).fit()


def test_a_single_callback_needs_no_list_and_other_mistakes_are_named():
    history = _draws(0)[0]
    assert SeedEnsemble(lambda seed: history, np.arange(1)).fit().summary()
    for seeds, message in ((5, "such as range"), ((1, "a"), "expected integers"), ((0.5,), "expected integers")):
        with pytest.raises(ValueError, match=message):
            SeedEnsemble(_draws, seeds)
    for quantiles in (0.9, (0.1, 0.5, 0.9)):
        with pytest.raises(ValueError, match="expected 0 <= lower < upper <= 1"):
            SeedEnsemble(_draws, (0,)).fit().summary(quantiles=quantiles)
