from __future__ import annotations

import pytest
import torch

from lightning_foresight.callbacks._plane_samples import _check_labels

CONTINUOUS = torch.linspace(-2, 6, 12)


def _hint(targets: torch.Tensor, argument: str = "targets") -> str:
    with pytest.raises(ValueError, match="for 12 samples; expected one integer label each") as raised:
        _check_labels(list(targets.split(5)), 12, "InfoPlaneCallback", argument)
    return str(raised.value).partition("label each. ")[2]


@pytest.mark.parametrize(
    ("targets", "text", "classes"),
    [
        (torch.arange(12.0) % 3, "Turn whole numbers stored as floats into integers: ", 3),
        (torch.arange(12.0).unsqueeze(1) % 3, "Turn whole numbers stored as floats into integers: ", 3),
        (torch.arange(12).unsqueeze(1) % 3, "Drop the last axis: ", 3),
        (torch.eye(3).repeat(4, 1), "Turn one-hot rows or scores into class numbers: ", 3),
        (torch.eye(3).long().repeat(4, 1), "Turn one-hot rows or scores into class numbers: ", 3),
        (CONTINUOUS, "Continuous targets, as of a regression, have to be cut into classes, ", 8),
        (CONTINUOUS.double().unsqueeze(1), "Continuous targets, as of a regression, have to be cut into classes, ", 8),
    ],
)
def test_the_function_that_is_proposed_makes_labels_of_these_targets(targets, text, classes):
    hint = _hint(targets)
    assert hint.startswith(text)
    proposed = eval(hint.partition("targets=")[2].removesuffix("."), {"torch": torch})
    labels = _check_labels([proposed((None, part)) for part in targets.split(5)], 12, "InfoPlaneCallback", "targets")
    assert len(labels.unique()) == classes


def test_what_no_function_is_known_for_is_said():
    assert _hint(torch.zeros(12, 4, 4)) == (
        "Pass a function that turns a batch into labels of shape (samples,): targets=lambda batch: ..."
    )
    assert _hint(torch.full((12,), torch.nan)).startswith("Some are NaN or infinite: leave out those samples")


def test_the_argument_is_named_as_the_callback_names_it():
    assert _hint(torch.arange(12.0), "target").endswith("target=lambda batch: batch[1].long().")
