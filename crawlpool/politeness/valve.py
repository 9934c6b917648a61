"""What holds for all hosts together: how many requests start in a second, outages of our own network, and proxies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from crawlpool.politeness.outage import Outage

if TYPE_CHECKING:
    from crawlpool.politeness.exits import Exit, Exits

_BURST_S = 0.05  # what wasn't used for so long may be made up for: to wake a thread for each single one costs too much


class Rate:
    """A bound on starts, evenly spread. Times are of one monotonic clock.

    In any span of ``t`` seconds at most ``per_s * (t + 0.05) + 1`` are started.

    Args:
        per_s: requests a second; positive.

    Not thread-safe: its owner's lock guards it.
    """

    __slots__ = ("_next", "_spacing_s")

    def __init__(self, per_s: float) -> None:
        self._spacing_s = 1.0 / per_s
        self._next = -float("inf")

    @property
    def next_at(self) -> float:
        """When the next one may start."""
        return self._next

    def room(self, now: float) -> int:
        """Return how many may start now."""
        if now < self._next:
            return 0
        return 1 + int(min(now - self._next, _BURST_S) / self._spacing_s)

    def spend(self, count: int, now: float) -> None:
        """Count what has started."""
        if count:
            self._next = max(self._next, now - _BURST_S) + count * self._spacing_s


class Valve:
    """How many requests may start, whichever their hosts. Times are of one monotonic clock.

    Args:
        rate: how many may start in a second; ``None`` for any number.
        exits: the proxies by which they go, where there are several.

    Not thread-safe: its owner's lock guards it.
    """

    __slots__ = ("_rate", "exits", "outage")

    def __init__(self, rate: Rate | None = None, exits: Exits | None = None) -> None:
        self._rate = rate
        self.exits = exits
        self.outage = Outage()

    @property
    def is_timed(self) -> bool:
        """Whether there is anything that may have to be waited for."""
        return self._rate is not None or self.outage.is_on or (self.exits is not None and self.exits.is_shut)

    @property
    def opens_at(self) -> float:
        """When the next one may start; any time up to now means at once, infinity that one must end first."""
        at = -math.inf if self._rate is None else self._rate.next_at
        if self.exits is not None and self.exits.is_shut:
            at = max(at, self.exits.opens_at)
        return max(at, self.outage.probe_at) if self.outage.is_on else at

    def room(self, wanted: int, now: float) -> int:
        """Return how many of so many may start now."""
        if self.outage.is_on:  # one alone, to see whether it is over
            wanted = min(wanted, int(now >= self.outage.probe_at))
        if self.exits is not None and self.exits.is_shut:  # one for each proxy that may be tried
            wanted = min(wanted, self.exits.room(now))
        return wanted if self._rate is None else min(wanted, self._rate.room(now))

    def spend(self, count: int, now: float) -> None:
        """Count what has started."""
        if self._rate is not None:
            self._rate.spend(count, now)
        if count and self.outage.is_on:
            self.outage.probe(now)

    def excuses(self, excuses: int, by: Exit | None) -> bool:
        """Tell whether a request that couldn't reach its host is to be tried again without being counted.

        Args:
            excuses: how often it was already.
            by: the proxy by which it went, if it is one of several.
        """
        if self.outage.excuses(excuses):
            return True
        return by is not None and self.exits is not None and self.exits.excuses(by, excuses)
