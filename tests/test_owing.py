"""How much may be settled and not committed: the bound of those who set one, for as long as any of them does."""

from __future__ import annotations

import math

from crawlpool.owing import Owing


def test_the_bound_holds_until_the_last_who_set_one_is_gone() -> None:
    """Several crawls on one frontier: one that ends doesn't lift the bound of the others; the least counts."""
    owing = Owing()
    assert owing.room(100, 0) == 100
    owing.bind(8)
    owing.bind(6)
    owing.bind(math.inf)
    assert owing.room(100, 2) == 4
    owing.bind(math.inf)
    assert owing.room(100, 0) == 100
    owing.bind(math.inf)  # by one that never set any
    owing.bind(5)
    assert owing.room(100, 0) == 5


def test_how_often_nothing_could_be_begun_is_counted() -> None:
    """Where there is room for fewer than were wanted nothing had to wait; without any, what was ready did."""
    owing = Owing()
    owing.bind(4)
    assert [owing.room(9, running) for running in (0, 3, 4, 5)] == [4, 1, 0, 0]
    assert owing.held_back == 2
