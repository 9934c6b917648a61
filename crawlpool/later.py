"""Legs that have a time of their own before which they may not run: a retry's back-off. No lock; time is given."""

from __future__ import annotations

import heapq
import itertools
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crawlpool.leg import Leg


class Later:
    """Legs that wait for their times, ``leg.not_before``.

    Not thread-safe: the lock of the schedule's owner guards it.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Leg]] = []  # those that wait no more are dropped as they come up
        self._order = itertools.count()

    def __iter__(self) -> Iterator[Leg]:
        """Go through those that wait, in no order."""
        return (leg for _, _, leg in self._heap if leg.is_waiting)

    @property
    def due_at(self) -> float:
        """When the first may run; infinity when there is none."""
        return self._heap[0][0] if self._heap else math.inf

    def put(self, leg: Leg) -> None:
        """Have a leg wait for its time."""
        heapq.heappush(self._heap, (leg.not_before, next(self._order), leg))

    def pop_due(self, now: float) -> Leg | None:
        """Take out a leg whose time has come; ``None`` when there is none."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            leg = heapq.heappop(heap)[2]
            if leg.is_waiting:
                return leg
        return None

    def take_out(self, is_wanted: Callable[[Leg], bool]) -> list[Leg]:
        """Take out those that are wanted, whatever their time. Looks at all.

        Args:
            is_wanted: asked for each that waits.
        """
        legs = [leg for leg in self if is_wanted(leg)]
        if legs:
            gone = set(map(id, legs))
            self._heap = [entry for entry in self._heap if id(entry[2]) not in gone]
            heapq.heapify(self._heap)
        return legs

    def clear(self) -> None:
        """Forget all."""
        self._heap.clear()
