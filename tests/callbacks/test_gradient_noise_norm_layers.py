"""Normalisation layers calibrated by splits or micro-batches, against the definition worked out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import t as student_t
from torch import nn

from lightning_foresight.callbacks import GradientNoiseScaleCallback
from tests.contract.cases import assert_same_run
from tests.contract.noise_cells import signs
from tests.reference.gradient_noise import two_phase_means
from tests.reference.noise_runs import Observed, fit


def network():
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 8), nn.RMSNorm(8), nn.Linear(8, 3))


class Both(Observed):
    """Works out the noise of the normalisation layers' examples at every step, beside that of all parameters."""

    def __init__(self, **kwargs):
        super().__init__(network(), **kwargs)
        self.part = []
        self.sums, self.norms = [], []

    def observe(self, losses, loss):
        super().observe(losses, loss)
        places = torch.cat(
            [torch.full((p.numel(),), ".1." in name or ".4." in name) for name, p in self.named_parameters()]
        )
        self.norms += [self.flat_gradient(one)[places].square().sum() for one in losses]
        self.sums.append((self.flat_gradient(loss)[places], len(losses)))

    def on_before_optimizer_step(self, optimizer):
        inverse = sum(1 / size for _, size in self.sums) / len(self.sums)
        big = torch.stack([gradient for gradient, _ in self.sums]).mean(0).square().sum()
        # Micro-batches count alike, whatever their size.
        sizes = [size for _, size in self.sums]
        by_micro = torch.stack([part.mean() for part in torch.stack(self.norms).split(sizes)]).mean()
        noise = (by_micro - big) / (1 - inverse / len(self.sums))
        self.part.append((float(noise), float(big - noise * inverse / len(self.sums))))
        self.sums, self.norms = [], []
        super().on_before_optimizer_step(optimizer)


@pytest.mark.parametrize("decay", [1.0, 0.9])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_calibrated_noise_scale_is_the_two_phase_regression_estimate(accumulate, decay):
    torch.manual_seed(1)
    model = Both(signs=signs if accumulate == 1 else None)
    callback = GradientNoiseScaleCallback(method="norm_layers", decay=decay, budget=1 / 3, groups="layers")
    fit(model, callback, max_epochs=4 * accumulate, accumulate_grad_batches=accumulate)
    assert callback.num_failures == 0
    whole = np.array([model.noise, model.signal])
    calibrated = np.arange(len(model.noise)) % 3 == 0  # the budget
    means, variances, part = two_phase_means(np.array(model.part).T, whole, calibrated, decay)
    last = callback.history.last()
    weights = decay ** np.flatnonzero(calibrated[::-1])
    t = student_t.ppf(0.975, weights.sum() ** 2 / (weights**2).sum() - 2)  # the slope costs a degree of freedom
    for name, mean, variance in zip(("trace_sigma", "grad_sq_norm"), means, variances, strict=True):
        row = last[f"gns/{name}"]
        assert row.value == pytest.approx(mean, rel=1e-4, abs=1e-5 * means[0])
        assert (row.upper - row.lower) / 2 / t == pytest.approx(np.sqrt(variance), rel=1e-3)
    assert last["gns/b_norm_layers"].value == pytest.approx(part[0] / part[1], rel=1e-4)
    assert last["gns/b_simple"].lower < last["gns/b_simple"].upper
    assert "gns/b_simple/net.0" in last


def test_before_the_first_slope_there_is_a_value_with_an_honest_interval():
    torch.manual_seed(1)
    callback = GradientNoiseScaleCallback(method="norm_layers", decay=1.0)
    fit(Both(signs=signs), callback, max_epochs=1)  # 6 steps, of which the first is calibrated
    row = callback.history.last()["gns/b_simple"]
    assert np.isfinite(row.value)
    assert (row.lower, row.upper) == (-np.inf, np.inf)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_measuring_normalisation_layers_leaves_the_run_alone(accumulate):
    def run(callbacks):
        torch.manual_seed(1)
        return fit(Observed(network()), callbacks, accumulate_grad_batches=accumulate)

    callback = GradientNoiseScaleCallback(method="norm_layers", budget=1 / 3)
    watched = run(callback)
    assert len(callback.history) > 0
    assert_same_run(watched, run([]))
