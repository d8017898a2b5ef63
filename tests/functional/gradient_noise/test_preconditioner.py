import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_foresight.functional import (
    adam_preconditioner,
    exact_noise_scale,
    preconditioned_sq_norm,
)
from tests.reference.gradient_noise import noise_scale, per_example_gradients

# Without momentum, a step of these is the gradient times the preconditioner: torch's own step is the oracle.
WITHOUT_MOMENTUM = {
    "adam": lambda p: torch.optim.Adam(p, lr=1, betas=(0.0, 0.9)),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1, betas=(0.0, 0.99), eps=1e-3, weight_decay=0),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=1, betas=(0.0, 0.5), amsgrad=True),
    "one_at_a_time": lambda p: torch.optim.Adam(p, lr=1, betas=(0.0, 0.9), foreach=False),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1, alpha=0.9),
    "rmsprop_centered": lambda p: torch.optim.RMSprop(p, lr=1, alpha=0.9, centered=True, eps=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1, initial_accumulator_value=0.1),
}


@pytest.mark.parametrize("name", WITHOUT_MOMENTUM)
def test_the_preconditioner_is_what_the_optimizer_multiplies_gradients_by(name):
    draw = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(3, 2, generator=draw)), nn.Parameter(torch.randn(4, generator=draw))]
    optimizer = WITHOUT_MOMENTUM[name](parameters)
    for _ in range(5):
        before = [p.detach().clone() for p in parameters]
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=draw)
        optimizer.step()
        for old, p, scale in zip(before, parameters, adam_preconditioner(optimizer, parameters)):
            # The step is a difference of numbers of order one: float32 leaves six digits.
            torch.testing.assert_close(scale * p.grad, old - p.detach(), rtol=1e-4, atol=1e-5)


def test_groups_of_parameters_keep_their_own_settings():
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([{"params": [first], "eps": 1.0}, {"params": [second]}], eps=0.0)
    for p in (first, second):
        p.grad = torch.tensor([1.0, 2.0])
    optimizer.step()
    scales = adam_preconditioner(optimizer, [second, first])
    torch.testing.assert_close(scales[0], torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(scales[1], torch.tensor([1 / 2, 1 / 3]))


def test_parameters_without_a_step_have_no_preconditioner():
    stepped, idle = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([stepped, idle])
    stepped.grad = torch.ones(2)
    optimizer.step()
    scales = adam_preconditioner(optimizer, [stepped, idle])
    assert scales[0] is not None
    assert scales[1] is None


@pytest.mark.parametrize("rule", [torch.optim.SGD, torch.optim.Adadelta, torch.optim.Adamax])
def test_optimizers_without_a_second_moment_are_refused(rule):
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = rule([parameter], lr=0.1, **({"momentum": 0.9} if rule is torch.optim.SGD else {}))
    parameter.grad = torch.ones(2)
    optimizer.step()
    with pytest.raises(ValueError, match=rf"optimizer={rule.__name__}\): its state holds no second moment"):
        adam_preconditioner(optimizer, [parameter])


def test_a_parameter_of_another_optimizer_is_refused():
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(2))])
    with pytest.raises(ValueError, match=r"parameters\[0\]\): Adam does not update this parameter of shape \(3,\)"):
        adam_preconditioner(optimizer, [nn.Parameter(torch.zeros(3))])


def test_squared_norms_are_weighted_sums_of_squares():
    gradients = [torch.tensor([1.0, 2.0]), None, torch.tensor([[3.0]], dtype=torch.bfloat16), torch.ones(5)]
    scales = [torch.tensor([0.5, 0.25]), torch.ones(3), torch.tensor([[2.0]]), None]
    result = preconditioned_sq_norm(gradients, scales)
    assert float(result) == 0.5 + 4 * 0.25 + 9 * 2
    assert result.dtype == torch.float32


def test_rows_of_sparse_gradients_are_summed_before_squaring():
    scale = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    values = torch.tensor([[1.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
    sparse = torch.sparse_coo_tensor(torch.tensor([[2, 0, 2]]), values, (3, 2))
    expected = preconditioned_sq_norm([sparse.to_dense()], [scale])
    assert preconditioned_sq_norm([sparse], [scale]) == expected


def test_lists_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="got 1 and 2 tensors; expected one of each for every parameter"):
        preconditioned_sq_norm([torch.ones(2)], [torch.ones(2), torch.ones(2)])
    with pytest.raises(ValueError, match="no parameter has both a gradient and a second moment"):
        preconditioned_sq_norm([torch.ones(2)], [None])


def trained():
    """A network that Adam has trained for a while, its optimizer, and the data."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    inputs = torch.randn(20, 4)
    targets = (inputs[:, 0] > 0).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(10):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return model, optimizer, inputs, targets


def test_exact_noise_scale_in_adams_metric_is_that_of_rescaled_gradients():
    model, optimizer, inputs, targets = trained()
    scales = adam_preconditioner(optimizer, model.parameters())
    roots = torch.cat([scale.flatten() for scale in scales]).double().sqrt().numpy()
    expected = noise_scale(per_example_gradients(model, F.cross_entropy, inputs, targets) * roots)
    result = exact_noise_scale(model, F.cross_entropy, inputs, targets, chunk_size=7, preconditioner=scales)
    # The gradients of both are float32.
    np.testing.assert_allclose([result.trace_sigma.value, result.grad_sq_norm.value], expected, rtol=1e-4)
    plain = exact_noise_scale(model, F.cross_entropy, inputs, targets)
    assert abs(result.b_simple.value / plain.b_simple.value - 1) > 0.1


def test_parameters_without_a_preconditioner_are_left_out():
    model, optimizer, inputs, targets = trained()
    scales = adam_preconditioner(optimizer, model.parameters())
    model[2].requires_grad_(False)
    expected = exact_noise_scale(model, F.cross_entropy, inputs, targets, preconditioner=scales[:2])
    model[2].requires_grad_(True)
    result = exact_noise_scale(model, F.cross_entropy, inputs, targets, preconditioner=[*scales[:2], None, None])
    torch.testing.assert_close(result.b_simple.value, expected.b_simple.value)


def test_a_preconditioner_of_other_shapes_is_refused():
    model, _, inputs, targets = trained()
    with pytest.raises(ValueError, match=r"preconditioner\): got shapes \[\(2,\)\]; expected one tensor \(or None\)"):
        exact_noise_scale(model, F.cross_entropy, inputs, targets, preconditioner=[torch.ones(2)])
    with pytest.raises(ValueError, match="every entry is None"):
        exact_noise_scale(model, F.cross_entropy, inputs, targets, preconditioner=[None] * 4)
