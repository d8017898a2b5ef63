import itertools

import numpy as np
import pytest
import torch
from torch import nn

from lightning_foresight.functional import ei_parts
from lightning_foresight.functional.effective_information.activations import (
    default_out_range,
    monotone_rule,
    preimage_edges,
)

MONOTONE = [
    (None, (-3, 3)),
    (nn.Sigmoid(), (0, 1)),
    (nn.Tanh(), (-1, 1)),
    (nn.ReLU(), (0, 3)),
    (nn.ReLU(), (-1, 2)),
    (nn.ReLU6(), (0, 6)),
    (nn.Hardtanh(-1, 2), (-1, 2)),
    (nn.Hardtanh(-1, 2), (-2, 3)),
    (nn.Hardsigmoid(), (0, 1)),
    (nn.LeakyReLU(0.2), (-1, 3)),
    (nn.PReLU(init=0.3), (-1, 3)),
    (nn.ELU(0.7), (-0.7, 3)),
    (nn.CELU(0.7), (-0.7, 3)),
    (nn.SELU(), (-1.5, 3)),
    (nn.Softplus(beta=2), (0, 3)),
    (nn.LogSigmoid(), (-3, 0)),
    (nn.Softsign(), (-1, 1)),
]


@pytest.mark.parametrize(("activation", "out_range"), MONOTONE, ids=str)
def test_intervals_between_preimages_are_the_histogram_of_the_outputs(activation, out_range):
    edges = preimage_edges(monotone_rule(activation), out_range, 6)
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    y = z if activation is None else activation.double()(z).detach()
    counts, _ = np.histogram(y.numpy(), bins=6, range=out_range)
    # Grid points that lie exactly on an edge may round to either side.
    assert (edges[1:] >= edges[:-1]).all()
    found = [int(((z >= low) & (z < high)).sum()) for low, high in itertools.pairwise(edges)]
    assert np.abs(np.array(found) - counts).max() <= 1


def test_the_atom_of_relu_belongs_to_the_bin_that_starts_at_zero():
    relu = monotone_rule(nn.ReLU())
    assert preimage_edges(relu, (0.0, 10.0), 2).tolist() == [-torch.inf, 5.0, 10.0]
    assert preimage_edges(relu, (-10.0, 10.0), 2).tolist() == [-torch.inf, -torch.inf, 10.0]


@pytest.mark.parametrize(
    ("activation", "expected"),
    [(nn.Sigmoid(), (0, 1)), (nn.Tanh(), (-1, 1)), (nn.ReLU(), (0, 10)), (None, (-10, 10)), (nn.ELU(2.0), (-2, 10))],
    ids=str,
)
def test_default_ranges_follow_deep_ei(activation, expected):
    assert default_out_range("test", activation) == expected


@pytest.mark.parametrize(
    ("activation", "why"),
    [
        (nn.Softshrink(), "not known to be monotone"),
        (nn.Softmax(-1), "mixes the units"),
    ],
    ids=str,
)
def test_exact_method_refuses_other_activations_in_words(activation, why):
    with pytest.raises(ValueError, match=rf"(?s)ei_parts\(method='exact'.*{why}.*method='sampled'"):
        ei_parts(nn.Linear(2, 2), activation, in_range=(0, 1), out_range=(-1, 1), method="exact")
