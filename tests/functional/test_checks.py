"""What public functions take as data, and what they say of anything else."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from lightning_foresight.functional._checks import a_function, a_module, data, one_or_named, optional, takes


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.arange(6.0, dtype=np.float32).reshape(2, 3)[::-1],
        np.arange(6).reshape(3, 2).T,
        np.array(3.0),
        np.array([True, False]),
        np.array([1, 60_000], dtype=np.uint16),
        np.zeros((0, 3)),
        np.arange(3.0, dtype=">f4").astype("<f4"),
    ],
    ids=["plain", "reversed", "transposed", "scalar", "bool", "uint16", "empty", "swapped"],
)
def test_numpy_arrays_become_tensors_of_the_same_numbers(array):
    tensor = data("f", "x", array)
    assert isinstance(tensor, torch.Tensor)
    assert np.array_equal(tensor.numpy(), array)


def test_arrays_that_must_not_be_written_to_are_copied_without_a_warning():
    array = np.arange(3.0)
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = data("f", "x", array)
    tensor += 1
    assert array.tolist() == [0, 1, 2]


def test_tensors_are_passed_on_as_they_are():
    for tensor in (torch.ones(2, requires_grad=True), nn.Parameter(torch.ones(2)), torch.ones(2, dtype=torch.bfloat16)):
        assert data("f", "x", tensor) is tensor


class Table:
    """Stands for a DataFrame."""

    def __array__(self):
        return np.ones(2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            [1.0, 2.0],
            r"f\(x\): got a list; expected a tensor or a numpy array\. torch\.tensor\(\.\.\.\) makes one of a list",
        ),
        (Table(), r"f\(x\): got a Table; expected .* \.to_numpy\(\) of a table"),
        (None, r"f\(x\): got None; expected a tensor"),
        (np.array(["a"]), r"got a ndarray; expected an array of real numbers\. .* its entries, <U1, are numbers"),
        (np.array([None]), "expected an array of real numbers"),
        (
            torch.ones(2, dtype=torch.complex64),
            r"dtype complex64; expected real numbers\. .*view_as_real",
        ),
        (np.array([1j]), "expected real numbers"),
        (torch.eye(2).to_sparse(), r"in sparse_coo form; expected a dense tensor .* x\.to_dense\(\)"),
        (torch.ones(2, device="meta"), "in meta form; expected a dense tensor that holds its numbers.$"),
    ],
    ids=["list", "table", "none", "strings", "objects", "complex", "complex_array", "sparse", "meta"],
)
def test_anything_else_is_refused_with_what_to_do(value, message):
    with pytest.raises(TypeError, match=message):
        data("f", "x", value)


def test_arguments_are_checked_by_name_wherever_they_stand():
    @takes(x=data, by=optional(a_function), layers=one_or_named(data))
    def f(x, scale=1, *, by=None, layers=None):
        return x, scale, by, layers

    ones = np.ones(1)
    for x, *rest in (f(ones), f(x=ones), f(ones, 1), f(scale=1, x=ones)):
        assert isinstance(x, torch.Tensor)
        assert rest == [1, None, None]
    assert isinstance(f(ones, layers={"a": ones})[3]["a"], torch.Tensor)
    with pytest.raises(TypeError, match=r"f\(layers\['a'\]\): got a int"):
        f(ones, layers={"a": 3})
    with pytest.raises(TypeError, match=r"f\(by\): got a str; expected a function\."):
        f(ones, by="name")
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        f()


def test_a_method_is_named_after_its_class():
    class Model:
        @takes(network=a_module)
        def fit(self, network):
            return network

    network = nn.Identity()
    assert Model().fit(network) is network
    with pytest.raises(TypeError, match=r"Model\(network\): got a str; expected a torch\.nn\.Module\."):
        Model().fit("resnet")
