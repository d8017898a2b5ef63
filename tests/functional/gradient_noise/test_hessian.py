import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, hessian

from lightning_foresight.functional import hessian_noise_scale
from tests.functional.gradient_noise.test_per_example import TinyTransformer
from tests.reference.gradient_noise import per_example_gradients


def dense_hessian(model, loss_fn, inputs, targets):
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])

    def loss(vector):
        pieces = vector.split([shape.numel() for shape in shapes])
        parameters = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
        return loss_fn(functional_call(model, parameters, (inputs,)), targets)

    return hessian(loss)(flat).numpy()


@pytest.fixture(scope="module")
def mlp():
    """A regression a few steps into training, with the dense truth, in float64."""
    torch.manual_seed(0)
    inputs = torch.randn(2048, 4, dtype=torch.float64)
    targets = torch.tanh(inputs[:, :1]) + 1 + 0.5 * torch.randn(2048, 1, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        F.mse_loss(model(inputs), targets).backward()
        optimizer.step()
    gradients = per_example_gradients(model, F.mse_loss, inputs, targets)
    h = dense_hessian(model, F.mse_loss, inputs, targets)
    g, trace = gradients.mean(0), np.trace(h @ np.cov(gradients.T))
    return model, inputs, targets, trace, g @ h @ g - trace / 2048


@pytest.mark.parametrize(
    ("method", "num_parts"), [("double_backward", 2), ("double_backward", 16), ("finite_difference", 16)]
)
def test_parts_agree_with_the_dense_hessian(mlp, method, num_parts):
    model, inputs, targets, numerator, denominator = mlp
    scale = hessian_noise_scale(model, F.mse_loss, inputs, targets, num_blocks=32, num_parts=num_parts, method=method)
    # Within 3 standard errors, and with 16 parts those are small.
    for part, truth in ((scale.trace_h_sigma, numerator), (scale.grad_h_grad, denominator)):
        assert abs(float(part.value) - truth) < 3 * float(part.std_error)
        assert float(part.std_error) < (0.07 if num_parts == 16 else 0.3) * truth


def test_averaged_over_orders_the_ratio_is_within_five_percent_of_the_dense_hessian(mlp):
    model, inputs, targets, numerator, denominator = mlp
    sums = torch.zeros(2, dtype=torch.float64)
    for seed in range(4):
        order = torch.randperm(2048, generator=torch.Generator().manual_seed(seed))
        parts = hessian_noise_scale(model, F.mse_loss, inputs[order], targets[order], num_blocks=8, num_parts=32)
        sums += torch.stack([parts.trace_h_sigma.value, parts.grad_h_grad.value]) / 4
    assert float(sums[0]) == pytest.approx(numerator, rel=0.05)
    assert float(sums[1]) == pytest.approx(denominator, rel=0.05)
    assert float(sums[0] / sums[1]) == pytest.approx(numerator / denominator, rel=0.05)


def test_the_interval_rests_on_the_spread_of_blocks(mlp):
    model, inputs, targets, numerator, denominator = mlp
    scale = hessian_noise_scale(model, F.mse_loss, inputs, targets, num_blocks=32)
    assert scale.b_noise.kind == "estimate"
    assert scale.b_noise.num_samples == 32
    assert scale.b_noise.lower < numerator / denominator < scale.b_noise.upper
    assert scale.b_noise.lower < scale.b_noise.value < scale.b_noise.upper


def test_negative_curvature_along_the_gradient_is_flagged():
    model = nn.Linear(1, 1, bias=False)
    x = torch.linspace(0.9, 1.1, 64)[torch.randperm(64, generator=torch.Generator().manual_seed(0))].unsqueeze(1)
    # The loss -(w x)^2 - 3 w x bends downwards everywhere.
    scale = hessian_noise_scale(model, lambda out, y: (-(out**2) - 3 * out).mean(), x, x)
    assert scale.grad_h_grad.value < 0
    assert scale.b_noise.kind == "not_valid"


def test_a_linear_loss_has_no_curvature():
    model = nn.Linear(2, 1)
    scale = hessian_noise_scale(model, lambda out, y: out.mean(), torch.randn(16, 2), torch.zeros(16))
    assert scale.trace_h_sigma.value == 0
    assert scale.b_noise.kind == "not_valid"


def test_finite_differences_agree_with_double_backward_through_attention():
    torch.manual_seed(0)
    model = TinyTransformer().eval().double()
    model.block.activation = F.gelu
    tokens = torch.randint(0, 11, (64, 6))
    exact, rounded = (
        hessian_noise_scale(model, F.cross_entropy, tokens, tokens.roll(1, 1), method=method)
        for method in ("double_backward", "finite_difference")
    )
    torch.testing.assert_close(rounded.trace_h_sigma.value, exact.trace_h_sigma.value, rtol=1e-5, atol=0)
    torch.testing.assert_close(rounded.grad_h_grad.value, exact.grad_h_grad.value, rtol=1e-5, atol=0)


def test_the_model_is_left_alone():
    model = nn.Linear(2, 2)
    before = [p.detach().clone() for p in model.parameters()]
    hessian_noise_scale(model, F.mse_loss, torch.randn(16, 2), torch.randn(16, 2))
    assert all(torch.equal(p, old) and p.grad is None for p, old in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"num_blocks": 1}, r"hessian_noise_scale\(num_blocks=1\): expected an integer of at least 2"),
        ({"num_parts": 1}, r"hessian_noise_scale\(num_parts=1\): expected an integer of at least 2"),
        ({"num_blocks": 9}, r"expected at least 18 samples"),
        ({"method": "exact"}, r"method='exact'\): expected one of 'double_backward', 'finite_difference'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        hessian_noise_scale(nn.Linear(2, 2), F.mse_loss, torch.randn(16, 2), torch.randn(16, 2), **arguments)
