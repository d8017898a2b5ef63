"""Variational estimates of mutual information: a critic is trained, and its bound read on samples it has not seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_foresight.functional._checks import check_base, check_int, check_same_length, fail
from lightning_foresight.functional._random import own_generator
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.mutual_information._arguments import as_labels, as_rows
from lightning_foresight.functional.mutual_information._constant import zero_of_constants
from lightning_foresight.functional.mutual_information.critic import Critic, train_critic
from lightning_foresight.functional.mutual_information.gaussian import normal_scores

# Gives a critic for the widths of x and y and a device.
CriticSource = Callable[[int, int, torch.device], Critic]


def _others(scores: Tensor) -> Tensor:
    """Scores of the pairs that do not belong together, ``(n, n - 1)``."""
    n = scores.shape[0]
    return scores.flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)


def _log_mean_exp(values: Tensor) -> Tensor:
    return values.flatten().logsumexp(0) - math.log(values.numel())


def infonce(scores: Tensor) -> Tensor:
    """InfoNCE (van den Oord et al. 2018): at most log n."""
    return (scores.diagonal() - scores.logsumexp(1)).mean() + math.log(scores.shape[0])


def donsker_varadhan(scores: Tensor) -> Tensor:
    """Donsker & Varadhan's bound, that of MINE (Belghazi et al. 2018)."""
    return scores.diagonal().mean() - _log_mean_exp(_others(scores))


def nwj(scores: Tensor) -> Tensor:
    """Nguyen, Wainwright & Jordan's bound (2010)."""
    return scores.diagonal().mean() - (_log_mean_exp(_others(scores)) - 1).exp()


def jensen_shannon(scores: Tensor) -> Tensor:
    """The objective whose best score is the log density ratio (Hjelm et al. 2019): trains steadily, is no bound."""
    return -F.softplus(-scores.diagonal()).mean() - F.softplus(_others(scores)).mean()


def clipped_donsker_varadhan(scores: Tensor, clip: float) -> Tensor:
    """SMILE (Song & Ermon 2020): Donsker & Varadhan's with scores of other pairs clipped, for less variance."""
    return scores.diagonal().mean() - _log_mean_exp(_others(scores).clamp(-clip, clip))


class Objective(NamedTuple):
    """What is raised in training, what is read, and whether that is a lower bound."""

    train: Callable[[Tensor], Tensor]
    read: Callable[..., Tensor]
    kind: str


OBJECTIVES = {
    "infonce": Objective(infonce, infonce, "lower_bound"),
    "mine": Objective(donsker_varadhan, donsker_varadhan, "lower_bound"),
    "nwj": Objective(nwj, nwj, "lower_bound"),
    # The best score of Jensen-Shannon is the log ratio; NWJ's is that plus 1 (Poole et al. 2019).
    "js": Objective(jensen_shannon, lambda scores: nwj(scores + 1), "lower_bound"),
    "smile": Objective(jensen_shannon, clipped_donsker_varadhan, "estimate"),
}


def check_neural(
    hidden: int = 128,
    max_steps: int = 500,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
    patience: int = 8,
    clip: float = 5.0,
    critic: Critic | CriticSource | None = None,
    seed: int = 0,
) -> None:
    """Check the options of the variational estimators without data."""
    for name, value, minimum in (
        ("hidden", hidden, 1),
        ("max_steps", max_steps, 1),
        ("batch_size", batch_size, 2),
        ("patience", patience, 1),
        ("seed", seed, 0),
    ):
        check_int("neural", name, value, minimum)
    for label, number in (("learning_rate", learning_rate), ("clip", clip)):
        if not 0 < number < math.inf:
            fail("neural", label, number, "expected a positive number.")
    if critic is not None and not callable(critic):
        fail("neural", "critic", critic, "expected a Critic to go on from, what gives one, or None for a new one.")


@zero_of_constants("infonce")
def neural_pair(
    x: Tensor,
    y: Tensor,
    *,
    objective: str = "infonce",
    base: float = 2,
    hidden: int = 128,
    max_steps: int = 500,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
    patience: int = 8,
    clip: float = 5.0,
    critic: Critic | CriticSource | None = None,
    seed: int = 0,
) -> Estimate:
    r"""Mutual information from a trained critic, read on a fifth of the samples that it has not seen.

    .. math::
        \text{InfoNCE} = \Big\langle f(x_i, y_i) - \log \tfrac1n \sum_j e^{f(x_i, y_j)} \Big\rangle, \qquad
        \text{MINE} = \langle f(x_i, y_i) \rangle - \log \langle e^{f(x_i, y_j)} \rangle_{i \ne j}

    Columns are replaced by normal scores (integers by classes), which leaves the information as it is. Training stops
    early on a tenth of the samples. InfoNCE, MINE, NWJ and JS are lower bounds of I(X;Y) up to their ``std_error``;
    SMILE clips scores, has less variance, and is no bound. InfoNCE is at most the log of the held-out samples.

    Args:
        x: Samples, shape ``(n, ...)``.
        y: Samples, shape ``(n, ...)``.
        objective: ``"infonce"``, ``"mine"``, ``"nwj"``, ``"js"`` or ``"smile"``.
        base: Base of the logarithm; 2 gives bits.
        hidden: Units of the two hidden layers of a new critic.
        max_steps: Steps of Adam at most.
        batch_size: Samples in a step.
        learning_rate: Its step size.
        patience: Looks at the validation samples (every 25 steps) without an improvement before stopping.
        clip: Largest size of a score of SMILE.
        critic: A critic to go on from, trained in place; or a function of the widths of x and y and the device that
            gives one.
        seed: Seed of the split, the batches and the first weights.

    Returns:
        The estimate, a scalar in float64. ``std_error`` is the delta method's over held-out samples. Of SMILE it is NaN
        where a score was clipped from above: the value is then no bound, and its error not known.

    Raises:
        ValueError: If samples are not finite, differ in number or are fewer than 40, or an option is out of range.

    Sources: van den Oord et al. 2018 (arXiv 1807.03748); Belghazi et al. 2018 (arXiv 1801.04062); Poole et al. 2019
    (arXiv 1905.06922); Song & Ermon 2020 (arXiv 1910.06222); Hjelm et al. 2019 (arXiv 1808.06670).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import mutual_information
        >>> x = torch.randn(600, generator=torch.Generator().manual_seed(0))
        >>> estimate = mutual_information(x, x.abs(), estimator="infonce", max_steps=100)
        >>> bool(estimate.value > 1), estimate.kind
        (True, 'lower_bound')
    """
    check_base(objective, base)
    check_neural(hidden, max_steps, batch_size, learning_rate, patience, clip, critic, seed)
    x_rows, y_rows = _features(objective, "x", x), _features(objective, "y", y)
    check_same_length(objective, "x", x_rows, "y", y_rows)
    n = x_rows.shape[0]
    if n < 40:
        raise ValueError(f"{objective}(x): got {n} samples; expected at least 40, to train on and to hold out.")
    generator = own_generator(x_rows.device, seed)
    order = torch.randperm(n, generator=generator, device=x_rows.device)
    held_out, validation, training = order.tensor_split([n // 5, n // 5 + n // 10])
    chosen = OBJECTIVES[objective]
    # Works under no_grad and inference_mode too: tensors made here can be trained on.
    with torch.inference_mode(False), torch.enable_grad():
        x_rows, y_rows = x_rows.clone(), y_rows.clone()
        held_out, validation, training = held_out.clone(), validation.clone(), training.clone()
        widths = x_rows.shape[1], y_rows.shape[1]
        if critic is None:
            critic = Critic(*widths, hidden, generator=generator, device=x_rows.device)
        elif not isinstance(critic, Critic):
            critic = critic(*widths, x_rows.device)
        if critic.widths != widths:
            raise ValueError(
                f"{objective}(critic): it was made for widths {critic.widths}, samples have {widths}; make a new one."
            )
        train_critic(
            critic,
            chosen.train,
            (x_rows[training], y_rows[training]),
            (x_rows[validation], y_rows[validation]),
            max_steps=max_steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            patience=patience,
            generator=generator,
        )
        with torch.no_grad():
            scores = critic(x_rows[held_out], y_rows[held_out]).double()
    read = partial(chosen.read, clip=clip) if objective == "smile" else chosen.read
    value = read(scores)
    if objective == "infonce":
        error = (scores.diagonal() - scores.logsumexp(1)).std() / math.sqrt(len(held_out))
    else:
        error = _spread(scores, clip if objective == "smile" else math.inf)
    nats, kind = math.log(base), chosen.kind
    if objective == "smile":
        # Clipping low scores lowers the value; it stays a lower bound unless a high score was clipped.
        is_bound = bool(_others(scores).amax() <= clip)
        kind, error = ("lower_bound", error) if is_bound else (kind, torch.full_like(error, math.nan))
    return make_estimate(
        value / nats,
        std_error=error / nats,
        num_samples=n,
        saturation=(value / math.log(len(held_out))).clamp(0, 1) if objective == "infonce" else 0.0,
        kind=kind,
        method=f"{objective} (critic on {len(training)} samples, read on {len(held_out)})",
    )


def _features(owner: str, argument: str, samples: Tensor) -> Tensor:
    rows = as_rows(owner, argument, samples)
    if not rows.is_floating_point() and rows.shape[1] == 1:
        numbers, _ = as_labels(owner, argument, rows.flatten(), rows.shape[0])
        return F.one_hot(torch.unique(numbers, return_inverse=True)[1]).float()
    return normal_scores(rows).float()


def _spread(scores: Tensor, clip: float) -> Tensor:
    """Standard error over samples: each moves its own score, and by its row and column the mean of the others."""
    n = scores.shape[0]
    weights = _others(scores).clamp(-clip, clip)
    shares = (weights - _log_mean_exp(weights)).exp()
    columns = (_others(scores.T).clamp(-clip, clip) - _log_mean_exp(weights)).exp()
    moves = scores.diagonal() - shares.mean(1) - columns.mean(1)
    return moves.std() / math.sqrt(n)
