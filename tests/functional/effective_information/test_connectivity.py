import pytest
import torch
from torch import nn

from lightning_foresight.functional import connectivity_matrix
from tests.reference.dense_connectivity import dense_matrix


def test_a_linear_layer_gives_its_transposed_weights():
    layer = nn.Linear(3, 2)
    assert torch.equal(connectivity_matrix(layer, (3,), (2,)), layer.weight.T)


def test_a_padded_convolution_written_out_by_hand():
    conv = nn.Conv1d(1, 1, 3, padding=1)
    a, b, c = conv.weight.detach().flatten().tolist()
    # Output j reads inputs j - 1, j, j + 1.
    expected = torch.tensor([[b, a, 0.0], [c, b, a], [0.0, c, b]])
    torch.testing.assert_close(connectivity_matrix(conv, (1, 3), (1, 3)), expected, rtol=0, atol=0)


def test_average_pooling_connects_each_channel_to_itself_only():
    matrix = connectivity_matrix(nn.AvgPool2d(2), (2, 2, 2), (2, 1, 1))
    assert matrix.tolist() == [[0.25, 0.0]] * 4 + [[0.0, 0.25]] * 4


def test_an_embedding_is_a_linear_layer_over_one_hot_codes_at_every_position():
    embedding = nn.Embedding(3, 2)
    matrix = connectivity_matrix(embedding, (2,), (2, 2))
    assert torch.equal(matrix, torch.block_diag(embedding.weight, embedding.weight))


@pytest.mark.parametrize(
    ("layer", "in_shape"),
    [
        (nn.Linear(3, 2), (4, 3)),
        (nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2, padding_mode="reflect"), (2, 5, 4)),
        (nn.ConvTranspose2d(2, 3, 3, stride=2, output_padding=1), (2, 3, 3)),
        (nn.AdaptiveAvgPool2d((2, 3)), (2, 5, 7)),
    ],
)
def test_unit_vectors_and_the_jacobian_give_the_same_matrix(layer, in_shape):
    out_shape = layer(torch.zeros(1, *in_shape)).shape[1:]
    matrix = connectivity_matrix(layer, in_shape, out_shape)
    torch.testing.assert_close(matrix.double(), torch.from_numpy(dense_matrix(layer, in_shape)), rtol=1e-6, atol=1e-7)


def test_a_wrong_output_shape_is_named_with_the_right_one():
    with pytest.raises(ValueError, match=r"out_shape=\(1, 4\).*maps \(1, 3\) to \(1, 2\)"):
        connectivity_matrix(nn.Conv1d(1, 1, 2), (1, 3), (1, 4))


def test_a_layer_without_a_rule_is_refused_with_the_kinds_that_have_one():
    with pytest.raises(TypeError, match=r"connectivity_matrix\(module=ReLU\): expected a module .* of Linear, Conv1d"):
        connectivity_matrix(nn.ReLU(), (3,), (3,))
