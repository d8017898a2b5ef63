"""A test of independence by permutation: how large a measure of dependence is when one side is shuffled."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_choice, check_int, data, takes
from lightning_foresight.functional._memory import MEMORY_BUDGET
from lightning_foresight.functional._random import own_generator
from lightning_foresight.functional.dependence._centred import biased, row_slices, unbiased
from lightning_foresight.functional.dependence._measured import prepare_kernels
from lightning_foresight.functional.dependence.hsic import cka, distance_correlation, hsic
from lightning_foresight.functional.dependence.kernels import Kernel
from lightning_foresight.functional.estimate import Estimate

_MEASURES = {"hsic": hsic, "cka": cka, "distance_correlation": distance_correlation}


class IndependenceTest(NamedTuple):
    """The measured dependence beside what it is without any.

    Attributes:
        estimate: The measure of the samples as they are.
        p_value: Share of shuffled samples with at least this value, the samples themselves counted as one of them: at
            most p with probability p if both sides are independent.
        null: The measure of each shuffled set, shape ``(num_permutations,)``.
    """

    estimate: Estimate
    p_value: Tensor
    null: Tensor


@takes(x=data, y=data)
def independence_test(
    x: Tensor,
    y: Tensor,
    measure: str = "hsic",
    *,
    num_permutations: int = 200,
    generator: torch.Generator | None = None,
    **options: Any,
) -> IndependenceTest:
    r"""Test whether two sets of samples are independent, by shuffling which x goes with which y.

    .. math:: p = \frac{1 + \#\{b : M(x, y_{\pi_b}) \ge M(x, y)\}}{1 + B}

    Valid for any n and any kernel, where ``std_error`` is not: under independence HSIC is no normal variable.

    Args:
        x: Samples, shape ``(n, ...)``, at least 4; one column of integers is taken as classes.
        y: Samples, shape ``(n, ...)``, likewise.
        measure: ``"hsic"``, ``"cka"`` or ``"distance_correlation"``.
        num_permutations: B; the smallest p-value is :math:`1 / (1 + B)`.
        generator: Source of the permutations, on the samples' device; one of seed 0 when not given.
        **options: The measure's own, such as ``bandwidth=2.0`` or ``unbiased=False``.

    Returns:
        The estimate, the p-value and the values of the shuffled sets, in float64.

    Raises:
        ValueError: As the measure does, or if an argument is out of range.

    Sources: Gretton et al. 2007, "A kernel statistical test of independence"; Phipson & Smyth 2010 for the p-value.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import independence_test
        >>> x = torch.linspace(-1, 1, 100)
        >>> test = independence_test(x, x**2, bandwidth=0.5)
        >>> round(test.p_value.item(), 3), bool(test.null.mean() < test.estimate.value / 10)
        (0.005, True)
    """
    owner = "independence_test"
    check_choice(owner, "measure", measure, _MEASURES)
    check_int(owner, "num_permutations", num_permutations, 1)
    x, y = x.detach(), y.detach()
    estimate = _MEASURES[measure](x, y, **{"std_error": False, **options})
    default = {"hsic": "gaussian", "cka": "linear", "distance_correlation": "distance"}[measure]
    debiased = options.get("unbiased", measure != "distance_correlation")
    rows_x, rows_y, kernel_x, kernel_y = prepare_kernels(
        owner,
        x,
        y,
        options.get("kernel", default),
        1.0 if default == "distance" else options.get("bandwidth", "median"),
    )
    if generator is None:
        generator = own_generator(rows_x.device)
    n = rows_x.shape[0]
    identity = torch.arange(n, device=rows_x.device)
    shuffles = [torch.randperm(n, generator=generator, device=rows_x.device) for _ in range(num_permutations)]
    orders = torch.stack([identity, *shuffles])
    values = _hsic_of_orders(rows_x, rows_y, kernel_x, kernel_y, orders, debiased)
    observed, null = values[0], values[1:]
    # Sums over shuffled rows differ in their last digits even where the permutation changes nothing.
    rounding = 1e-5 * observed.abs()
    p_value = (1 + (null >= observed - rounding).sum().double()) / (1 + num_permutations)
    if measure != "hsic":
        # What CKA and distance correlation divide by does not change when rows are shuffled.
        own = torch.stack(
            [
                _hsic_of_orders(rows_x, rows_x, kernel_x, kernel_x, orders[:1], debiased)[0],
                _hsic_of_orders(rows_y, rows_y, kernel_y, kernel_y, orders[:1], debiased)[0],
            ]
        )
        null = null / own.clamp(min=torch.finfo(torch.float64).tiny).prod().sqrt()
        null = torch.where(estimate.value.isnan(), math.nan, null)
        if measure == "distance_correlation" and not debiased:
            null = null.clamp(min=0).sqrt()
    return IndependenceTest(estimate, p_value, null)


def _hsic_of_orders(x: Tensor, y: Tensor, kernel_x: Kernel, kernel_y: Kernel, orders: Tensor, debiased: bool) -> Tensor:
    """HSIC of x with each reordering of y, ``(len(orders),)``; the second kernel matrix is held while it fits."""
    n = x.shape[0]
    blocks = row_slices(n, x.device, x.element_size())
    held = n * n * y.element_size() <= MEMORY_BUDGET
    whole = torch.cat([kernel_y(y[block], y) for block in blocks]) if held else None
    products = torch.zeros(len(orders), dtype=torch.float64, device=x.device)
    sums_x, sums_y = products.new_zeros(n), products.new_zeros(n)
    for block in blocks:
        k = kernel_x(x[block], x)
        own = torch.arange(block.start, block.stop, device=x.device).unsqueeze(1)
        l_block = whole[block] if whole is not None else kernel_y(y[block], y)
        if debiased:
            k = k.scatter(1, own, 0.0)
            l_block = l_block.scatter(1, own, 0.0)
        sums_x[block], sums_y[block] = k.double().sum(1), l_block.double().sum(1)
        for index, order in enumerate(orders):
            if whole is not None:
                l_block = whole[order[block]].index_select(1, order)
            else:
                l_block = kernel_y(y[order[block]], y[order])
            # The diagonal of K is 0 where it must not count.
            products[index] += torch.dot(k.flatten(), l_block.flatten()).double()
    form = unbiased if debiased else biased
    return torch.stack(
        [form(*each) for each in zip(products, sums_x.expand(len(orders), -1), sums_y[orders], strict=True)]
    )
