"""Slow, obvious twins of effective information by perturbation: rational arithmetic, and plain Monte-Carlo."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np


def mutual_information(joint) -> float:
    """Bits of a joint histogram (rows x columns) of non-negative masses, normalised first."""
    joint = np.asarray(joint, dtype=float)
    if joint.sum() == 0:
        return 0.0
    joint = joint / joint.sum()
    rows, columns = joint.sum(1), joint.sum(0)
    return sum(
        joint[j, k] * math.log2(joint[j, k] / (rows[j] * columns[k]))
        for j in range(joint.shape[0])
        for k in range(joint.shape[1])
        if joint[j, k] > 0
    )


def uniform_sum_cdf(z: Fraction, widths: list[Fraction]) -> Fraction:
    """P(sum of centred uniforms <= z) by the truncated-power formula, without rounding."""
    count = len(widths)
    total = Fraction(0)
    for signs in itertools.product((-1, 1), repeat=count):
        point = z + sum(s * v for s, v in zip(signs, widths, strict=True)) / 2
        if point > 0:
            total += math.prod(signs) * point**count
    return total / (math.factorial(count) * math.prod(widths))


def rational_parts(weight, bias, edges, in_range, in_bins, bins=None) -> np.ndarray:
    """EI_parts of a dense layer: every probability is an exact fraction. Edges are pre-activations; few inputs only.

    Where intervals between edges share a bin, ``bins`` has a one-hot row for each.
    """
    outputs, inputs = len(weight), len(weight[0])
    low, high = (Fraction(float(end)) for end in in_range)
    result = np.zeros((inputs, outputs))
    for b in range(outputs):
        w = [Fraction(float(value)) for value in weight[b]]
        for a in range(inputs):
            if w[a] == 0:
                continue
            widths = [abs(w[i]) * (high - low) for i in range(inputs) if i != a and w[i] != 0]
            widths.append(abs(w[a]) * (high - low) / in_bins)
            others = sum(w[i] * (low + high) / 2 for i in range(inputs) if i != a) + Fraction(float(bias[b]))
            joint = []
            for j in range(in_bins):
                centre = low + (high - low) * (2 * j + 1) / (2 * in_bins)
                cdf = []
                for edge in edges:
                    if math.isinf(edge):
                        cdf.append(Fraction(int(edge > 0)))
                    else:
                        cdf.append(uniform_sum_cdf(Fraction(float(edge)) - others - w[a] * centre, widths))
                joint.append([float(after - before) for before, after in itertools.pairwise(cdf)])
            result[a, b] = mutual_information(joint if bins is None else np.array(joint) @ bins)
    return result


def overlap_sensitivity(weight, bias, edges, in_range, in_bins, bins=None) -> np.ndarray:
    """Sensitivity of a dense layer from the overlap of every input bin with every preimage of an output bin."""
    outputs, inputs = len(weight), len(weight[0])
    steps = np.linspace(*in_range, in_bins + 1)
    result = np.zeros((inputs, outputs))
    for b in range(outputs):
        for a in range(inputs):
            if weight[b][a] == 0:
                continue
            cuts = [(edge - bias[b]) / weight[b][a] for edge in edges]
            joint = [
                [max(0.0, min(x1, max(ends)) - max(x0, min(ends))) for ends in itertools.pairwise(cuts)]
                for x0, x1 in itertools.pairwise(steps)
            ]
            result[a, b] = mutual_information(joint if bins is None else np.array(joint) @ bins)
    return result


def monte_carlo_parts(forward, inputs, in_range, out_range, in_bins, out_bins, samples, seed=0):
    """EI_parts from samples with the Miller-Madow correction, one pair after the other."""
    x = np.random.default_rng(seed).uniform(*in_range, (samples, inputs))
    y = forward(x)
    result = np.zeros((inputs, y.shape[1]))
    for a in range(inputs):
        for b in range(y.shape[1]):
            counts, _, _ = np.histogram2d(x[:, a], y[:, b], (in_bins, out_bins), (in_range, out_range))
            cells, rows, columns = (np.count_nonzero(c) for c in (counts, counts.sum(1), counts.sum(0)))
            bias = (cells - rows - columns + 1) / (2 * counts.sum() * math.log(2))
            result[a, b] = mutual_information(counts) - bias
    return result


def rational_vector(weight, bias, edges, in_range, in_bins) -> float:
    """Vector EI of a layer with one output: every cell of the inputs in turn, every probability an exact fraction.

    Edges are the inner pre-activation edges: the outermost bins are open.
    """
    low, high = (Fraction(float(end)) for end in in_range)
    w = [Fraction(float(value)) for value in weight]
    step = (high - low) / in_bins
    joint = []
    for cell in itertools.product(range(in_bins), repeat=len(w)):
        mean = Fraction(float(bias)) + sum(wi * (low + step * (2 * j + 1) / 2) for wi, j in zip(w, cell, strict=True))
        widths = [abs(wi) * step for wi in w if wi]
        cdf = [Fraction(0), *(uniform_sum_cdf(Fraction(float(edge)) - mean, widths) for edge in edges), Fraction(1)]
        joint.append([float(after - before) for before, after in itertools.pairwise(cdf)])
    return mutual_information(joint)
