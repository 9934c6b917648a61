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
