import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_foresight.functional import suggest_batch_size

positive = st.floats(0.1, 1e6)


@pytest.mark.parametrize(
    ("interval", "batch", "action"),
    [
        ((700, 1200), 64, "raise"),
        ((700, math.inf), 64, "raise"),
        ((10, 20), 64, "lower"),
        ((10, 200), 64, "keep"),
        ((10, math.inf), 64, "measure longer"),
        ((-math.inf, math.inf), 64, "measure longer"),
        ((-50, -10), 64, "measure longer"),
    ],
)
def test_advice_is_given_only_where_the_whole_interval_lies_on_one_side(interval, batch, action):
    assert suggest_batch_size(900.0, *interval, batch_size=batch).action == action


def test_numbers_are_those_of_the_trade_off_curve():
    # At batch 64 and noise scale 64 both costs are 2; at 128: 1.5 times the steps, 3 times the examples; at 32: 3, 1.5.
    above, below = suggest_batch_size(64, 65, 66, 64), suggest_batch_size(64, 62, 63, 64)
    assert "twice the batch would need 25% fewer steps and 50% more examples" in above.reason
    assert "half the batch would need 50% more steps and 25% fewer examples" in below.reason


@given(positive, positive, positive, positive)
def test_any_interval_gives_a_range_and_a_reason(b, first, second, batch):
    suggestion = suggest_batch_size(b, min(first, second), max(first, second), batch, unit="tokens")
    assert 0 <= suggestion.lower <= suggestion.upper
    assert "tokens" in suggestion.reason


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((1, 1, 2, 0), r"batch_size=0\): expected a positive number of examples"),
        ((1, 3, 2, 8), "expected at most upper=2"),
        ((math.nan, 1, 2, 8), r"b_simple=nan\): expected numbers; NaN means that nothing was measured yet"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        suggest_batch_size(*arguments)
