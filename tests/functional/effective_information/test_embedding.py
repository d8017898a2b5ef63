import math
from collections import Counter

import pytest
import torch
from torch import nn

from lightning_foresight.functional import (
    causal_measures,
    effective_information,
    ei_between_groups,
    ei_parts,
    sensitivity,
)


def entropy_of(codes):
    counts = Counter(codes).values()
    return -sum(count / len(codes) * math.log2(count / len(codes)) for count in counts)


def codes_of(values, low, high, bins):
    return [
        min(int((value - low) / (high - low) * bins), bins - 1) if low <= value <= high else None for value in values
    ]


@pytest.fixture
def embedding():
    torch.manual_seed(0)
    return nn.Embedding(50, 3)


def test_a_token_tells_the_entropy_of_the_bins_of_every_output(embedding):
    bits = ei_parts(embedding, in_range=None, out_range=(-4, 4), out_bins=8)
    expected = [entropy_of(codes_of(column, -4, 4, 8)) for column in embedding.weight.T.tolist()]
    assert bits.shape == (1, 3)
    assert bits[0].tolist() == pytest.approx(expected, abs=1e-6)
    # One input alone: nothing else could mask it.
    assert torch.equal(sensitivity(embedding, in_range=None, out_range=(-4, 4), out_bins=8), bits)


def test_outputs_outside_the_range_are_dropped(embedding):
    bits = ei_parts(embedding, in_range=None, out_range=(-1, 1), out_bins=8)
    kept = [[code for code in codes_of(column, -1, 1, 8) if code is not None] for column in embedding.weight.T.tolist()]
    assert bits[0].tolist() == pytest.approx([entropy_of(codes) for codes in kept], abs=1e-6)


def test_its_activation_belongs_to_it(embedding):
    bits = ei_parts(embedding, nn.Sigmoid(), in_range=None, out_bins=8)
    expected = [entropy_of(codes_of(column, 0, 1, 8)) for column in embedding.weight.sigmoid().T.tolist()]
    assert bits[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_an_activation_that_works_in_place_leaves_the_weights_alone(embedding):
    before = embedding.weight.detach().clone()
    inplace = ei_parts(embedding, nn.ReLU(inplace=True), in_range=None, out_bins=8)
    assert torch.equal(embedding.weight, before)
    assert torch.equal(inplace, ei_parts(embedding, nn.ReLU(), in_range=None, out_bins=8))


def test_vectors_that_all_differ_tell_the_token_whole(embedding):
    whole = effective_information(embedding, in_range=None, out_range=(-3, 3))
    assert (whole.kind, whole.value.item()) == ("exact", pytest.approx(math.log2(50), abs=1e-6))
    embedding.weight.data[25:] = embedding.weight.data[:25]
    twins = effective_information(embedding, in_range=None, out_range=(-3, 3))
    assert twins.value.item() == pytest.approx(math.log2(25), abs=1e-6)


def test_groups_of_outputs_are_taken_from_the_table(embedding):
    (some,) = ei_between_groups(embedding, [([0], [1, 2])], in_range=None, out_range=(-3, 3), out_bins=4)
    columns = [codes_of(column, -3, 3, 4) for column in embedding.weight.T.tolist()[1:]]
    assert some.value.item() == pytest.approx(entropy_of(list(zip(*columns, strict=True))), abs=1e-6)
    with pytest.raises(ValueError, match="expected different input indices from 0 to 0"):
        ei_between_groups(embedding, [([1], [0])], in_range=None, out_range=(-3, 3))


def test_the_causal_measures_of_an_embedding(embedding):
    found = causal_measures(embedding, in_range=None, out_range=(-3, 3), vector=True)
    assert found.parts.kind == "exact"
    assert found.degeneracy.value == 0
    assert found.effectiveness.value.item() == pytest.approx(1, abs=1e-6)
