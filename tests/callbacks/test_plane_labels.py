from __future__ import annotations

import warnings
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lightning_foresight import InfoPlaneCallback, PIDCallback
from lightning_foresight.callbacks._plane_labels import check_labels, place_of_targets
from tests.contract.cases import TinyModel, fit

CONTINUOUS = torch.linspace(-2, 6, 12)
ONE_HOT = torch.eye(3).repeat(4, 1)
TOKENS = torch.arange(60).reshape(12, 5) % 7 - 1  # -1 stands for -100


PROBABILITIES = torch.rand(12, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
MULTI_HOT = torch.tensor([[0, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]]).repeat(3, 1)
SEVERAL = "These are several targets a sample, of which one has to be chosen; for the first column: "


@dataclass
class Batch:
    x: torch.Tensor
    target: torch.Tensor


# A batch of each structure with these targets in it.
STRUCTURES = {
    "batch[1]": lambda targets: (torch.zeros(len(targets), 2), targets),
    'batch["labels"]': lambda targets: {"input_ids": torch.zeros(len(targets), 2), "labels": targets},
    "batch.target": lambda targets: Batch(torch.zeros(len(targets), 2), targets),
}


def _hint(targets: torch.Tensor, argument: str = "targets", place: str | None = "batch[1]") -> str:
    with pytest.raises(ValueError, match="for 12 samples; expected one integer label each") as raised:
        check_labels(list(targets.split(5)), 12, "InfoPlaneCallback", argument, place)
    return str(raised.value).partition("label each. ")[2]


@pytest.mark.parametrize("place", STRUCTURES)
@pytest.mark.parametrize(
    ("targets", "text", "classes"),
    [
        (torch.arange(12.0) % 3, "Turn whole numbers stored as floats into integers: ", 3),
        (torch.arange(12.0).unsqueeze(1) % 3, "Turn whole numbers stored as floats into integers: ", 3),
        (torch.arange(12).unsqueeze(1) % 3, "Drop the last axis: ", 3),
        (torch.eye(3).repeat(4, 1), "Turn one-hot rows or probabilities into class numbers: ", 3),
        (torch.eye(3).long().repeat(4, 1), "Turn one-hot rows or probabilities into class numbers: ", 3),
        (torch.eye(3).bool().repeat(4, 1), "Turn one-hot rows or probabilities into class numbers: ", 3),
        (PROBABILITIES, "Turn one-hot rows or probabilities into class numbers: ", 3),
        (MULTI_HOT, f"{SEVERAL}Take it alone: ", 2),
        (MULTI_HOT.bool(), f"{SEVERAL}Take it alone: ", 2),
        (MULTI_HOT.float(), f"{SEVERAL}Turn whole numbers stored as floats into integers: ", 2),
        (torch.stack([CONTINUOUS, -CONTINUOUS], 1), f"{SEVERAL}Continuous targets, as of a regression, have ", 8),
        (1000 + 1e-3 * CONTINUOUS, "Continuous targets, as of a regression, have to be cut into classes, ", 8),
        (1e9 + CONTINUOUS.double(), "Continuous targets, as of a regression, have to be cut into classes, ", 8),
        (TOKENS, "Take one position of each sequence, where these are labels of tokens: ", 7),
        (CONTINUOUS, "Continuous targets, as of a regression, have to be cut into classes, ", 8),
        (CONTINUOUS.double().unsqueeze(1), "Continuous targets, as of a regression, have to be cut into classes, ", 8),
    ],
)
def test_the_function_that_is_proposed_makes_labels_of_these_targets(targets, text, classes, place):
    batches = [STRUCTURES[place](part) for part in targets.split(5)]
    assert place_of_targets(batches[0]) == place
    hint = _hint(targets, place=place)
    assert hint.startswith(text)
    proposed = eval(hint.partition("targets=")[2].partition(", with")[0].removesuffix("."), {"torch": torch})
    labels = check_labels([proposed(batch) for batch in batches], 12, "InfoPlaneCallback", "targets", None)
    assert len(labels.unique()) == classes


@pytest.mark.parametrize(
    ("targets", "advice", "then"),
    [
        (torch.arange(12).unsqueeze(1) % 3, "drop its last axis: .squeeze(1).", lambda t: t.squeeze(1)),
        (ONE_HOT, "turn one-hot rows or probabilities into class numbers: .argmax(1).", lambda t: t.argmax(1)),
        (
            torch.arange(12.0).unsqueeze(1) % 3,
            "turn whole numbers stored as floats into integers: .squeeze(1).long().",
            lambda t: t.squeeze(1).long(),
        ),
    ],
)
def test_of_a_function_of_the_users_it_is_said_what_to_add(targets, advice, then):
    assert _hint(targets, place=None) == f"Let your targets function {advice}"
    assert len(check_labels([then(targets)], 12, "owner", "targets", None).unique()) == 3


def test_what_a_function_of_the_users_should_cut_names_no_batch():
    hint = _hint(CONTINUOUS.unsqueeze(1), place=None)
    cut = hint.partition("let your targets function return ")[2].removesuffix(".")
    assert len(eval(cut, {"torch": torch, "values": CONTINUOUS.unsqueeze(1)}).unique()) == 8


def test_what_no_function_is_known_for_is_said():
    assert _hint(torch.zeros(12, 4, 4)) == (
        "Pass a function that turns a batch into labels of shape (samples,): targets=lambda batch: ..."
    )
    assert _hint(torch.full((12,), torch.nan)).startswith("Some are NaN or infinite: leave out those samples")


def test_targets_that_are_all_the_same_number_are_told_of():
    assert _hint(torch.full((12, 1), 0.5)).startswith("All of them are 0.5, which nothing can tell about;")


def test_the_column_of_several_that_a_function_of_the_users_should_take_is_said():
    assert _hint(MULTI_HOT, place=None) == f"{SEVERAL}Let your targets function take it alone: [:, 0]."
    assert "return torch.bucketize(values[:, 0].contiguous(), " in _hint(
        CONTINUOUS.reshape(6, 2).repeat(2, 1), place=None
    )


def test_a_position_that_holds_a_label_in_every_sequence_is_proposed():
    padded = TOKENS.abs()
    padded[3, 3:] = padded[7, 4] = -100
    assert _hint(padded) == (
        "Take one position of each sequence, where these are labels of tokens: targets=lambda batch: batch[1][:, 2], "
        "with reduce=lambda activation: activation[:, 2] for activations of the same one: behind it some have no label "
        "(-100)."
    )
    padded[2, :3] = -100
    assert _hint(padded).startswith("These look like labels of tokens, and no position has one in every sequence (-100")
    with pytest.raises(ValueError, match=r"lambda batch: batch\[1\]\[:, 1\], with reduce=lambda activation: .*:, 1\] "):
        check_labels(
            [TOKENS.abs(), TOKENS.abs()[:, :3].index_fill(1, torch.tensor(2), -100)], 24, "o", "targets", "batch[1]"
        )


@pytest.mark.parametrize(("make", "argument"), [(InfoPlaneCallback, "targets"), (PIDCallback, "target")])
def test_labels_that_are_all_the_same_are_warned_of_once(make, argument):
    callback = make(log_figures=False, num_samples=48, layers="net.1", **{argument: lambda batch: 0 * batch[1] - 100})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(callback, max_epochs=2)
    told = [str(warning.message) for warning in caught if "H(Y)" in str(warning.message)]
    assert len(told) == 1
    start = (
        f"{make.__name__}({argument}): all 48 samples have the same label, -100, about which there is nothing to know"
    )
    assert told[0].startswith(start)


def test_the_argument_is_named_as_the_callback_names_it():
    assert _hint(torch.arange(12.0), "target").endswith("target=lambda batch: batch[1].long().")


def test_token_labels_of_batches_of_different_lengths_are_told_of_too():
    pieces = [TOKENS[:6], TOKENS[6:, :3]]
    with pytest.raises(ValueError, match=r'makes no tensor of .* targets=lambda batch: batch\["y"\]\[:, -1\], with'):
        check_labels(pieces, 12, "owner", "targets", 'batch["y"]')


class Tagger(TinyModel):
    """Says something of each token; -100 marks tokens that the loss ignores."""

    def __init__(self):
        super().__init__()
        self.embed, self.act, self.head = nn.Embedding(9, 4), nn.Tanh(), nn.Linear(4, 3)

    def forward(self, input_ids):
        return self.head(self.act(self.embed(input_ids)))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch["input_ids"]).transpose(1, 2), batch["labels"], ignore_index=-100)


def _tagged():
    ids = torch.randint(0, 9, (48, 5), generator=torch.Generator().manual_seed(0))
    labels = (ids % 3).masked_fill(torch.arange(5) < 2, -100)
    return [{"input_ids": i, "labels": t} for i, t in zip(ids, labels, strict=True)]


@pytest.mark.parametrize(("make", "argument"), [(InfoPlaneCallback, "targets"), (PIDCallback, "target")])
def test_advice_about_token_labels_works_when_pasted(make, argument):
    loader = DataLoader(_tagged(), 8)
    quiet = {"log_figures": False, "dataloader": loader, "layers": "act"}
    with pytest.raises(ValueError, match=r"the targets are a tensor of shape \(48, 5\)") as raised:
        fit(make(**quiet), model=Tagger)
    pasted, reduce = str(raised.value).partition(f"{argument}=")[2].split(", with reduce=")
    assert pasted == 'lambda batch: batch["labels"][:, -1]'
    callback = make(**quiet, **{argument: eval(pasted)}, reduce=eval(reduce.split(" ")[0]))

    import pytorch_lightning as pl

    trainer = pl.Trainer(
        max_epochs=1,
        callbacks=callback,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(Tagger(), loader)
    assert callback.num_failures == 0
    key = {"targets": "info_plane/act/I_TY", "target": "pid/act/mi"}[argument]
    assert callback.history.last()[key].num_samples == 48
