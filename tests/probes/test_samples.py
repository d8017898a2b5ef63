from collections import UserDict, defaultdict
from dataclasses import dataclass

import pytest
import torch
from lightning_fabric.utilities.distributed import DistributedSamplerWrapper
from pytorch_lightning import LightningModule
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler, TensorDataset
from torch.utils.data.dataloader import default_collate

from lightning_foresight.probes.samples import batch_length, call_model, cut_batch, fixed_batches, split_batch

INPUTS, TARGETS = torch.arange(20.0).unsqueeze(1), torch.arange(20)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(INPUTS, TARGETS))


class Batches(Dataset):
    """Items that are batches already."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return INPUTS[4 * index : 4 * index + 4], TARGETS[4 * index : 4 * index + 4]


class Noisy(Dataset):
    """An augmentation that draws from the global generator."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return INPUTS[index] + torch.rand(1), TARGETS[index]


@pytest.mark.parametrize(
    "source",
    [
        (INPUTS, TARGETS),
        DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=3, shuffle=True),
        DataLoader(Batches(), batch_size=None, sampler=[0, 1, 2]),
        DataLoader(TensorDataset(INPUTS, TARGETS), batch_sampler=[[0, 1], [2]], collate_fn=default_collate),
        DataLoader(Stream(), batch_size=6),
        [(INPUTS[:4], TARGETS[:4]), (INPUTS[4:], TARGETS[4:])],
    ],
    ids=["tensors", "loader", "whole_batches", "batch_sampler", "stream", "list"],
)
def test_every_source_gives_as_many_samples_as_asked_for(source):
    batches = fixed_batches(source, 7, seed=0)
    inputs = torch.cat([batch[0] for batch in batches])
    targets = torch.cat([batch[1] for batch in batches])
    assert len(inputs) == len(targets) == 7
    assert torch.equal(inputs.flatten().long(), targets)
    again = torch.cat([batch[0] for batch in fixed_batches(source, 7, seed=0)])
    assert torch.equal(inputs, again)


def test_all_samples_are_taken_when_there_are_fewer():
    batches = fixed_batches((INPUTS, TARGETS), 1000, seed=0)
    assert torch.equal(torch.cat([batch[1] for batch in batches]), TARGETS)


def test_another_seed_draws_other_samples():
    first, second = (fixed_batches((INPUTS, TARGETS), 10, seed=seed)[0][1] for seed in (0, 1))
    assert not torch.equal(first, second)


def test_drawing_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    fixed_batches(DataLoader(Noisy(), batch_size=4, shuffle=True), 8, seed=0)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("source", [DataLoader(TensorDataset(INPUTS[:0])), [], (INPUTS[:0], TARGETS[:0])])
def test_an_empty_source_is_refused(source):
    with pytest.raises(ValueError, match="the loader holds no sample; expected at least two"):
        fixed_batches(source, 4, seed=0)


def test_unequal_tensors_and_strange_sources_are_refused():
    with pytest.raises(ValueError, match="got 20, 19 rows; expected one row of each tensor for every sample"):
        fixed_batches((INPUTS, TARGETS[1:]), 4, seed=0)
    with pytest.raises(TypeError, match=r"fixed_batches\(dataloader=int\): expected a DataLoader"):
        fixed_batches(3, 4, seed=0)


def test_batches_are_split_into_inputs_and_targets():
    assert split_batch((1, 2)) == (1, 2)
    assert split_batch([1]) == (1, None)
    mapping = {"x": 1, "labels": 2}
    assert split_batch(mapping) == (mapping, 2)
    assert split_batch({"x": 1}) == ({"x": 1}, None)


def test_nested_batches_are_cut():
    cut = cut_batch({"x": INPUTS, "pair": (INPUTS, [TARGETS]), "name": "a"}, 3)
    assert len(cut["x"]) == len(cut["pair"][0]) == len(cut["pair"][1][0]) == 3
    assert cut["name"] == "a"


@dataclass(frozen=True)
class Batch:
    x: torch.Tensor
    labels: torch.Tensor
    scale: float = 3.0


@pytest.mark.parametrize(
    "made", [Batch, lambda x, labels: UserDict(x=x, labels=labels)], ids=["dataclass", "user_dict"]
)
def test_dataclasses_and_mappings_of_other_libraries_are_batches(made):
    batches = fixed_batches([made(INPUTS, TARGETS)], 7, seed=0)
    assert [type(batch) for batch in batches] == [type(made(INPUTS, TARGETS))]
    assert batch_length(batches[0]) == 7
    inputs, targets = split_batch(batches[0])
    assert torch.equal(targets, TARGETS[:7])
    scale = 3.0 if isinstance(batches[0], Batch) else 1.0
    assert torch.equal(call_model(Named(), inputs), scale * INPUTS[:7])


def test_a_mapping_that_cannot_be_made_from_another_is_cut_to_a_dict():
    batch = defaultdict(list, x=INPUTS)
    assert torch.equal(cut_batch(batch, 2)["x"], INPUTS[:2])


def test_batches_that_hide_their_tensors_are_refused_by_their_type():
    class Graph:
        x = INPUTS

    with pytest.raises(TypeError, match="a batch is a Graph in which no tensor is found; expected .* dataclasses"):
        fixed_batches([Graph()], 4, seed=0)


class Named(nn.Module):
    def forward(self, x, scale=1.0):
        return x * scale


class Whole(nn.Module):
    def forward(self, batch):
        return batch["x"]


class Single(nn.Module):
    def forward(self, pixels):
        return pixels


def test_a_mapping_reaches_the_model_by_name():
    assert call_model(Named(), {"x": 2.0, "scale": 3.0, "labels": 0}) == 6.0
    assert call_model(Whole(), {"x": 2.0}) == 2.0
    assert call_model(Single(), {"image": 2.0, "label": 0}) == 2.0


def test_a_mapping_that_fits_nothing_is_refused_with_what_to_do():
    with pytest.raises(TypeError, match="keys image, depth, but Single.forward takes pixels. Override run_model"):
        call_model(Single(), {"image": 2.0, "depth": 1.0})


def test_a_part_of_a_dataset_stays_that_part():
    part = SubsetRandomSampler(range(15, 20))
    for sampler in (part, DistributedSamplerWrapper(part, num_replicas=2, rank=0)):
        loader = DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=2, sampler=sampler)
        drawn = torch.cat([inputs for inputs, _ in fixed_batches(loader, 100, seed=0)])
        assert torch.equal(drawn, INPUTS[15:20])


class WithoutForward(LightningModule):
    """Calls its network in training_step, as many do."""

    def __init__(self, *names):
        super().__init__()
        self.loss = nn.CrossEntropyLoss()
        for name in names:
            setattr(self, name, nn.Linear(1, 2))


def test_a_module_without_forward_stands_for_its_only_network():
    model = WithoutForward("net")
    assert torch.equal(call_model(model, INPUTS), model.net(INPUTS))
    assert torch.equal(call_model(model, {"input": INPUTS, "label": TARGETS}), model.net(INPUTS))


def test_a_module_without_forward_and_several_networks_is_refused_with_what_to_do():
    with pytest.raises(TypeError, match=r"WithoutForward has no forward, and encoder, decoder with parameters.*Write"):
        call_model(WithoutForward("encoder", "decoder"), INPUTS)
    with pytest.raises(TypeError, match="has no forward, and no submodule with parameters"):
        call_model(WithoutForward(), INPUTS)
