"""The loss of training_step as a function of the weights, without a trace in the module."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.func import functional_call
from torchmetrics import MeanMetric, MetricCollection

from lightning_foresight.probes.gradient_rerun import TrainingLoss, TrainingLossOfExamples


class Model(pl.LightningModule):
    def __init__(self, body=None):
        super().__init__()
        self.body = body or nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.body[-1].weight if body is None else self.tied.weight
        self.metrics = MetricCollection({"mean": MeanMetric()})
        self.losses, self.steps = [], {"count": 0}

    def training_step(self, batch, batch_idx):
        loss = self.tied(self.body(batch["x"])).square().mean()
        self.metrics(loss.detach())
        self.losses.append(loss)
        self.steps["count"] += batch_idx
        self.log("loss", loss)  # raises outside of a Trainer
        return {"loss": loss}


def batch(size=8):
    return {"x": torch.randn(size, 3, generator=torch.Generator().manual_seed(0)), "note": ["kept", "as it is"]}


def test_the_loss_is_that_of_the_step_and_its_gradients_are_those_of_the_parameters():
    model = Model()
    parameters = list(model.parameters())
    loss = TrainingLoss(model, parameters, batch_idx=3)
    expected = model.tied(model.body(batch()["x"])).square().mean()
    wanted = torch.autograd.grad(expected, parameters)
    assert len(list(loss.named_parameters())) == len(parameters)
    for first, second in zip(torch.autograd.grad(loss(batch()), parameters), wanted, strict=True):
        assert torch.equal(first, second)


def test_it_is_a_function_of_the_weights_shared_ones_included():
    model = Model()
    loss = TrainingLoss(model, list(model.parameters()))
    moved = {name: p.detach() + 0.1 for name, p in loss.named_parameters()}
    other = Model()
    with torch.no_grad():
        for p, q in zip(other.parameters(), model.parameters(), strict=True):
            p.copy_(q + 0.1)
    expected = other.tied(other.body(batch()["x"])).square().mean()
    assert float(functional_call(loss, moved, (batch(),))) == pytest.approx(float(expected), rel=1e-6)


def test_nothing_that_the_step_records_is_the_modules():
    model = Model()
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    TrainingLoss(model, list(model.parameters()), batch_idx=3)(batch())
    assert (model.losses, model.steps) == ([], {"count": 0})
    assert model.metrics["mean"].update_count == 0
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())


def test_only_the_chosen_parameters_are_those_of_the_loss():
    model = Model()
    loss = TrainingLoss(model, [model.tied.bias])
    assert [id(p) for p in loss.parameters()] == [id(model.tied.bias)]


def test_compiled_parts_take_the_weights_too():
    model = Model(torch.compile(nn.Sequential(nn.Linear(3, 4)), backend="eager"))
    loss = TrainingLoss(model, list(model.parameters()))
    zeros = {name: torch.zeros_like(p) for name, p in loss.named_parameters()}
    assert float(functional_call(loss, zeros, (batch(),))) == 0.0


def test_examples_are_taken_by_position_from_whatever_the_batch_is():
    model = Model().eval()
    loss = TrainingLossOfExamples(model, list(model.parameters()), batch())
    chosen = TrainingLoss(model, list(model.parameters()))({"x": batch()["x"][[5, 1]]})
    assert torch.equal(loss(torch.tensor([5, 1])), chosen)


class Fetching(Model):
    def training_step(self, dataloader_iter):
        return None


class Silent(Model):
    def training_step(self, batch):
        return None


def test_steps_that_cannot_be_run_again_are_refused_in_words():
    with pytest.raises(ValueError, match=r"Fetching.training_step\(dataloader_iter\) fetches its batches itself"):
        TrainingLoss(Fetching(), [])
    with pytest.raises(ValueError, match="training_step returned NoneType on the batch of the measurement; expected a"):
        TrainingLoss(Silent(), [])(batch())
