import math

import pytest
import torch

from lightning_foresight.functional import discrete_entropy, entropy


def test_a_uniform_distribution_has_the_logarithm_of_its_size():
    assert entropy(torch.full((8,), 1 / 8)).item() == pytest.approx(3)
    assert entropy(torch.full((8,), 1 / 8), base=math.e).item() == pytest.approx(math.log(8))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_labels_are_no_probabilities(dtype):
    labels = torch.tensor([0, 1, 1, 0]).to(dtype)
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(TypeError, match=rf"entropy\(p\): got a tensor of shape \(4,\) and dtype {name}; expected prob"):
        entropy(labels)


def test_what_is_said_to_be_for_samples_works_on_them():
    labels = torch.tensor([0, 1, 1, 0])
    with pytest.raises(TypeError, match=r"For samples use discrete_entropy\(torch.bincount\(labels\)\)"):
        entropy(labels)
    assert discrete_entropy(torch.bincount(labels)).value.item() == pytest.approx(1)
