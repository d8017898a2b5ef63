from __future__ import annotations

import math

import pytest
import torch

from lightning_foresight.functional import label_information, mutual_information
from lightning_foresight.functional.mutual_information.edge import ensemble_weights
from tests.functional.mutual_information.tasks import TASKS


@pytest.mark.parametrize("name", [name for name in TASKS if name.endswith(("-1", "-1-independent", "-1-strong"))])
def test_information_of_single_columns_is_found_roughly(name: str) -> None:
    sample, truth, _ = TASKS[name]
    x, y = sample(5000, torch.Generator().manual_seed(0))
    estimate = mutual_information(x, y, estimator="edge", base=math.e)
    assert estimate.value.item() == pytest.approx(truth, abs=0.12)
    # Up to a tenth of a nat of it is bias, of which the samples show nothing.
    assert estimate.kind == "not_valid"
    assert math.isnan(estimate.interval()[0].item())


def test_value_of_many_columns_is_saturated() -> None:
    x, y = TASKS["normal-25"][0](1000, torch.Generator().manual_seed(0))
    estimate = mutual_information(x, y, estimator="edge")
    assert estimate.kind == "not_valid"
    assert estimate.saturation.item() > 0.9


def test_weights_have_sum_one_and_cancel_the_first_powers() -> None:
    scales = torch.linspace(3, 8, 10, dtype=torch.float64)
    weights = ensemble_weights(scales, 2)
    moments = [(weights * scales**power).sum().item() for power in range(3)]
    assert moments == pytest.approx([1.0, 0.0, 0.0], abs=1e-9)


def test_integers_are_counted_as_they_are() -> None:
    x = torch.tensor([0, 1, 2, 3]).repeat(50)
    assert mutual_information(x, x % 2, estimator="edge").value.item() == pytest.approx(1.0, abs=1e-9)
    assert label_information(x.unsqueeze(1), x, estimator="edge").value.item() == pytest.approx(2.0, abs=1e-9)


def test_bad_options_are_named_with_what_would_do() -> None:
    x = torch.randn(10, 1)
    with pytest.raises(ValueError, match=r"edge\(num_scales=1\): expected an integer of at least 2"):
        mutual_information(x, x, estimator="edge", num_scales=1)
