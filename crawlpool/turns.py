"""Whose turn it is: each line in the ring, or at rest until its time, or waiting for an end. No lock; time is given.

A line is in the **ring** when its host may be asked, and has its turn there; it **rests** until a time when the host's
delay or cooldown says so; else only the end of a leg that runs can let it go on. No step looks at all lines.
"""

from __future__ import annotations

import collections
import heapq
import itertools
import math
from typing import TYPE_CHECKING

from crawlpool.lines import Line, drop_gone

if TYPE_CHECKING:
    from crawlpool.leg import Group
    from crawlpool.politeness import Host


class Turns:
    """The lines of a schedule, each where its state asks it to be.

    Not thread-safe: the lock of the schedule's owner guards it.
    """

    def __init__(self) -> None:
        self.lines: dict[tuple[Group, str], Line] = {}
        self.ring: collections.deque[Line] = collections.deque()  # each once; it may have become unready meanwhile
        # A heap of lines by the time before which their hosts may not be asked. A line whose time has changed stands
        # there twice; only the entry with its `rests_until` counts.
        self._resting: list[tuple[float, int, Line]] = []
        self._order = itertools.count()

    @property
    def due_at(self) -> float:
        """When the first that rests may go on; infinity when none does by the clock alone."""
        return self._resting[0][0] if self._resting else math.inf

    @property
    def breadth(self) -> int:
        """How many takers those in the ring could probably serve at once."""
        return self.ring[0].turns if len(self.ring) == 1 else len(self.ring)

    def has(self, wanted: float) -> bool:
        """Tell whether so many legs could probably be taken now."""
        # A few are looked at: each that is there has one turn at least.
        more = (line.turns - 1 for line in itertools.islice(self.ring, 16))
        return len(self.ring) >= wanted or len(self.ring) + sum(more) >= wanted

    def promote(self, now: float) -> None:
        """Look at those whose rest is over."""
        resting = self._resting
        while resting:
            at, _, line = resting[0]
            if line.rests_until == at and at > now:
                break
            heapq.heappop(resting)
            if line.rests_until == at:
                line.rests_until = -math.inf
                self.look_at(line, now)

    def pop(self) -> Line:
        """Take the line out of the ring whose turn it is; ``look_at`` is to follow."""
        line = self.ring.popleft()
        line.is_in_ring = False
        return line

    def pass_over(self, line: Line) -> None:
        """Put a line to the ring's end that could have had its turn."""
        line.is_in_ring = True
        self.ring.append(line)

    def look_at(self, line: Line, now: float) -> None:
        """Put a line where its state asks it to be, behind the others; forget one that has nothing left."""
        drop_gone(line.queue)
        if not line.queue:
            line.note_low()
            if not line.running and not line.is_in_ring and line.key is not None:
                self.lines.pop(line.key, None)
                if line.host is not None and line in line.host.lines:
                    line.host.lines.remove(line)
            return
        if line.is_in_ring:
            return
        at = -math.inf if line.host is None else line.may_start_at(now)
        if at <= now:
            line.is_in_ring = True
            line.rests_until = -math.inf
            self.ring.append(line)
        elif at != math.inf and line.rests_until != at:
            line.rests_until = at
            heapq.heappush(self._resting, (at, next(self._order), line))

    def look_at_host(self, host: Host, now: float) -> None:
        """Look at all lines of a host, whose state has changed."""
        for line in list(host.lines):
            self.look_at(line, now)

    def clear(self) -> None:
        """Empty all lines; nobody has a turn any more."""
        self._resting.clear()
        self.ring.clear()
        for line in self.lines.values():
            line.clear()
