"""Every public function that takes data takes numpy arrays, and says what to do with anything else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lightning_foresight import functional as F
from lightning_foresight.metrics import (
    CKA,
    HSIC,
    AdamNoiseScale,
    EffectiveInformation,
    GradientNoiseScale,
    MutualInformation,
    OInformation,
    RepresentationalComplexity,
    ShannonInvariants,
    SxPID,
)

torch.manual_seed(0)
X, Y = torch.randn(40, 3), torch.randn(40, 2)
LABELS = (X[:, 0] > 0).long()
CODES = torch.randint(0, 3, (40, 2))
MODEL = nn.Linear(3, 2)
LOSS = nn.functional.cross_entropy


def metric(make):
    def measure(*data):
        one = make()
        one.update(*data)
        return one.compute()

    measure.__name__ = f"{make().__class__.__name__}.update"
    return measure


def named(name, function):
    function.__name__ = name
    return function


# Functions of data alone, and tensors that they take.
TAKING_DATA = [
    (F.entropy, [torch.tensor([0.25, 0.75])]),
    (F.discrete_entropy, [torch.tensor([3, 4])]),
    (F.lin_norm, [X]),
    (F.soft_norm, [X]),
    (F.sig_norm, [X]),
    (F.hsic, [X, Y]),
    (F.nhsic, [X, Y]),
    (F.cka, [X, Y]),
    (F.distance_correlation, [X, Y]),
    (named("independence_test", lambda x, y: F.independence_test(x, y, num_permutations=20).estimate), [X, Y]),
    (F.mutual_information, [X, LABELS]),
    (named("input_information", lambda t, x: F.input_information(t, inputs=x, estimator="ksg")), [Y, X]),
    (F.label_information, [X, LABELS]),
    (F.plane_information, [X, LABELS]),
    (F.layer_pair_information, [X, Y]),
    (F.data_processing_gap, [torch.tensor([2.0, 1.0])]),
    (F.joint_table, [CODES, LABELS]),
    (F.quantize, [X]),
    (named("noisy_table", lambda t, y: F.noisy_table(t, y, noise_std=0.1)), [X.tanh(), LABELS]),
    (named("exact_noise_scale", lambda x, y: F.exact_noise_scale(MODEL, LOSS, x, y)), [X, LABELS]),
    (named("per_example_sq_norms", lambda x, y: F.per_example_sq_norms(MODEL, LOSS, x, y)), [X, LABELS]),
    (metric(HSIC), [X, Y]),
    (metric(CKA), [X, Y]),
    (metric(MutualInformation), [X, LABELS]),
    (metric(SxPID), [CODES, LABELS]),
    (metric(ShannonInvariants), [CODES, LABELS]),
    (metric(OInformation), [CODES, LABELS]),
    (metric(RepresentationalComplexity), [CODES, LABELS]),
    (metric(lambda: EffectiveInformation(3, 2, in_range=(-5, 5), out_range=(-5, 5), in_bins=2, out_bins=2)), [X, Y]),
]
every = pytest.mark.parametrize(("function", "tensors"), TAKING_DATA, ids=[one.__name__ for one, _ in TAKING_DATA])


def numbers_of(result):
    """Return all numbers in a result."""
    if isinstance(result, torch.Tensor):
        return result.detach().double().flatten()
    if isinstance(result, dict):
        result = list(result.values())
    if not isinstance(result, (tuple, list)):
        result = [part for part in vars(result).values() if isinstance(part, torch.Tensor)]
    return torch.cat(
        [
            torch.zeros(0).double(),
            *(numbers_of(part) for part in result if not isinstance(part, (str, int)) and part is not None),
        ]
    )


@every
def test_numpy_arrays_give_what_tensors_give(function, tensors):
    expected, found = numbers_of(function(*tensors)), numbers_of(function(*(one.numpy() for one in tensors)))
    assert len(expected) > 0
    assert torch.equal(expected.nan_to_num(-1), found.nan_to_num(-1))


@every
def test_lists_are_refused_by_the_name_of_the_argument(function, tensors):
    for position, tensor in enumerate(tensors):
        arguments = [*tensors[:position], tensor.tolist(), *tensors[position + 1 :]]
        with pytest.raises(TypeError, match=r"^\w+\(\w+\): got a list; expected a tensor or a numpy array\."):
            function(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.weight_ei(X), r"weight_ei\(calls\): got a Tensor; expected the calls that trace_weight_layers"),
        (lambda: F.weight_ei(MODEL), r"got a Linear; .* weight_effective_information\(model, example_input\)"),
        (lambda: F.weight_ei([1, 2]), r"weight_ei\(calls\): got a list"),
        (lambda: F.weight_effective_information("net", X), r"\(model\): got a str; expected a torch\.nn\.Module\."),
        (
            lambda: F.trace_weight_layers(MODEL, X),
            r"trace_weight_layers\(forward\): got a Tensor; expected a function\.",
        ),
        (lambda: F.connectivity_matrix(X, (3,), (2,)), r"connectivity_matrix\(module\): got a Tensor"),
        (lambda: F.exact_noise_scale(None, LOSS, X, LABELS), r"exact_noise_scale\(model\): got None"),
        (lambda: F.hessian_noise_scale(MODEL, "mse", X, LABELS), r"hessian_noise_scale\(loss_fn\): got a str"),
        (lambda: F.ei_between_groups(MODEL, 3, in_range=(0, 1)), r"groups=3\): expected pairs \(indices of inputs"),
        (
            lambda: F.adam_preconditioner(MODEL, []),
            r"adam_preconditioner\(optimizer\): got a Linear; expected an optimizer",
        ),
        (lambda: F.make_estimate("high"), r"make_estimate\(value\): got a str"),
        (lambda: F.fieller_interval("a", 1, 1, 1, 0, 9), r"fieller_interval\(numerator\): got a str"),
        (lambda: F.noise_scale_from_norms("a", 1.0, 8, 32), r"noise_scale_from_norms\(sq_norm_small\): got a str"),
        (
            lambda: F.suggest_batch_size(None, 1.0, 2.0, 32),
            r"suggest_batch_size\(b_simple\): got None; expected a number",
        ),
    ],
)
def test_arguments_of_a_wrong_kind_are_refused_in_words(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_a_noise_scale_as_a_tensor_gives_the_advice_of_a_number():
    assert F.suggest_batch_size(torch.tensor(900.0), 700.0, 1200.0, 64) == F.suggest_batch_size(
        900.0, 700.0, 1200.0, 64
    )


def test_norms_may_be_numbers_lists_arrays_or_tensors_of_one_length():
    small, big = [3.0, 3.3, 2.9], [1.5, 1.7, 1.4]
    expected = F.noise_scale_from_norms(torch.tensor(small), torch.tensor(big), 8, 32).b_simple.value
    for kind in (list, np.asarray):
        found = F.noise_scale_from_norms(kind(small), kind(big), 8, np.float32(32)).b_simple.value
        assert torch.allclose(found.double(), expected.double(), rtol=1e-6)
    with pytest.raises(ValueError, match=r"got shapes \(3,\), \(2,\), \(\), \(\); expected one of each"):
        F.noise_scale_from_norms(small, big[:2], 8, 32)


def test_formulas_take_plain_numbers():
    arguments = (6.0, 2.0, 0.01, 0.01, 0.0, 30)
    expected = F.fieller_interval(*map(torch.tensor, arguments))
    assert F.fieller_interval(*arguments) == expected
    assert F.make_estimate(1.5).value == 1.5
    assert F.make_estimate(np.float64(1.5), std_error=0.1).std_error == pytest.approx(0.1)


def test_a_noise_scale_of_zero_is_advice_and_no_division_by_it():
    assert F.suggest_batch_size(0.0, 0.0, 10.0, 64).action == "lower"


@pytest.mark.parametrize("values", [torch.tensor([1.0, torch.inf]), torch.tensor([-torch.inf, 3.0]), torch.zeros(0)])
def test_levels_of_values_without_a_range_are_refused(values):
    with pytest.raises(ValueError, match=r"quantize\(x\): .*limits=\(low, high\)"):
        F.quantize(values)
    assert F.quantize(values, limits=(0, 1)).shape == values.shape


def test_metrics_of_the_noise_scale_take_arrays_and_refuse_what_is_no_gradient():
    small, big = torch.tensor([2.0, 3.0]), torch.tensor([1.0, 1.5])
    one, other = GradientNoiseScale(), GradientNoiseScale()
    one.update(small, big, 8, 32)
    other.update(small.numpy(), big.numpy(), 8, 32)
    assert one.compute().b_simple.value == other.compute().b_simple.value
    for gradients, preconditioner in ((None, [X]), ([[X], [X]], None), ([1.0, 2.0], [X])):
        with pytest.raises(TypeError, match=r"AdamNoiseScale\.update\(gradients, preconditioner\): expected for each"):
            AdamNoiseScale().update(gradients, 8, preconditioner)


def test_noise_that_is_nan_has_no_bin():
    one = EffectiveInformation(3, 2, in_range=(-5, 5), out_range=(-5, 5))
    broken = X.clone()
    broken[:4, 1] = torch.nan
    with pytest.raises(ValueError, match=r"update\(inputs\): 4 of 40 samples hold NaN"):
        one.update(broken, Y)
