"""The joint table of noisy neurons, computed from the noise instead of sampled."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional import _memory
from lightning_foresight.functional._checks import (
    check_finite,
    check_int,
    check_range,
    check_same_length,
    check_samples,
    data,
    describe,
    fail,
    takes,
)
from lightning_foresight.functional.partial_information._row_ids import relabel
from lightning_foresight.functional.partial_information.joint_table import JointRows, check_codes, float_dtype

_REACH = 3  # standard deviations of noise that get bins of their own beyond the limits


@takes(activations=data, target=data)
def noisy_table(
    activations: Tensor,
    target: Tensor,
    *,
    noise_std: float,
    num_bins: int = 8,
    limits: tuple[float, float] | None = None,
    keep: float = 0.999,
) -> JointRows:
    r"""Joint table of neurons with Gaussian noise and the target, in bins of equal width.

    A deterministic network of real numbers keeps all information about its input; with noise of a stated size on every
    neuron the question has an answer. A sample is spread over the bins by the probabilities of its noise,

    .. math:: p(b, t) = \frac{1}{N} \sum_{k : t_k = t} \prod_i \left[ \Phi\left(\frac{u_{b_i} - x_{ki}}{\sigma}\right)
        - \Phi\left(\frac{l_{b_i} - x_{ki}}{\sigma}\right) \right],

    with edges :math:`l_b, u_b` of bin b, so that no noise is drawn. ``num_bins`` bins lie between the limits, further
    ones of the same width up to three standard deviations beyond, and the outermost ones take the tails.

    Args:
        activations: Real activations ``(n, k)``, one column a source.
        target: Integer codes ``(n,)``.
        noise_std: Standard deviation of the noise, in the unit of the activations.
        num_bins: Number of bins between the limits.
        limits: ``(lo, hi)``; the range of the activations when ``None``.
        keep: Probability to keep: the least likely cells are dropped as long as this much stays, and the rest is
            scaled to sum to 1. Without, nearly all cells of the grid have some probability.

    Returns:
        A table of probabilities for every measure of this package. Its bins are those of ``quantize(mode="bins")`` with
        as many more in front as lie below the limits.

    Raises:
        TypeError: If the target is not of integers.
        ValueError: If an argument is out of range, values are not finite, or the grid does not fit into memory.

    Source:
        Goldfeld et al. 2019, "Estimating information flow in deep neural networks", arXiv:1810.05728, for the noise;
        as a table for decompositions: Ehrlich et al. 2023, arXiv:2209.10438.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import noisy_table, shannon_invariants
        >>> x = torch.tensor([[-0.5], [0.5]])
        >>> table = noisy_table(x, torch.tensor([0, 1]), noise_std=0.5, num_bins=2, limits=(-1, 1), keep=1)
        >>> round(float(shannon_invariants(table).mutual_information), 4)
        0.4044
    """
    owner = "noisy_table"
    check_codes(owner, "target", target, 1)
    if activations.ndim != 2 or not activations.is_floating_point():
        raise ValueError(
            f"{owner}(activations): got {describe(activations)}; expected real numbers (samples, neurons)."
        )
    check_samples(owner, "activations", activations, 1)
    check_finite(owner, "activations", activations)
    check_same_length(owner, "activations", activations, "target", target)
    check_int(owner, "num_bins", num_bins, 1)
    if not isinstance(noise_std, (int, float)) or not 0 < noise_std < math.inf:
        fail(owner, "noise_std", noise_std, "expected a number above 0.")
    if not isinstance(keep, (int, float)) or not 0 < keep <= 1:
        fail(owner, "keep", keep, "expected a probability above 0, at most 1.")
    x = activations.to(float_dtype(activations.device))
    low, high = _range_of(x) if limits is None else check_range(owner, "limits", limits)
    width = (high - low) / num_bins
    outside = math.ceil(_REACH * noise_std / width)
    bins, num_sources = num_bins + 2 * outside, x.shape[1]
    labels, num_labels = relabel(target)
    if bins**num_sources * num_labels * 8 > _memory.MEMORY_BUDGET:
        raise ValueError(
            f"{owner}(num_bins={num_bins}): {bins} bins with those for the noise, {num_sources} neurons and "
            f"{num_labels} target values make {bins**num_sources * num_labels:.1e} cells, more than fit into "
            f"{_memory.MEMORY_BUDGET >> 20} MiB; use fewer bins, fewer neurons (sources='random:10x4'), or set "
            "LIGHTNING_FORESIGHT_MEMORY_MIB."
        )
    edges = low + width * torch.arange(1 - outside, num_bins + outside, dtype=x.dtype, device=x.device)
    below = torch.special.ndtr((edges - x[..., None]) / noise_std)  # (n, k, bins - 1)
    mass = torch.nn.functional.pad(below, (0, 1), value=1).diff(dim=2, prepend=torch.zeros_like(below[..., :1]))
    cells = torch.stack([_spread(mass[labels == label]) for label in range(num_labels)], 1) / len(x)
    kept = _likeliest(cells.flatten(), keep)
    codes = torch.stack(torch.unravel_index(kept, (bins,) * num_sources + (num_labels,)), 1)
    codes[:, -1] = torch.unique(target)[codes[:, -1]]
    weights = cells.flatten()[kept]
    return JointRows(codes, weights / weights.sum())


def _spread(mass: Tensor) -> Tensor:
    """Sum over samples of the outer product of the probabilities of their neurons, ``(bins ** k,)``."""
    num_samples, num_sources, bins = mass.shape
    half = num_sources // 2
    sides = bins**half, bins ** (num_sources - half)
    total = mass.new_zeros(sides)
    for part in _memory.chunks(num_samples, 16 * sum(sides)):
        left, right = _outer(mass[part, :half]), _outer(mass[part, half:])
        total.addmm_(left.T, right)
    return total.flatten()


def _outer(mass: Tensor) -> Tensor:
    product = mass.new_ones(len(mass), 1)
    for one in mass.unbind(1):
        product = (product[:, :, None] * one[:, None, :]).flatten(1)
    return product


def _likeliest(cells: Tensor, keep: float) -> Tensor:
    """Numbers of the fewest cells that hold this probability, in order."""
    if keep == 1:
        return cells.nonzero()[:, 0]
    probability, order = cells.sort(descending=True)
    count = int((probability.cumsum(0) < keep).sum()) + 1
    return order[:count].sort().values


def _range_of(x: Tensor) -> tuple[float, float]:
    low, high = float(x.min()), float(x.max())
    return low, high if high > low else low + 1
