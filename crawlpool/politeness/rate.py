"""How many requests may be started in a second, over all hosts together."""

from __future__ import annotations

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
