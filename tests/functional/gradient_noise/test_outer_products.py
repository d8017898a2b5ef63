"""Squared norms and inner products of sums of outer products against the sums themselves."""

import numpy as np
import pytest
import torch

from lightning_foresight.functional import _memory
from lightning_foresight.functional.gradient_noise.outer_products import Dense, Indexed, inner_products, sq_norms

EXAMPLES = 3


def dense(tokens, rows, columns, seed=0):
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(EXAMPLES, tokens, size, generator=generator) for size in (rows, columns))
    return Dense(left, right)


def indexed(tokens, rows, columns, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Indexed(
        torch.randint(0, rows, (EXAMPLES, tokens), generator=generator),
        torch.randn(EXAMPLES, tokens, columns, generator=generator),
    )


def gradients(value, rows):
    """The sums themselves, token by token in float64."""
    right = value.right.double()
    sums = torch.zeros(EXAMPLES, rows, right.shape[2], dtype=torch.float64)
    for example in range(EXAMPLES):
        for token, column in enumerate(right[example]):
            if isinstance(value, Dense):
                sums[example] += value.left[example, token].double().outer(column)
            else:
                sums[example, value.rows[example, token]] += column
    return sums


def assert_same(measure, expected):
    # Sums of some hundred float32 products of either sign, none of which cancels the squares on the diagonal.
    np.testing.assert_allclose(measure(total=False), expected, rtol=1e-5, atol=1e-5 * expected.abs().max())
    np.testing.assert_allclose(measure(total=True), expected.sum(), rtol=1e-5, atol=1e-5 * expected.abs().sum())


# One token; one panel; two and four panels, the last one shorter; so many tokens that gradients are formed.
@pytest.mark.parametrize("tokens", [1, 5, 32, 33, 64, 131])
@pytest.mark.parametrize("size", [(3, 5), (200, 300)])
def test_squared_norms_of_outer_products(tokens, size):
    value = dense(tokens, *size)
    expected = gradients(value, size[0]).square().sum((1, 2))
    assert_same(lambda total: sq_norms(value, total=total), expected)


@pytest.mark.parametrize("num_rows", [1, 4, 1000])
def test_squared_norms_where_tokens_meet_in_rows(num_rows):
    value = indexed(40, num_rows, 6)
    expected = gradients(value, num_rows).square().sum((1, 2))
    assert_same(lambda total: sq_norms(value, total=total), expected)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (dense(4, 30, 50), dense(7, 30, 50, seed=1)),
        (dense(40, 5, 6), dense(70, 5, 6, seed=1)),  # gradients are formed
        (dense(4, 30, 6), indexed(7, 30, 6, seed=1)),
        (indexed(7, 30, 6), dense(4, 30, 6, seed=1)),
        (indexed(20, 30, 6), indexed(70, 30, 6, seed=1)),
    ],
    ids=["few_tokens", "many_tokens", "dense_and_indexed", "indexed_and_dense", "indexed"],
)
def test_inner_products_of_two_uses(first, second):
    num_rows = next(value.left.shape[2] for value in (first, second, dense(1, 30, 1)) if isinstance(value, Dense))
    expected = (gradients(first, num_rows) * gradients(second, num_rows)).sum((1, 2))
    assert_same(lambda total: inner_products(first, second, total=total), expected)


@pytest.mark.parametrize("value", [dense(40, 20, 30), dense(300, 4, 5), indexed(40, 7, 6)])
def test_chunks_of_examples_give_the_same(value, monkeypatch):
    whole = [sq_norms(value, total=total) for total in (False, True)]
    monkeypatch.setattr(_memory, "MEMORY_BUDGET", 1)  # one example at a time
    for total in (False, True):
        np.testing.assert_allclose(sq_norms(value, total=total), whole[total], rtol=1e-5)
