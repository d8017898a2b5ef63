"""A measure of one's own, too, reads on two processes what it reads on one."""

from __future__ import annotations

import pytest

from lightning_foresight.functional import distance_correlation
from tests.metrics.dependence_two_processes import measures, samples, values

pytestmark = pytest.mark.xdist_group("two ranks")


@pytest.fixture(scope="module")
def ranks(two_ranks):
    return two_ranks("tests.metrics.dependence_two_processes")


@pytest.mark.parametrize("name", measures().keys())
def test_two_processes_read_what_one_reads(ranks, name):
    alone = measures()
    alone.update(*samples())
    expected = values(alone)[name]
    # The rows come in another order: sums of float32 differ in the last digits.
    assert ranks[0][name] == pytest.approx(expected, rel=1e-4)
    assert ranks[0][name] == ranks[1][name]


def test_distance_correlation_in_ten_lines_is_that_of_the_package():
    metrics = measures()
    metrics.update(*samples())
    assert values(metrics)["own"] == pytest.approx(float(distance_correlation(*samples()).value), rel=1e-4)
