"""
EI of one connection, and of two: exact lines over sampled points
=================================================================

**Claimed.** Marrow, Michaud & Hoel 2020 (arXiv 2010.13871) and their package deep-ei draw the effective information of
the smallest networks, from 30,000 samples a point: A -> B, whose EI rises with the weight, peaks and falls again as the
unit saturates, and A, B -> C, whose EI_parts is a cross: large only where one of the two weights is near 0.

**Seen.** Both shapes are right. For one connection samples lie within 0.03 bits of the exact value. For two they add
0.07 bits on average under a sigmoid, 0.16 under tanh and 0.43 under ReLU (0.18, 0.22 and 1.73 at most): a histogram of
64 x 64 cells looks informative where it is only sparse. Affine layers need no samples: the lines are exact.
"""

from __future__ import annotations

import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor, nn

from lightning_foresight.functional import ei_parts, entropy, sensitivity

ACTIVATIONS = {"sigmoid": (nn.Sigmoid(), (0, 1)), "tanh": (nn.Tanh(), (-1, 1)), "ReLU": (nn.ReLU(), (0, 1))}
NUM_SAMPLES = 30_000


def layer(weights: Tensor) -> nn.Linear:
    """Give every row of weights an output of its own: pairs ignore other outputs, so that one call measures all."""
    linear = nn.Linear(weights.shape[1], weights.shape[0], bias=False)
    linear.weight.data = weights
    return linear


# %%
# The way of the samples: noise in, histogram out, and the mutual information of the histogram as it is.


def plain_histogram(linear: nn.Linear, activation: nn.Module, ends: tuple[int, int], bins: int = 64) -> Tensor:
    low, high = ends
    noise = torch.rand(NUM_SAMPLES, linear.in_features, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = activation(linear(noise * (high - low) + low))
    y_bin = ((y - low) / (high - low) * bins).long().clamp(max=bins - 1)
    y_bin[(y < low) | (y > high)] = bins  # dropped, as by numpy.histogram
    bits = []
    for x_bin in (noise * bins).long().T:
        cells = (torch.arange(linear.out_features) * bins + x_bin[:, None]) * (bins + 1) + y_bin
        joint = torch.bincount(cells.flatten(), minlength=linear.out_features * bins * (bins + 1))
        joint = joint.view(-1, bins, bins + 1)[..., :bins].double()
        joint /= joint.sum((1, 2), keepdim=True)
        bits.append(entropy(joint.sum(1)) + entropy(joint.sum(2)) - entropy(joint.flatten(1)))
    return torch.stack(bits)


# %%
# A -> B
# ------
# Exact lines, sampled points. More bins give more bits, and the peak lies between weights of 1 and 3, where the
# output fills its range without saturating. The teeth are real: at some weights bins of the output meet bins of the
# input edge to edge, at others they do not. With ReLU, outputs are cut off at 1: above a weight of 8, all that is left
# comes from one of 8 input bins, and 8 bins say nothing any more.

weights = torch.arange(271) / 10  # divided, so that whole weights, where teeth are, are met exactly
few = torch.arange(0, 27, 2.0)
worst = 0.0
curves = Figure(figsize=(9.6, 3.5), layout="constrained", dpi=140)
shades = colormaps["viridis"]([0.0, 0.3, 0.6, 0.85])
for axes, (name, (activation, ends)) in zip(curves.subplots(1, 3), ACTIVATIONS.items(), strict=True):
    for index, bins in enumerate((8, 16, 32, 64)):
        question = {"in_range": ends, "out_range": ends, "in_bins": bins, "out_bins": bins}
        exact = ei_parts(layer(weights[:, None]), activation, **question)[0]
        axes.plot(weights, exact, color=shades[index], linewidth=1.2, label=f"{bins} bins")
        points = layer(few[:, None])
        sampled_bits = plain_histogram(points, activation, ends, bins)[0]
        worst = max(worst, float((sampled_bits - ei_parts(points, activation, **question)[0]).abs().max()))
        axes.plot(few, sampled_bits, ".", color=shades[index])
        print(f"{name:<8}{bins:>3} bins: largest EI {exact.max():.3f} bits, at weight {weights[exact.argmax()]:.1f}")
    axes.plot([], [], ".", color="grey", label="30,000 samples")
    axes.set(title=f"A -> B, {name}", xlabel="weight", ylabel="EI in bits")
    axes.legend(fontsize="small")

print(f"largest error of a sampled point: {worst:.3f} bits")

# %%
# A, B -> C
# ---------
# EI_parts over both weights, what 30,000 samples add to it, and degeneracy: what the two inputs could say one at a time
# (sensitivity) and cannot say together. On the axes one weight is 0 and there is nothing to overlap with.

axis = torch.linspace(-10, 10, 17)
grid = layer(torch.cartesian_prod(axis, axis))
surfaces = Figure(figsize=(9.6, 8), layout="constrained", dpi=140)
sampled = {}
for row, (name, (activation, ends)) in zip(surfaces.subplots(3, 3), ACTIVATIONS.items(), strict=True):
    exact = ei_parts(grid, activation, in_range=ends, out_range=ends).sum(0)
    sampled[name] = plain_histogram(grid, activation, ends).sum(0)
    bias = sampled[name] - exact
    degeneracy = sensitivity(grid, activation, in_range=ends, out_range=ends).sum(0) - exact
    print(f"{name:<8}{NUM_SAMPLES:,} samples add {bias.mean():.2f} bits on average and {bias.max():.2f} at most")
    maps = {"EI_parts, exact": exact, "sampled minus exact": bias, "degeneracy": degeneracy}
    for axes, (title, values) in zip(row, maps.items(), strict=True):
        image = axes.imshow(values.view(17, 17).T, origin="lower", extent=(-10.6, 10.6, -10.6, 10.6))
        surfaces.colorbar(image, ax=axes, label="bits")
        axes.set_title(f"{name}: {title}", fontsize="medium")
        axes.set(xlabel="weight of A", ylabel="weight of B")

# %%
# A cut through the surfaces
# --------------------------
# Crosses are the plain histogram. Circles are ``method="sampled"`` with as many samples: the package's own histograms
# are corrected, and needed for layers that are not affine. They lie on the line, but for ReLU with two positive
# weights: there outputs above 1 are dropped, and only 2 to 16 % of the samples are left to count.

fine = torch.linspace(-10, 10, 201)
cut = Figure(figsize=(9.6, 3.5), layout="constrained", dpi=140)
for axes, (name, (activation, ends)) in zip(cut.subplots(1, 3), ACTIVATIONS.items(), strict=True):
    question = {"in_range": ends, "out_range": ends}
    line, points = (layer(torch.stack([at, torch.full_like(at, 2.5)], 1)) for at in (fine, axis))
    corrected = ei_parts(points, activation, method="sampled", num_samples=NUM_SAMPLES, **question).sum(0)
    axes.plot(fine, ei_parts(line, activation, **question).sum(0), color="black", linewidth=1, label="exact")
    axes.plot(axis, sampled[name].view(17, 17)[:, 10], "x", color="#D55E00", label="plain histogram")
    axes.plot(axis, corrected, "o", color="#0072B2", fillstyle="none", label='method="sampled"')
    axes.set(title=f"{name}, weight of B = 2.5", xlabel="weight of A", ylabel="EI_parts in bits")
cut.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small", frameon=False)
