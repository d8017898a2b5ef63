"""From the bits of (input, output) pairs to the total of a layer, and from layers to the network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_foresight.functional.estimate import Estimate, make_estimate


def layer_total(pair_bits: Tensor, share: float = 1.0) -> Estimate:
    r"""Sum the bits of all pairs of a layer, of which a random share of the outputs was measured.

    With the column sums :math:`c_b` of m outputs out of M, drawn without replacement,

    .. math:: \widehat{total} = M \bar c, \qquad se = M \sqrt{\frac{1 - m/M}{m}} \, s_c

    Args:
        pair_bits: Bits of pairs, shape (inputs, measured outputs).
        share: m/M; 1 for the exact sum.

    Returns:
        The total, with ``num_samples`` the number of measured outputs unless the sum is exact.

    Source: Cochran, Sampling Techniques (1977), section 2.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional.effective_information.totals import layer_total
        >>> layer_total(torch.ones(3, 4)).value
        tensor(12.)
        >>> layer_total(torch.ones(3, 4), share=0.5).value
        tensor(24.)
    """
    columns = pair_bits.sum(0)
    if share >= 1:
        return make_estimate(columns.sum(), kind="exact")
    measured = columns.numel()
    spread = columns.std() if measured > 1 else torch.full_like(columns[0], float("nan"))
    std_error = measured / share * spread * ((1 - share) / measured) ** 0.5
    return make_estimate(columns.sum() / share, std_error=std_error, num_samples=measured)


def network_total(layers: Sequence[Estimate]) -> Estimate:
    r"""Sum a measure over the layers of a network, as Marrow, Michaud & Hoel (2020) do for its causal plane.

    Layers are perturbed apart, so that errors add up in squares. Where one layer has only a bound, so has the sum.

    Args:
        layers: The estimates of the layers, scalars.

    Returns:
        The sum; exact if all of them are.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional.effective_information.totals import layer_total, network_total
        >>> network_total([layer_total(torch.ones(3, 4)), layer_total(torch.ones(4, 2))]).value
        tensor(20.)
    """
    value = torch.stack([layer.value for layer in layers]).sum()
    kinds = {layer.kind for layer in layers}
    if kinds == {"exact"}:
        return make_estimate(value, kind="exact")
    samples = torch.stack([layer.num_samples for layer in layers]).sum()
    if kinds <= {"exact", "estimate"}:
        error = torch.stack([layer.std_error for layer in layers]).square().sum().sqrt()
        return make_estimate(value, std_error=error, num_samples=samples)
    ends = [layer.interval() for layer in layers]
    lower, upper = (torch.stack([end[at] for end in ends]).sum() for at in (0, 1))
    kind = "lower_bound" if kinds <= {"exact", "estimate", "lower_bound"} else "not_valid"
    return make_estimate(value, std_error=float("nan"), num_samples=samples, lower=lower, upper=upper, kind=kind)
