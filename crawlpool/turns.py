"""Whose turn it is: each line in the ring, or at rest until its time, or waiting for an end. No lock; time is given.

A line is in the **ring** when its host may be asked, and has its turn there; it **rests** until a time when the host's
delay or cooldown says so; else only the end of a leg that runs can let it go on. Where hosts share the limits of an
address, a line that could go as far as its host is concerned is **parked** there, behind the others, and the address
lets in as many as it has room for. No step looks at all lines, nor at all of an address.
"""

from __future__ import annotations

import collections
import heapq
import itertools
import math
from typing import TYPE_CHECKING

from crawlpool.lines import Line, drop_gone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crawlpool.leg import Group
    from crawlpool.politeness import Address, Host


class Turns:
    """The lines of a schedule, each where its state asks it to be.

    Not thread-safe: the lock of the schedule's owner guards it.
    """

    def __init__(self) -> None:
        self.lines: dict[tuple[Group, str], Line] = {}
        self.ring: collections.deque[Line] = collections.deque()  # each once; it may have become unready meanwhile
        # A heap by the time before which a line's host may not be asked, or an address where lines are parked. What has
        # had its time changed stands there twice; only the entry with its `rests_until` counts.
        self._resting: list[tuple[float, int, Line | Address]] = []
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
            at, _, one = resting[0]
            if one.rests_until == at and at > now:
                break
            heapq.heappop(resting)
            if one.rests_until == at:
                one.rests_until = -math.inf
                if isinstance(one, Line):
                    self.look_at(one, now)
                else:
                    self.let_in(one, now)

    def pop(self) -> Line:
        """Take the line out of the ring whose turn it is; ``had_turn`` or ``pass_over`` is to follow."""
        line = self.ring.popleft()
        line.is_in_ring = False
        if line.let_in_by is not None:
            line.let_in_by.let_in -= 1
            line.let_in_by = None
        return line

    def had_turn(self, line: Line, now: float) -> None:
        """Put a line where its state asks it to be after its turn: to the ring's end, or elsewhere."""
        self.look_at(line, now)
        if line.address is not None and line.address.parked:
            self.let_in(line.address, now)

    def pass_over(self, line: Line) -> None:
        """Put a line to the ring's end that could have had its turn."""
        self._enter(line, line.address)

    def look_at(self, line: Line, now: float) -> None:
        """Put a line where its state asks it to be, behind the others; forget one that has nothing left."""
        drop_gone(line.queue)
        if not line.queue:
            line.note_low()
            if not line.running and not line.is_in_ring and line.key is not None:
                # It may be looked at once more for an old time or place of its own, when another has the key already.
                line.rests_until, line.is_parked = -math.inf, False
                if self.lines.get(line.key) is line:
                    del self.lines[line.key]
                if line.host is not None and line in line.host.lines:
                    line.host.lines.remove(line)
            return
        if line.is_in_ring or (line.is_parked and not line.ends_unsent(now)):
            return
        at = -math.inf if line.host is None else line.may_start_at(now)
        if at <= now:
            line.rests_until = -math.inf
            if line.address is not None and not line.ends_unsent(now):
                self._park(line, line.address, now)
            else:
                self._enter(line, None)
        else:
            self._rest(line, at, now)

    def let_in(self, address: Address, now: float) -> None:
        """Have as many of the lines that are parked at an address go into the ring as it has room for."""
        rests_until = math.inf
        for kind, parked in list(address.parked.items()):  # of one kind as a rule: few hosts have limits of their own
            while parked:
                line = parked[0]
                if line.is_parked:
                    if address.room(line.shared, now) < 1:
                        rests_until = min(rests_until, address.may_start_at(line.shared))
                        break
                    line.is_parked = False
                    self._let_in(line, address, now)
                parked.popleft()
            else:
                del address.parked[kind]
        self._rest(address, rests_until, now)

    def replace(self, old: Line, line: Line, now: float) -> None:
        """Put a line into the place of another, which keeps what of its legs runs."""
        assert line.key is not None
        self.lines[line.key] = line
        line.take_over(old)
        self.look_at(old, now)
        self.look_at(line, now)

    def resting(self) -> Iterator[tuple[Group, str, float]]:
        """Go through the lines that rest until a time: the group and the host of each, and the time."""
        for at, _, line in self._resting:
            if isinstance(line, Line) and line.rests_until == at and line.queue and line.key is not None:
                yield (*line.key, at)

    def look_at_all(self, now: float) -> None:
        """Look at all lines: what holds for their hosts has changed for each."""
        for line in list(self.lines.values()):
            self.look_at(line, now)

    def look_at_host(self, host: Host, now: float) -> None:
        """Look at all lines of a host, whose state has changed."""
        for line in list(host.lines):
            self.look_at(line, now)

    def _enter(self, line: Line, let_in_by: Address | None) -> None:
        line.is_in_ring, line.is_parked = True, False
        if let_in_by is not None:
            line.let_in_by = let_in_by
            let_in_by.let_in += 1
        self.ring.append(line)

    def _rest(self, one: Line | Address, at: float, now: float) -> None:
        if now < at < math.inf and one.rests_until != at:
            one.rests_until = at
            heapq.heappush(self._resting, (at, next(self._order), one))

    def _park(self, line: Line, address: Address, now: float) -> None:
        assert line.shared is not None
        kind = line.shared.delay_s, line.shared.concurrency
        address.parked.setdefault(kind, collections.deque()).append(line)
        line.is_parked = True
        self.let_in(address, now)

    def _let_in(self, line: Line, address: Address, now: float) -> None:
        drop_gone(line.queue)
        if line.queue and line.may_start_at(now) <= now:
            self._enter(line, address)
        else:  # its host was asked by somebody else meanwhile, or what waited is gone
            self.look_at(line, now)

    def clear(self) -> None:
        """Empty all lines; nobody has a turn any more."""
        self._resting.clear()
        self.ring.clear()
        for line in self.lines.values():
            line.clear()
