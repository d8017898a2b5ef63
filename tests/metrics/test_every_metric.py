"""What every metric says of itself, and before it has seen anything."""

from __future__ import annotations

import pickle
import warnings

import pytest
from torchmetrics import MetricCollection

from lightning_foresight.metrics import (
    CKA,
    HSIC,
    BrojaPID,
    EffectiveInformation,
    GradientNoiseScale,
    MutualInformation,
    OInformation,
    RepresentationalComplexity,
    ShannonInvariants,
    SxPID,
    WeightEffectiveInformation,
)

WITH_SAMPLES = [
    lambda: BrojaPID(),
    lambda: CKA(),
    lambda: EffectiveInformation(2, 3, in_range=(0, 1), out_range=(-1, 1)),
    lambda: HSIC(),
    lambda: MutualInformation("ksg"),
    lambda: OInformation(),
    lambda: RepresentationalComplexity(),
    lambda: ShannonInvariants(),
    lambda: SxPID(),
    lambda: SxPID(num_sources=2, levels=2, num_targets=2),  # a dense table
]


@pytest.mark.parametrize("make", WITH_SAMPLES)
def test_a_metric_without_samples_says_its_name_and_what_to_call(make):
    metric = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torchmetrics warns, too
        with pytest.raises(
            ValueError, match=rf"^{type(metric).__name__}\.compute\(\): there are no samples yet; call "
        ):
            metric.compute()


@pytest.mark.parametrize(
    ("metric", "shown"),
    [
        (HSIC(), "HSIC()"),
        (MutualInformation("ksg"), "MutualInformation(estimator='ksg')"),
        (SxPID(num_sources=2, levels=(2, 3), num_targets=2), "SxPID(num_sources=2, levels=(2, 3), num_targets=2)"),
        (GradientNoiseScale(decay=0.9, sync_on_compute=False), "GradientNoiseScale(decay=0.9, sync_on_compute=False)"),
        (WeightEffectiveInformation(norm="soft"), "WeightEffectiveInformation(norm='soft')"),
        (
            EffectiveInformation(2, 3, in_range=(0, 1), out_range=(-1, 1)),
            "EffectiveInformation(num_inputs=2, num_outputs=3, in_range=(0, 1), out_range=(-1, 1))",
        ),
    ],
)
def test_a_metric_shows_the_arguments_that_are_not_the_default(metric, shown):
    assert repr(metric) == repr(metric.clone()) == repr(pickle.loads(pickle.dumps(metric))) == shown
    assert shown in repr(MetricCollection({"one": metric}))
