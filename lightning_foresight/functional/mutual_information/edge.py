"""Mutual information from an ensemble of shifted grids, weighted so that leading biases cancel."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_int, check_same_length
from lightning_foresight.functional._random import own_generator
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.mutual_information._arguments import as_labels, as_rows
from lightning_foresight.functional.mutual_information._bins import Binning
from lightning_foresight.functional.mutual_information._cells import cell_numbers, count_cells, row_keys
from lightning_foresight.functional.mutual_information._constant import varying_columns, zero_of_constants

_OWNER = "edge"


def check_edge(num_scales: int = 10, seed: int = 0) -> None:
    """Check the options of ``"edge"`` without data."""
    check_int(_OWNER, "num_scales", num_scales, 2)
    check_int(_OWNER, "seed", seed, 0)


def ensemble_weights(scales: Tensor, degree: int) -> Tensor:
    """The smallest weights of sum 1 for which the first powers of the scales, up to ``degree``, have mean 0."""
    powers = scales.unsqueeze(0) ** torch.arange(degree + 1, dtype=scales.dtype, device=scales.device).unsqueeze(1)
    return torch.linalg.pinv(powers)[:, 0]


def _grid_keys(rows: Tensor, width: float, generator: torch.Generator) -> Tensor:
    """Keys of the cells of a grid with a random origin; integers are cells already."""
    if not rows.is_floating_point():
        return row_keys(rows, Binning(lambda part: part))
    shift = torch.rand(rows.shape[1], generator=generator, dtype=rows.dtype, device=rows.device) * width
    return row_keys(rows + shift, Binning(lambda part: (part / width).floor_()))


@zero_of_constants(_OWNER)
def edge_pair(x: Tensor, y: Tensor, *, base: float = 2, num_scales: int = 10, seed: int = 0) -> Estimate:
    r"""Mutual information from counts in shifted grids of several widths, combined so that their biases cancel.

    .. math:: I = \sum_l w_l\, \hat I(\epsilon_l), \qquad \epsilon_l = t_l\, n^{-1 / 2 (d_x + d_y)}, \qquad
        \sum_l w_l = 1, \quad \sum_l w_l t_l = 0

    with :math:`\hat I` the plug-in value of the joint counts. The published estimator hashes cells into a limited
    number of buckets; here every occupied cell is counted by itself. It takes time linear in the samples. What is left
    of the bias is of either sign and shows nowhere in the samples, so that no interval is claimed and ``kind`` is
    ``"not_valid"``: about 0.1 nats for smooth single columns, more than 1 nat for sharp ones; far too high where cells
    hold one sample each, from about three columns a side on: there ``saturation`` nears 1.

    Args:
        x: Samples, shape ``(n, ...)``; columns are divided by their standard deviation, integers are cells already.
        y: Samples, shape ``(n, ...)``.
        base: Base of the logarithm; 2 gives bits.
        num_scales: Grids in the ensemble.
        seed: Seed of the origins.

    Returns:
        The estimate, a scalar in float64; its standard error is not known (NaN). ``saturation`` is the largest joint
        entropy over :math:`\log n`.

    Raises:
        ValueError: If samples are not finite or differ in number, or an option is out of range.

    Source: Noshad, Zeng & Hero 2019 (arXiv 1801.09125).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import mutual_information
        >>> x = torch.randn(5000, generator=torch.Generator().manual_seed(0))
        >>> noise = torch.randn(5000, generator=torch.Generator().manual_seed(1))
        >>> estimate = mutual_information(x, x + noise, estimator="edge")  # exactly half a bit
        >>> abs(estimate.value.item() - 0.5) < 0.1
        True
    """
    check_base(_OWNER, base)
    check_edge(num_scales, seed)
    x_rows, y_rows = as_rows(_OWNER, "x", x), as_rows(_OWNER, "y", y)
    check_same_length(_OWNER, "x", x_rows, "y", y_rows)
    return _estimate(x_rows, y_rows, base, num_scales, seed)


@zero_of_constants(_OWNER)
def edge_label(
    activations: Tensor, labels: Tensor, *, base: float = 2, num_scales: int = 10, seed: int = 0
) -> Estimate:
    """I(T;Y) as edge_pair, the labels being the cells of y."""
    check_base(_OWNER, base)
    check_edge(num_scales, seed)
    rows = as_rows(_OWNER, "activations", activations)
    numbers, _ = as_labels(_OWNER, "labels", labels, rows.shape[0])
    return _estimate(rows, numbers.unsqueeze(1), base, num_scales, seed)


def _estimate(x: Tensor, y: Tensor, base: float, num_scales: int, seed: int) -> Estimate:
    n = x.shape[0]
    generator = own_generator(x.device, seed)
    x, y = (rows[:, varying_columns(rows)] for rows in (x, y))  # others would widen the cells
    x, y = (rows / rows.std(0).clamp(min=1e-12) if rows.is_floating_point() else rows for rows in (x, y))
    dimension = sum(rows.shape[1] for rows in (x, y) if rows.is_floating_point()) or 1
    scales = torch.linspace(3, 8, num_scales, dtype=torch.float64, device=x.device)
    # Cancelling more than the first power costs more variance than it saves bias, in one column a side as in three.
    weights = ensemble_weights(scales, 1)
    values, joint_entropies = [], []
    for scale in scales.tolist():
        width = scale * n ** (-1 / (2 * dimension))
        y_numbers = cell_numbers(_grid_keys(y, width, generator))
        cells = count_cells(_grid_keys(x, width, generator), y_numbers, int(y_numbers.max()) + 1)
        joint, counts = cells.joint_counts.double(), cells.counts.double()
        y_counts = counts.new_zeros(cells.num_labels).index_add_(0, cells.label, joint)
        values.append(joint @ (joint * n / (counts[cells.cell] * y_counts[cells.label])).log() / n)
        joint_entropies.append(math.log(n) - joint @ joint.log() / n)
    value = weights @ torch.stack(values) / math.log(base)
    saturation = (torch.stack(joint_entropies).amax() / math.log(n)).clamp(0, 1)
    return make_estimate(
        value,
        std_error=math.nan,
        num_samples=n,
        saturation=saturation,
        kind="not_valid",
        method=f"EDGE ({num_scales} grids)",
    )
