"""What a noise scale says about the batch size."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from lightning_foresight.functional._checks import a_number, fail, takes

Action = Literal["raise", "lower", "keep", "measure longer"]


class BatchSizeSuggestion(NamedTuple):
    """A range of batch sizes and the reason for it.

    Attributes:
        lower: Below it, noise dominates: larger batches save nearly as many steps as they hold more examples.
        upper: Above it, examples are wasted; infinite when the measurement cannot exclude any size.
        action: What to do with the batch size in use.
        reason: Why, in a sentence or two.
    """

    lower: float
    upper: float
    action: Action
    reason: str


@takes(b_simple=a_number, lower=a_number, upper=a_number, batch_size=a_number)
def suggest_batch_size(
    b_simple: float, lower: float, upper: float, batch_size: float, *, unit: str = "examples"
) -> BatchSizeSuggestion:
    r"""Suggest whether to raise or lower the batch size, from the noise scale and its interval.

    A batch of :math:`B` takes :math:`1 + \mathcal B / B` times the fewest steps possible, and
    :math:`1 + B / \mathcal B` times the fewest examples; at :math:`B = \mathcal B` both are 2. Only where the whole
    interval lies on one side of the batch in use is there an advice. The noise scale usually grows during training, and
    :math:`\mathcal B_\text{simple}` leaves the curvature out: take it as an order of magnitude.

    Args:
        b_simple: The noise scale.
        lower: Lower end of its interval.
        upper: Upper end, infinite if unbounded.
        batch_size: The batch in use, all micro-batches and devices together.
        unit: What is counted, for the text.

    Returns:
        :class:`BatchSizeSuggestion`.

    Raises:
        ValueError: If ``batch_size`` is not positive, a number is NaN, or the ends are not in order.

    References:
        McCandlish et al. (2018), An empirical model of large-batch training, arXiv 1812.06162, section 2.3.

    Example:
        >>> from lightning_foresight.functional import suggest_batch_size
        >>> suggestion = suggest_batch_size(900.0, 700.0, 1200.0, batch_size=64)
        >>> suggestion.action
        'raise'
        >>> print(suggestion.reason)
        The noise scale is 700 to 1200 examples, the batch 64: twice the batch would need 47% fewer steps and 7% more
        examples.
    """
    if not batch_size > 0:
        fail("suggest_batch_size", "batch_size", batch_size, f"expected a positive number of {unit}.")
    if any(math.isnan(number) for number in (b_simple, lower, upper)):
        fail("suggest_batch_size", "b_simple", b_simple, "expected numbers; NaN means that nothing was measured yet.")
    if not lower <= upper:
        fail("suggest_batch_size", "lower", lower, f"expected at most upper={upper!r}.")
    low = max(0.0, lower)
    action: Action = "keep"
    if upper <= 0 or (math.isinf(upper) and low <= batch_size):
        action = "measure longer"
        reason = (
            f"Noise hides the gradient: the data allow any noise scale above {_rounded(low)} {unit}. Measure longer "
            "or more often (every_n_steps=1, or a larger budget=), or raise decay."
        )
        return BatchSizeSuggestion(low, math.inf, action, reason)
    # Where there is no upper end, what is sure is said at the lower one.
    scale = max(low if math.isinf(upper) else b_simple, 1e-300)  # an estimate may be 0, or below
    steps_saved = 1 - (1 + scale / (2 * batch_size)) / (1 + scale / batch_size)
    more_examples = (1 + 2 * batch_size / scale) / (1 + batch_size / scale) - 1
    half_steps = (1 + 2 * scale / batch_size) / (1 + scale / batch_size) - 1
    examples_saved = 1 - (1 + batch_size / (2 * scale)) / (1 + batch_size / scale)
    known = f"at least {_rounded(low)}" if math.isinf(upper) else f"{_rounded(low)} to {_rounded(upper)}"
    reason = f"The noise scale is {known} {unit}, the batch {_rounded(batch_size)}: "
    if low > batch_size:
        action = "raise"
        reason += f"twice the batch would need {steps_saved:.0%} fewer steps and {more_examples:.0%} more {unit}."
    elif upper < batch_size:
        action = "lower"
        reason += f"half the batch would need {half_steps:.0%} more steps and {examples_saved:.0%} fewer {unit}."
    else:
        reason += "neither a larger nor a smaller batch is clearly better."
    return BatchSizeSuggestion(low, upper, action, reason)


def _rounded(number: float) -> str:
    """Return two significant digits, or a whole number, without an exponent."""
    return f"{number:.2g}" if number < 10 else f"{number:.0f}"
