"""Sliced mutual information: the mean over random one-dimensional projections."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_int, check_same_length
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.mutual_information._arguments import as_labels, as_rows
from lightning_foresight.functional.mutual_information.ksg import ksg_pair
from lightning_foresight.functional.mutual_information.ross import ksg_label

_OWNER = "sliced"


def check_sliced(num_slices: int = 20, k: int = 3, seed: int = 0) -> None:
    """Check the options of ``"sliced"`` without data."""
    check_int(_OWNER, "num_slices", num_slices, 2)
    check_int(_OWNER, "k", k, 1)
    check_int(_OWNER, "seed", seed, 0)


def _project(rows: Tensor, num_slices: int, generator: torch.Generator) -> Tensor:
    rows = rows if rows.is_floating_point() else rows.float()
    directions = torch.randn(rows.shape[1], num_slices, generator=generator, dtype=rows.dtype, device=rows.device)
    return rows @ (directions / directions.norm(dim=0))


def _mean(estimates: list[Estimate], n: int) -> Estimate:
    values = torch.stack([each.value for each in estimates])
    within = torch.stack([each.std_error for each in estimates]).square().mean()
    # The slices share the samples: their own error does not shrink with the number of slices, that of slicing does.
    error = (values.var() / len(estimates) + within).sqrt()
    return make_estimate(values.mean(), std_error=error, num_samples=n, method=f"sliced KSG ({len(estimates)} slices)")


def sliced_pair(x: Tensor, y: Tensor, *, base: float = 2, num_slices: int = 20, k: int = 3, seed: int = 0) -> Estimate:
    r"""Sliced mutual information: the mean of one-dimensional values over random directions of both sides.

    .. math:: SI(X;Y) = \mathbb E_{\theta, \phi}\, I(\theta^\top X; \phi^\top Y)

    It is 0 only for independent variables and its error does not grow with the dimension, but it is another quantity
    than I(X;Y): at most as large, far smaller in many dimensions, and larger after some transformations of one side.

    Args:
        x: Samples, shape ``(n, ...)``.
        y: Samples, shape ``(n, ...)``.
        base: Base of the logarithm; 2 gives bits.
        num_slices: Random directions; each costs one nearest-neighbour search.
        k: Which neighbour.
        seed: Seed of the directions.

    Returns:
        The estimate of the sliced information, a scalar in float64.

    Raises:
        ValueError: If samples are not finite or differ in number, or an option is out of range.

    Source: Goldfeld & Greenewald 2021 (arXiv 2110.05279).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import mutual_information
        >>> x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
        >>> bool(mutual_information(x, x, estimator="sliced", num_slices=5).value > 0.05)
        True
    """
    check_base(_OWNER, base)
    check_sliced(num_slices, k, seed)
    x_rows, y_rows = as_rows(_OWNER, "x", x), as_rows(_OWNER, "y", y)
    check_same_length(_OWNER, "x", x_rows, "y", y_rows)
    generator = torch.Generator(device=x_rows.device).manual_seed(seed)
    x_slices, y_slices = _project(x_rows, num_slices, generator), _project(y_rows, num_slices, generator)
    pairs = zip(x_slices.unbind(1), y_slices.unbind(1), strict=True)
    return _mean([ksg_pair(a, b, base=base, k=k) for a, b in pairs], x_rows.shape[0])


def sliced_label(
    activations: Tensor, labels: Tensor, *, base: float = 2, num_slices: int = 20, k: int = 3, seed: int = 0
) -> Estimate:
    """The mean I(T;Y) of random one-dimensional projections of the activations (Ross 2014 for each)."""
    check_base(_OWNER, base)
    check_sliced(num_slices, k, seed)
    rows = as_rows(_OWNER, "activations", activations)
    as_labels(_OWNER, "labels", labels, rows.shape[0])
    generator = torch.Generator(device=rows.device).manual_seed(seed)
    slices = _project(rows, num_slices, generator)
    return _mean([ksg_label(each, labels, base=base, k=k) for each in slices.unbind(1)], rows.shape[0])
