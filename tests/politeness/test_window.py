"""How many at once a host bears: a little more with each answer, half with each failure, never less than one."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from crawlpool.limits import HostLimits
from crawlpool.politeness import ANSWERED, BROKEN, Came, Host
from crawlpool.politeness.window import Window

LIMITS = HostLimits(concurrency=8, adaptive=True)


def test_one_more_with_each_round() -> None:
    """From one at a time; a window of so many is one larger when all of them have answered."""
    window = Window()
    sizes = []
    for _ in range(5):
        sizes.append(window.size)
        for _ in range(window.size):
            window.went_well(8)
    assert sizes == [1, 2, 2, 3, 4]


def test_half_once_for_all_that_were_under_way() -> None:
    """Eight that fail together are one piece of news; the ninth failure is another."""
    window = Window()
    for _ in range(200):
        window.went_well(8)
    assert window.size == 8
    for left in range(7, -1, -1):
        window.went_wrong(left)
    assert window.size == 4
    window.went_wrong(0)
    assert window.size == 2


@given(st.lists(st.sampled_from([ANSWERED, BROKEN, Came.refused(0.0)]), max_size=100))
def test_it_stays_within_its_bounds(answers: list[Came]) -> None:
    """Never less than one request, never more than the limits say, whatever the host answers."""
    host = Host("h")
    for number, came in enumerate(answers):
        now = 1000.0 * number
        started = 0
        while host.may_start_at(LIMITS) <= now:
            host.start()
            started += 1
            assert started <= 8
        assert started >= 1
        assert host.may_start_at(LIMITS) == math.inf
        for _ in range(started):
            host.end(came, LIMITS, now + 1.0)
