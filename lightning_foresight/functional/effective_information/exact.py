"""Exact effective information of affine layers with monotone activations: which pair goes which way."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_foresight.functional._memory import chunk_length
from lightning_foresight.functional.effective_information.affine import Affine
from lightning_foresight.functional.effective_information.characteristic import plan_series
from lightning_foresight.functional.effective_information.exact_series import series_mutual_information
from lightning_foresight.functional.effective_information.exact_spline import spline_mutual_information

MAX_TERMS = 2048
# Up to here the closed form is cheaper than the series, and loses no digits worth mentioning.
CLOSED_FORM_TERMS = 3
MAX_CLOSED_FORM_TERMS = 6


def exact_parts(layer: Affine, edges: Tensor, in_range: tuple[float, float], in_bins: int) -> Tensor:
    """Return I(x_a; y_b) in bits of every pair ``(inputs, outputs)``, in the precision of the layer's tensors."""
    weight = layer.weight
    in_width = in_range[1] - in_range[0]
    mean = layer.bias + weight.sum(1) * (in_range[0] + in_range[1]) / 2
    widths = weight.abs() * in_width
    plan = plan_series(widths, in_bins, MAX_TERMS)
    # Beyond half a period lies no mass, so edges out there, infinite ones too, may be moved onto its end.
    half = (plan.period / 2).unsqueeze(1)
    centred = torch.minimum(torch.maximum(edges.to(weight) - mean.unsqueeze(1), -half), half)

    connected = widths > 0
    others = connected.sum(1, keepdim=True) - 1
    closed = connected & ((others < CLOSED_FORM_TERMS) | ((plan.terms == 0) & (others < MAX_CLOSED_FORM_TERMS)))
    bits = torch.zeros_like(weight)
    _fill_by_series(bits, weight, centred, plan.period, plan.terms, connected & ~closed, in_width, in_bins)
    _fill_in_closed_form(bits, weight, widths, centred, closed, in_width, in_bins)
    return torch.where(connected, bits, torch.zeros_like(bits)).T.contiguous()


def _fill_by_series(
    bits: Tensor,
    weight: Tensor,
    edges: Tensor,
    period: Tensor,
    terms: Tensor,
    chosen: Tensor,
    in_width: float,
    in_bins: int,
) -> None:
    """Fill in whole units by Fourier series, units of similar length together."""
    terms = torch.where(terms == 0, MAX_TERMS, terms)
    longest = torch.where(chosen, terms, torch.zeros_like(terms)).amax(1)
    # The lengths of arrays depend on the weights: this is the one wait for the device.
    lengths, order = longest.cpu().sort()
    sizes = lengths.tolist()
    at = next((i for i, size in enumerate(sizes) if size > 0), len(sizes))
    while at < len(sizes):
        per_unit = 4 * weight.element_size() * weight.shape[1] * sizes[at]
        step = chunk_length(len(sizes) - at, per_unit, 2**20)
        units = order[at : at + step].to(weight.device)
        length = sizes[min(at + step, len(sizes)) - 1]
        bits[units] = series_mutual_information(weight[units], edges[units], period[units], length, in_width, in_bins)
        at += step


def _fill_in_closed_form(
    bits: Tensor, weight: Tensor, widths: Tensor, edges: Tensor, chosen: Tensor, in_width: float, in_bins: int
) -> None:
    """Fill in pairs with few uniforms in closed form, pairs with as many uniforms together."""
    unit, own = chosen.nonzero(as_tuple=True)
    if not len(unit):
        return
    remaining = widths[unit]
    remaining[torch.arange(len(unit), device=unit.device), own] /= in_bins
    remaining = remaining.sort(-1, descending=True).values
    count = (remaining > 0).sum(-1)
    for size in range(1, MAX_CLOSED_FORM_TERMS + 1):
        rows = (count == size).nonzero().squeeze(1)
        if len(rows):
            units, owns = unit[rows], own[rows]
            bits[units, owns] = spline_mutual_information(
                weight[units, owns], remaining[rows, :size], edges[units], in_width, in_bins
            )
