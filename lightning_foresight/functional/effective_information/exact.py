"""Exact EI_parts of affine layers: which pair goes which way."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_foresight.functional._memory import MEMORY_BUDGET, chunk_length
from lightning_foresight.functional.effective_information.affine import Affine, connected_inputs
from lightning_foresight.functional.effective_information.characteristic import (
    TAIL_MASS,
    SeriesPlan,
    half_width,
    plan_series,
    take,
    terms_of_sum,
)
from lightning_foresight.functional.effective_information.exact_series import series_mutual_information
from lightning_foresight.functional.effective_information.exact_spline import spline_mutual_information
from lightning_foresight.functional.effective_information.preimages import Preimages
from lightning_foresight.functional.effective_information.uniform_sums import UniformSum

MAX_TERMS = 2048
# Units of one chunk share the length of the longest series among them; a CPU gains nothing by many of them.
CPU_UNITS_BYTES = 2**20
# Up to here the closed form is cheaper than the series.
CLOSED_FORM_TERMS = 3
MAX_CLOSED_FORM_TERMS = 6
# Terms for what remains beside the widest uniforms; more of those are taken out while it needs more.
MAX_NARROW_TERMS = 256


def exact_parts(
    layer: Affine, outputs: Preimages, in_range: tuple[float, float], in_bins: int, chosen: Tensor | None = None
) -> Tensor:
    """Return I(x_a; y_b) in bits of pairs, in the precision of the layer's tensors.

    Args:
        layer: The dense map.
        outputs: What leads into each output bin.
        in_range: Range of the inputs.
        in_bins: Bins of the inputs.
        chosen: Inputs whose pairs are wanted, for each output ``(outputs, chosen)``; all of them when ``None``.

    Returns:
        Bits ``(outputs, chosen)``.
    """
    if chosen is not None:
        return _parts(layer, outputs, in_range, in_bins, chosen)
    weight = layer.weight
    bits, number = torch.zeros_like(weight), (weight != 0).sum(1)
    # Outputs that read about as many inputs share the length of their rows.
    length = weight.shape[1]
    while length:
        rows = ((number <= length) & (2 * number > length)).nonzero().squeeze(1)
        if len(rows):
            columns = connected_inputs(weight[rows])
            few = Affine(weight[rows].gather(1, columns), layer.bias[rows])
            bits[rows.unsqueeze(1), columns] = _parts_once(few, outputs, in_range, in_bins)
        length //= 2
    return bits


def _parts_once(layer: Affine, outputs: Preimages, in_range: tuple[float, float], in_bins: int) -> Tensor:
    """Work out equal outputs once: windows of pooling, channels of a map that leaves them alone."""
    whole = torch.cat([layer.weight, layer.bias.unsqueeze(1)], 1)
    # Other devices cannot tell equal rows.
    where = whole if whole.device.type in ("cpu", "cuda") else whole.cpu()
    different, place = torch.unique(where, dim=0, return_inverse=True)
    different = different.to(whole.device)
    every = torch.arange(layer.weight.shape[1], device=whole.device).expand(len(different), -1)
    bits = _parts(Affine(different[:, :-1], different[:, -1]), outputs, in_range, in_bins, every)
    return bits[place.to(whole.device)]


def _parts(layer: Affine, outputs: Preimages, in_range: tuple[float, float], in_bins: int, chosen: Tensor) -> Tensor:
    edges, bins = outputs.edges, None if outputs.bins is None else outputs.bins.to(layer.weight)
    weight = layer.weight
    in_width = in_range[1] - in_range[0]
    mean = layer.bias + weight.sum(1) * (in_range[0] + in_range[1]) / 2
    widths = weight.abs() * in_width
    plan = plan_series(widths, chosen, in_bins, MAX_TERMS)
    # Beyond half a period lies no mass, so edges out there, infinite ones too, may be moved onto its end.
    half = (plan.period / 2).unsqueeze(1)
    centred = torch.minimum(torch.maximum(edges.to(weight) - mean.unsqueeze(1), -half), half)

    few = (widths > 0).sum(1, keepdim=True) <= CLOSED_FORM_TERMS
    connected = take(widths, chosen) > 0
    by_series = connected & ~few & (plan.terms > 0)
    bits = weight.new_zeros(chosen.shape)
    _fill_by_series(bits, weight, chosen, centred, plan, by_series, bins, in_width, in_bins)
    _fill_in_closed_form(bits, weight, widths, chosen, centred, connected & ~by_series, bins, in_width, in_bins)
    return torch.where(connected, bits, torch.zeros_like(bits))


def _fill_by_series(
    bits: Tensor,
    weight: Tensor,
    chosen: Tensor,
    edges: Tensor,
    plan: SeriesPlan,
    wanted: Tensor,
    bins: Tensor | None,
    in_width: float,
    in_bins: int,
) -> None:
    """Fill in whole units by Fourier series, units of similar length together."""
    longest = torch.where(wanted, plan.terms, torch.zeros_like(plan.terms)).amax(1)
    # The sizes of arrays depend on the weights: here the host has to wait for the device.
    lengths, order = longest.cpu().sort()
    sizes = lengths.tolist()
    at = next((i for i, size in enumerate(sizes) if size > 0), len(sizes))
    while at < len(sizes):
        per_unit = 4 * weight.element_size() * weight.shape[1] * sizes[at]
        budget = CPU_UNITS_BYTES if weight.device.type == "cpu" else MEMORY_BUDGET // 8
        step = chunk_length(len(sizes) - at, per_unit, budget)
        units = order[at : at + step].to(weight.device)
        length = sizes[min(at + step, len(sizes)) - 1]
        series = weight[units], chosen[units], edges[units], plan.period[units], length
        bits[units] = series_mutual_information(*series, in_width, in_bins, bins)
        at += step


def _fill_in_closed_form(
    bits: Tensor,
    weight: Tensor,
    widths: Tensor,
    chosen: Tensor,
    edges: Tensor,
    wanted: Tensor,
    bins: Tensor | None,
    in_width: float,
    in_bins: int,
) -> None:
    """Fill in pairs of which few uniforms dominate, pairs with as many of them together."""
    unit, place = wanted.nonzero(as_tuple=True)
    own = chosen[unit, place]
    remaining = widths[unit]
    remaining[torch.arange(len(unit), device=unit.device), own] /= in_bins
    remaining = remaining.sort(-1, descending=True).values
    # Leaving out uniforms of total width t moves a distribution function by t / 2 at most, and it rises by 1 / widest.
    tails = remaining.flip(-1).cumsum(-1).flip(-1)
    remaining = torch.where(tails > TAIL_MASS * remaining[:, :1], remaining, torch.zeros_like(remaining))
    for wide in range(1, MAX_CLOSED_FORM_TERMS + 1):
        if not len(unit):
            return
        narrow = remaining[:, wide:]
        last = wide == MAX_CLOSED_FORM_TERMS
        empty = ~(narrow > 0).any(1)
        half = torch.where(empty, torch.ones_like(remaining[:, 0]), half_width(narrow))
        terms = terms_of_sum(narrow, half, MAX_TERMS if last else MAX_NARROW_TERMS)
        terms = torch.where(empty, torch.zeros_like(terms), torch.where((terms == 0) & last, MAX_TERMS, terms))
        ready = empty | (terms > 0)
        for rows, length in ((empty, 0), (ready & ~empty, int(terms.max()))):
            at = rows.nonzero().squeeze(1)
            if len(at):
                noise = UniformSum(remaining[at, :wide], narrow[at] if length else narrow[at, :0], length)
                bits[unit[at], place[at]] = spline_mutual_information(
                    weight[unit[at], own[at]], noise, edges[unit[at]], in_width, in_bins, bins
                )
        unit, place, own, remaining = unit[~ready], place[~ready], own[~ready], remaining[~ready]
