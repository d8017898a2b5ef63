"""Usable information about labels: what a small classifier reads out of a layer on samples it has not seen."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_int, fail
from lightning_foresight.functional._random import own_generator
from lightning_foresight.functional.entropy import entropy
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.mutual_information._arguments import as_labels, as_rows
from lightning_foresight.functional.mutual_information._constant import zero_of_constants
from lightning_foresight.functional.mutual_information._label_entropy import label_entropy_end

_OWNER = "probe"


def check_probe(
    hidden: int = 64, num_folds: int = 5, max_steps: int = 200, learning_rate: float = 0.03, seed: int = 0
) -> None:
    """Check the options of ``"probe"`` without data."""
    check_int(_OWNER, "hidden", hidden, 0)
    check_int(_OWNER, "num_folds", num_folds, 2)
    check_int(_OWNER, "max_steps", max_steps, 1)
    check_int(_OWNER, "seed", seed, 0)
    if not 0 < learning_rate < math.inf:
        fail(_OWNER, "learning_rate", learning_rate, "expected a positive number.")


class _Probes:
    """One classifier for each fold, all trained at once: weights have a leading axis of folds."""

    def __init__(self, folds: int, sizes: list[int], generator: torch.Generator, like: Tensor) -> None:
        self.parameters: list[Tensor] = []
        for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            weight = torch.zeros(folds, fan_in, fan_out, dtype=like.dtype, device=like.device)
            if layer < len(sizes) - 2:  # the last layer starts at 0: the first prediction is uniform
                weight.normal_(0, math.sqrt(2 / fan_in), generator=generator)
            self.parameters += [weight, weight.new_zeros(folds, 1, fan_out)]
        for parameter in self.parameters:
            parameter.requires_grad_()

    def __call__(self, rows: Tensor) -> Tensor:
        *hidden, weight, bias = self.parameters
        for inner_weight, inner_bias in zip(hidden[::2], hidden[1::2], strict=True):
            rows = torch.relu(rows @ inner_weight + inner_bias)
        return rows @ weight + bias  # (folds, n, classes)


@zero_of_constants(_OWNER)
def probe_label(
    activations: Tensor,
    labels: Tensor,
    *,
    base: float = 2,
    hidden: int = 64,
    num_folds: int = 5,
    max_steps: int = 200,
    learning_rate: float = 0.03,
    seed: int = 0,
) -> Estimate:
    r"""Usable information about labels: H(Y) less the held-out cross-entropy of a small classifier.

    .. math:: I_{\mathcal V}(T \to Y) = H(Y) - \inf_{q \in \mathcal V} \mathbb E[-\log q(Y | T)] \le I(T;Y)

    Each sample is predicted by a classifier that has not seen it (cross-validation), so shuffled labels give 0 or less,
    where binning and KDE give H(Y). All folds are trained at once; each stops where it predicts an inner tenth of its
    training samples best.

    Args:
        activations: Shape ``(n, ...)``.
        labels: Integer classes, shape ``(n,)``.
        base: Base of the logarithm; 2 gives bits.
        hidden: Units of the hidden layer (ReLU); 0 for a linear classifier.
        num_folds: Folds of the cross-validation.
        max_steps: Steps of Adam, each on all training samples.
        learning_rate: Its step size.
        seed: Seed of the folds and the first weights.

    Returns:
        The estimate, a scalar in float64 and a lower bound of I(T;Y) up to its ``std_error``
        (:math:`\operatorname{std} / \sqrt n` of the held-out terms); below 0 where the classifier does worse than the
        shares of the classes.

    Raises:
        ValueError: If activations are not finite, labels are not integers or do not match, samples are fewer than the
            folds need, or an option is out of range.

    Source: Xu et al. 2020 (arXiv 2002.10689).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import label_information
        >>> activations = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
        >>> estimate = label_information(activations, (activations[:, 0] > 0).long(), estimator="probe")
        >>> bool(0.7 < estimate.value < 1.0), estimate.kind
        (True, 'lower_bound')
    """
    check_base(_OWNER, base)
    check_probe(hidden, num_folds, max_steps, learning_rate, seed)
    rows = as_rows(_OWNER, "activations", activations).float()
    n = rows.shape[0]
    targets, num_classes = as_labels(_OWNER, "labels", labels, n)
    if n < 4 * num_folds:
        fail(_OWNER, "num_folds", num_folds, f"expected at least 4 samples in each fold, got {n} in all.")
    generator = own_generator(rows.device, seed)
    fold = torch.randperm(n, generator=generator, device=rows.device) % num_folds
    inner = torch.rand(n, generator=generator, dtype=rows.dtype, device=rows.device) < 0.1
    numbers = torch.arange(num_folds, device=rows.device).unsqueeze(1)
    held_out = fold == numbers  # (folds, n)
    validate, train = ~held_out & inner, ~held_out & ~inner

    rows = ((rows - rows.mean(0)) / rows.std(0).clamp(min=1e-6)).expand(num_folds, -1, -1)
    with torch.enable_grad(), torch.inference_mode(False):
        sizes = [rows.shape[-1], *([hidden] if hidden else []), num_classes]
        probes = _Probes(num_folds, sizes, generator, rows)
        # Tensors made in inference mode cannot be trained on; copies made here can.
        masks = train.clone(), validate.clone()
        terms = _train(probes, rows.clone(), targets.clone(), *masks, max_steps, learning_rate)
    # The reference is predicted as the labels are: from the shares of the classes in the other folds.
    counts = torch.nn.functional.one_hot(targets, num_classes).double()
    others = counts.sum(0) - torch.stack([counts[fold == f].sum(0) for f in range(num_folds)])
    shares = ((others + 0.5) / (others.sum(1, keepdim=True) + 0.5 * num_classes)).log()
    information = terms[fold, torch.arange(n, device=rows.device)].double() - shares[fold, targets]
    information = information / math.log(base)
    h_y = entropy(counts.mean(0), base=base)
    value = torch.minimum(information.mean(), h_y)
    method = f"probe ({f'{hidden} hidden units' if hidden else 'linear'}, {num_folds} folds)"
    error = information.std() / math.sqrt(n)
    estimate = make_estimate(value, std_error=error, num_samples=n, kind="lower_bound", method=method)
    low, high = estimate.interval()
    return estimate._replace(lower=low, upper=torch.minimum(high, label_entropy_end(counts.sum(0)) / math.log(base)))


def _train(
    probes: _Probes, rows: Tensor, targets: Tensor, train: Tensor, validate: Tensor, max_steps: int, rate: float
) -> Tensor:
    """Train all folds; return log probabilities of the labels, ``(folds, n)``, from each fold's best step."""
    optimizer = torch.optim.Adam(probes.parameters, lr=rate)
    best_loss = torch.full((rows.shape[0],), torch.inf, dtype=rows.dtype, device=rows.device)
    best_terms = torch.zeros(rows.shape[:2], dtype=rows.dtype, device=rows.device)
    index = targets.expand(rows.shape[0], -1).unsqueeze(2)
    for _ in range(max_steps):
        terms = torch.log_softmax(probes(rows), 2).gather(2, index).squeeze(2)
        # Every step predicts all samples anyway: the best prediction is kept, not the weights behind it.
        loss = -(terms.detach() * validate).sum(1) / validate.sum(1).clamp(min=1)
        better = loss < best_loss
        best_loss = torch.where(better, loss, best_loss)
        best_terms = torch.where(better.unsqueeze(1), terms.detach(), best_terms)
        optimizer.zero_grad()
        # The sum over folds leaves each fold the gradient of its own mean.
        (-(terms * train).sum(1) / train.sum(1)).sum().backward()
        optimizer.step()
    return best_terms
