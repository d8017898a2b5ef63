"""Mutual information of a layer with declared Gaussian noise, by Monte Carlo over the exact mixture density."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_int, fail
from lightning_foresight.functional._random import own_generator
from lightning_foresight.functional._rare_labels import has_rare_labels
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.mutual_information._arguments import as_labels, as_rows, root_mean_square
from lightning_foresight.functional.mutual_information._constant import varying_columns
from lightning_foresight.functional.mutual_information._distances import row_blocks
from lightning_foresight.functional.mutual_information._label_entropy import (
    Z,
    label_entropy_end,
    standard_error,
)
from lightning_foresight.functional.mutual_information._lost_information import least_information, most_information

_OWNER = "noisy"
# Overlaps that float32 loses beside the largest one, as exponents.
_LOST = -80.0
# In standard errors: what the own terms of the mixture may add before the value is called a bound: to first order the
# interval knows it, and what is left is of second order.
LARGEST_BIAS = 1.3


def check_noisy(
    noise_std: float | None = None, relative_noise: float = 0.05, num_draws: int = 1, seed: int = 0
) -> None:
    """Check the options of ``"noisy"`` without data."""
    for name, value in (("noise_std", noise_std), ("relative_noise", relative_noise)):
        if value is not None and not (isinstance(value, (int, float, Tensor)) and 0 < value < math.inf):
            fail(_OWNER, name, value, "expected a positive number, the standard deviation of the noise.")
    check_int(_OWNER, "num_draws", num_draws, 1)
    check_int(_OWNER, "seed", seed, 0)


def noisy_information(
    activations: Tensor,
    labels: Tensor | None = None,
    *,
    base: float = 2,
    noise_std: float | None = None,
    relative_noise: float = 0.05,
    num_draws: int = 1,
    seed: int = 0,
) -> tuple[Estimate, Estimate]:
    r"""Both coordinates of the information plane of a layer with Gaussian noise, without binning and without bounds.

    .. math::
        I(X; T + N) = \Big\langle \log \frac{\varphi(z - t_i)}{\frac1n \sum_j \varphi(z - t_j)} \Big\rangle, \qquad
        I(T + N; Y) = \Big\langle \log \frac{\frac{1}{n_y} \sum_{j: y_j = y_i} \varphi(z - t_j)}
        {\frac1n \sum_j \varphi(z - t_j)} \Big\rangle, \qquad z = t_i + N

    For X uniform on the given samples the density is this mixture, so the only error is that of the draws. When the
    samples stand for a larger set, I(X;T+N) is at most :math:`\log n` and too low; leaving out the sample's own term of
    the mixture makes it too high, by as much to first order. I(T+N;Y) is too high, since classes have fewer samples
    than all, and too low without the own terms. ``lower`` and ``upper`` are for the population of inputs: the ends of a
    95% interval about the mean of both. Where half of what they differ by is more than 1.3 standard errors, as where
    samples hardly overlap, the ends are either value and 1.96 standard errors, and ``kind`` is a bound. That of
    I(X;T+N) may exceed :math:`\log n` by far, which limits the value of these samples only; that of I(T+N;Y) is then
    everything from 0 to H(Y).

    Args:
        activations: Shape ``(n, ...)``, one row for each of n distinct inputs.
        labels: Integer classes, shape ``(n,)``; without them the second estimate is 0.
        base: Base of the logarithm; 2 gives bits.
        noise_std: Standard deviation of the noise on every unit.
        relative_noise: The same in units of the root mean square of the layer's activations about their means, when
            ``noise_std`` is not given. Values of different layers are then at different noise.
        num_draws: Draws of the noise for each sample.
        seed: Seed of the draws.

    Returns:
        Estimates of I(X;T+N) and I(T+N;Y), scalars in float64. ``std_error`` is that of the draws and the samples'
        terms; ``saturation`` is I(X;T+N) over :math:`\log n`. The ends of I(T+N;Y) take the variance of what
        samples lose of H(Y) to grow with its mean, as Wilson's of a count, with one loss more than was seen for the
        lower one; they are kept within 0 and the upper end of H(Y)'s own. Where they are a bracket only, ``kind`` is
        ``"lower_bound"`` of I(X;T+N), ``"upper_bound"`` of I(T+N;Y). Where labels of fewer than 20 samples make a tenth
        of H(Y), I(T+N;Y) is ``"lower_bound"``.

    Raises:
        ValueError: If activations are not finite, labels are not integers or do not match, or an option is out of
            range.

    Source: Goldfeld et al. 2019 (arXiv 1810.05728).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import input_information
        >>> activations = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
        >>> round(input_information(activations, estimator="noisy", noise_std=0.01).value.item(), 6)
        1.0
    """
    check_base(_OWNER, base)
    check_noisy(noise_std, relative_noise, num_draws, seed)
    rows = as_rows(_OWNER, "activations", activations)
    rows = rows if rows.is_floating_point() else rows.float()
    n, nats = rows.shape[0], math.log(base)
    if labels is None:
        labels, num_labels = torch.zeros(n, dtype=torch.int64, device=rows.device), 1
    else:
        labels, num_labels = as_labels(_OWNER, "labels", labels, n)
        labels = labels.to(rows.device)
    rows = (rows - rows.mean(0)) * varying_columns(rows)  # the mean of equal numbers is not always that number
    std = relative_noise * root_mean_square(rows) if noise_std is None else noise_std
    if noise_std is None and not bool(std > 0):
        std = 1.0  # a constant layer: any noise gives 0
    rows = rows / std
    generator = own_generator(rows.device, seed)
    one_hot = torch.nn.functional.one_hot(labels, num_labels).to(rows.dtype)
    class_sizes = one_hot.sum(0).double()[labels]
    half_sq = 0.5 * rows.square().sum(1)
    i_xt, i_ty, xt_left_out, ty_left_out = [], [], [], []
    for _ in range(num_draws):
        noise = torch.randn(rows.shape, generator=generator, dtype=rows.dtype, device=rows.device)
        for block in row_blocks(n, rows.device, width=rows.shape[1]):
            noisy = rows[block] + noise[block]
            # log phi(z - t_j) less that of the own centre, whose term is exp(0) = 1 and comes later.
            own = (noisy * rows[block]).sum(1) - half_sq[block]
            density = (noisy @ rows.T - half_sq).sub_(own.unsqueeze(1))
            index = torch.arange(block.start, block.stop, device=rows.device).unsqueeze(1)
            nearest = density.scatter_(1, index, -math.inf).amax(1, keepdim=True)
            largest = nearest.clamp(min=0)
            density.sub_(largest).clamp_(min=_LOST).exp_()  # never denormal
            shift = largest.squeeze(1).double()
            own_term = (-shift).exp()
            # Added to the others in double precision, beside which it would hide them.
            of_class = (density.scatter_(1, index, 0.0) @ one_hot).double()
            others, sizes = of_class.sum(1), class_sizes[block]
            class_others = of_class.gather(1, labels[block].unsqueeze(1)).squeeze(1)
            total, own_class = others + own_term, class_others + own_term
            i_xt.append(math.log(n) - total.log() - shift)
            i_ty.append((own_class / sizes).log() - (total / n).log())
            # Of others that float32 loses the nearest one bounds the sum.
            lost = others < 2 * n * math.exp(_LOST)
            log_others = torch.where(lost, nearest.squeeze(1).double(), others.log() + shift)
            xt_left_out.append(math.log(n - 1) - log_others)
            # Labels keep their shares in the mixture of the others.
            other_classes = others - class_others
            class_others = (class_others / (sizes - 1).clamp(min=1)).clamp(min=math.exp(_LOST))
            ty_left_out.append(class_others.log() - ((other_classes + sizes * class_others) / n).log())

    def per_sample(parts: list[Tensor]) -> Tensor:
        return torch.cat(parts).view(num_draws, n).mean(0)

    terms_x, terms_y, low_terms, high_terms = (per_sample(each) for each in (i_xt, i_ty, ty_left_out, xt_left_out))
    saturation = (terms_x.mean() / math.log(n)).clamp(0, 1)
    method = f"noisy (noise {float(std):.3g}, {num_draws} draws)"

    def estimate(terms: Tensor, biased: bool, lower: Tensor, upper: Tensor, bound: str) -> Estimate:
        value = terms.mean()
        return make_estimate(
            value / nats,
            std_error=standard_error(terms) / nats,
            num_samples=n,
            saturation=saturation,
            lower=torch.minimum(lower, value).clamp(min=0) / nats,
            upper=torch.maximum(upper, value).clamp(min=0) / nats,
            kind=bound if biased else "estimate",
            method=method,
        )

    low, high, biased = bracket(terms_x, high_terms)
    lower, upper = low.mean() - Z * standard_error(low), high.mean() + Z * standard_error(high)
    about_input = estimate(terms_x, biased, lower, upper, "lower_bound")
    high, low, biased = bracket(terms_y, low_terms)
    surprisals, excess = (n / class_sizes).log(), (terms_y - low_terms).mean() / 2
    sizes = one_hot.double().sum(0)
    lower = least_information(low, surprisals, excess)
    upper = torch.minimum(most_information(high, surprisals, excess), label_entropy_end(sizes))
    about_labels = estimate(terms_y, biased, lower, upper, "upper_bound")
    if has_rare_labels(sizes):
        about_labels = about_labels._replace(kind="lower_bound")
    return about_input, about_labels


def bracket(terms: Tensor, left_out: Tensor) -> tuple[Tensor, Tensor, bool]:
    r"""Terms of both ends of an interval for the population of inputs, and whether they are a bracket only.

    With the samples' own terms of the mixture the value is off by :math:`\mp v / 2n` on average, without them by
    :math:`\pm v / 2n`, v being how much the mixture's terms vary at a point in units of its density: the mean of both
    is right to first order. Where half of what they differ by is more than 1.3 standard errors, both are returned.
    """
    middle = (terms + left_out) / 2
    if bool((middle - terms).mean().abs() > LARGEST_BIAS * standard_error(terms)):
        return terms, left_out, True
    return middle, middle, False
