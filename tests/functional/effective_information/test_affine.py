import pytest
import torch
from torch import nn

from lightning_foresight.functional.effective_information.affine import as_affine

LAYERS = [
    (nn.Linear(5, 3), (5,)),
    (nn.Conv1d(2, 3, 3), (2, 9)),
    (nn.Conv2d(4, 6, (2, 3), groups=2), (4, 7, 7)),
    (nn.Conv2d(2, 2, 3, stride=2, dilation=2), (2, 11, 11)),
    (nn.Conv3d(1, 2, 2), (1, 5, 5, 5)),
    (nn.ConvTranspose1d(3, 2, 3), (3, 9)),
    (nn.ConvTranspose1d(2, 3, 5, stride=2), (2, 9)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (4, 5, 5)),
    (nn.ConvTranspose2d(2, 2, 4, stride=3, dilation=2, padding=1), (2, 6, 6)),
    (nn.ConvTranspose3d(1, 2, 2, bias=False), (1, 4, 4, 4)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=str)
def test_weights_are_the_jacobian_of_the_output_with_most_inputs(layer, shape):
    layer = layer.double()
    x = torch.zeros(1, *shape, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x)[0], x)
    affine = as_affine(layer)
    outputs = affine.weight.shape[0]
    # (channels, positions, inputs): at some position every channel reads exactly these weights, in some order.
    rows = jacobian.reshape(outputs, -1, x.numel())
    fullest = (rows != 0).sum(-1).amax(1)
    assert (fullest == affine.weight.shape[1]).all()
    for channel in range(outputs):
        at = (rows[channel] != 0).sum(-1).argmax()
        found = rows[channel, at][rows[channel, at] != 0]
        assert torch.equal(found.sort().values, affine.weight[channel].sort().values)
    assert torch.equal(affine.bias, torch.zeros(outputs).double() if layer.bias is None else layer.bias.detach())


def test_other_modules_are_not_affine():
    assert as_affine(nn.LayerNorm(3)) is None
    assert as_affine(lambda x: x) is None
