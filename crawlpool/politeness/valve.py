"""What holds for all hosts together: how many requests start in a second, and an outage of our own network."""

from __future__ import annotations

import math

from crawlpool.politeness.outage import Outage

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

    Not thread-safe: its owner's lock guards it.
    """

    __slots__ = ("_rate", "outage")

    def __init__(self, rate: Rate | None = None) -> None:
        self._rate = rate
        self.outage = Outage()

    @property
    def is_timed(self) -> bool:
        """Whether there is anything that may have to be waited for."""
        return self._rate is not None or self.outage.is_on

    @property
    def opens_at(self) -> float:
        """When the next one may start; any time up to now means at once."""
        at = -math.inf if self._rate is None else self._rate.next_at
        return max(at, self.outage.probe_at) if self.outage.is_on else at

    def room(self, wanted: int, now: float) -> int:
        """Return how many of so many may start now."""
        if self.outage.is_on:  # one alone, to see whether it is over
            wanted = min(wanted, int(now >= self.outage.probe_at))
        return wanted if self._rate is None else min(wanted, self._rate.room(now))

    def spend(self, count: int, now: float) -> None:
        """Count what has started."""
        if self._rate is not None:
            self._rate.spend(count, now)
        if count and self.outage.is_on:
            self.outage.probe(now)
