"""Which leg may go next, and what the end of one means for the others. No lock, no thread; time is given.

Legs that may run wait in **lines**, one for each host and group, which have their **turns**. Legs with a time of their
own (a retry's back-off) wait aside until then.
"""

from __future__ import annotations

import collections
import heapq
import itertools
import math
from typing import TYPE_CHECKING

from crawlpool.detour import give_exit, leave_exit
from crawlpool.later import Later
from crawlpool.lines import PLACES, Line, drop_gone
from crawlpool.politeness import ANSWERED, Exits, Hosts, How, Rate, Valve
from crawlpool.settle import waited_out
from crawlpool.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from crawlpool.detour import Rider
    from crawlpool.leg import Group, Leg, Run
    from crawlpool.politeness import Address, Host
    from crawlpool.robots import Fetched, Gate


_PATIENCE_GRAIN_S = 0.05


class Schedule:
    """All legs that wait, and the order in which they may go.

    Args:
        running_at_most: legs that may be taken and not ended at once; infinity for any number.
        rate: how many may start in a second; ``None`` for any number.
        exits: the proxies by which legs go, where there are several.

    Not thread-safe: its owner's lock guards it.
    """

    def __init__(self, running_at_most: float = math.inf, rate: Rate | None = None, exits: Exits | None = None) -> None:
        self.hosts = Hosts()
        self.news: list[tuple[str, str]] = []  # what somebody should hear of: the event, and the host
        self.running = 0  # legs taken and not ended
        self._most = running_at_most
        self._valve = Valve(rate, exits)
        self.exits = exits
        self._turns = Turns()
        self._lines, self._ring = self._turns.lines, self._turns.ring
        self._later = Later()
        # Legs that have waited as long as they may: nothing holds them back any more. When to look for such.
        self._leaving: collections.deque[Leg] = collections.deque()
        self._look_at_patience = math.inf
        self._door = Line()
        self._order = itertools.count()
        self._now = -math.inf  # the last time that was given

    def __iter__(self) -> Iterator[Leg]:
        """Go through all legs that wait."""
        yield from self._leaving
        yield from self._later
        for line in self._lines.values():
            for _, _, leg in line.queue:
                if leg.is_waiting:
                    yield leg

    @property
    def may_start_more(self) -> bool:
        """Whether fewer run than may."""
        return self.running < self._most

    @property
    def is_out_of_turns(self) -> bool:
        """Whether no host could be asked now, however many legs may run: only further legs would help."""
        return not self._ring

    @property
    def has_ready(self) -> bool:
        """Whether something can probably be taken now."""
        if self.running >= self._most or not (self._ring or self._leaving):
            return False
        return bool(self._leaving) or self._valve.opens_at <= self._now

    @property
    def has_timed(self) -> bool:
        """Whether something becomes ready by the clock alone."""
        if min(self._later.due_at, self._turns.due_at, self._look_at_patience) != math.inf:
            return True
        return self._valve.is_timed and bool(self._ring)

    @property
    def breadth(self) -> int:
        """How many takers could probably be served at once."""
        return self._turns.breadth + len(self._leaving)

    def has_turns(self, wanted: float) -> bool:
        """Tell whether none may run, or so many beside those that may and don't could probably be taken now."""
        if not self.may_start_more:
            return True
        return self._turns.has(wanted + (self._most - self.running if self._most != math.inf else 0))

    def has_place(self, leg: Leg) -> bool:
        """Tell whether a leg may wait here; where not, more of its host are to lie in the backlog of its group."""
        line = self._lines.get((leg.run.group, leg.host))
        if line is None or leg.verdict is not None:
            return True
        return len(line.queue) < line.places and leg.host not in leg.run.group.backed

    def back(self, group: Group, host: str) -> None:
        """Note that more of a host lies in a group's backlog."""
        group.backed.add(host)
        if (line := self._lines.get((group, host))) is None or line.is_low:
            group.hungry[host] = PLACES if line is None else line.places - len(line.queue)

    def put(self, leg: Leg, now: float) -> None:
        """Have a leg wait."""
        leg.queued_at = now
        if leg.verdict is not None:  # nothing is to be waited for
            self._leaving.append(leg)
            return
        leg.is_waiting = True
        if leg.run.options.max_wait_s is not None:
            self._look_at_patience = min(self._look_at_patience, leg.patience_ends_at)
        if leg.not_before > now:
            self._later.put(leg)
        else:
            self._make_ready(leg, now)

    def promote(self, now: float) -> float | None:
        """Make ready what has become due; return when the next will; ``None`` when none does by the clock alone."""
        self._now = now
        if now >= self._look_at_patience:
            self._end_patience(now)
        while (leg := self._later.pop_due(now)) is not None:
            self._make_ready(leg, now)
        self._turns.promote(now)
        due_at = self.due_at()
        return None if due_at == math.inf else due_at

    def due_at(self) -> float:
        """Return when something may become ready by the clock alone; infinity when nothing does."""
        due_at = min(self._later.due_at, self._look_at_patience, self._turns.due_at)
        if self._ring and self._now < self._valve.opens_at < due_at:
            due_at = self._valve.opens_at
        return due_at

    def take(self, n: int, now: float, is_wanted: Callable[[Leg], bool] | None = None) -> list[Leg]:
        """Return up to ``n`` legs that may start now; ``ended`` must be called for each.

        Args:
            n: how many at most.
            now: the time; ``promote`` was called with it.
            is_wanted: asked for each; a line whose first leg isn't wanted is passed over.
        """
        legs: list[Leg] = []
        turns, ring, valve = self._turns, self._ring, self._valve
        n = int(min(n, self._most - self.running))
        while self._leaving and len(legs) < n and is_wanted is None:
            leg = self._leaving.popleft()
            leg.seat = self._door
            self._door.running += 1
            legs.append(leg)
        leaving, passed_over = len(legs), 0
        if valve.is_timed:
            n = leaving + valve.room(n - leaving, now)
        while len(legs) < n and len(ring) > passed_over:
            line = turns.pop()
            queue, host = line.queue, line.host
            drop_gone(queue)
            if (
                not queue
                or (host is not None and line.may_start_at(now) > now)
                or (line.address is not None and not line.has_room(now))
            ):
                turns.had_turn(line, now)
                continue
            first = line.cleared(queue[0][2], now)
            if is_wanted is not None and not is_wanted(first):
                turns.pass_over(line)
                passed_over += 1
                continue
            if first is not queue[0][2]:
                self._push_in(first, line, now)
            # One leg of each line in turn, unless there is no other line; where robots.txt counts each is asked for.
            most = 1 if ring or line.clearance is not None else n - len(legs)
            while most > 0:
                legs.append(self._pop(line, now))
                most -= 1
                if (
                    not queue
                    or not most
                    or (host is not None and line.may_start_at(now) > now)
                    or (line.address is not None and not line.has_room(now))
                    or (is_wanted is not None and not is_wanted(queue[0][2]))
                ):
                    break
            turns.had_turn(line, now)
        self.running += len(legs)
        if valve.is_timed:
            valve.spend(len(legs) - leaving, now)
        return legs

    def refused(self, leg: Leg, now: float) -> None:
        """Take a host's refusal, before ``ended`` is told what came of the leg."""
        line: Line = leg.seat
        if line.host is not None and line.limits is not None and not leg.is_told:
            leg.known_at = now
            line.host.refuse(leg.came, line.limits, now)

    def excuses(self, leg: Leg, now: float) -> bool:
        """Take it that a leg couldn't reach its host; tell whether that may be no fault of the host's.

        Then the leg is to be tried again without being counted, and ``ended`` is told that it was never sent.
        """
        host = leg.seat.host
        if self._valve.outage.failed(host.name, now, is_known=host.has_answered):
            self.hosts.forgive()
            self._turns.look_at_all(now)
            self.news.append(("outage", ""))
        if leg.exit is None:
            host.tried(now)
        return self._valve.excuses(leg.excuses, leg.exit)

    def ended(self, legs: Iterable[Leg], now: float) -> None:
        """Take what came of legs: ``leg.came`` is told to their hosts."""
        touched: dict[Line, None] = {}
        freed: dict[Address, None] = {}
        is_calm = self._valve.outage.is_calm
        for leg in legs:
            line: Line = leg.seat
            line.running -= 1
            self.running -= 1
            if leg.exit is not None:
                self.left_exit(leg, now)
            host = line.host
            if host is not None:
                is_plain = is_calm and leg.came is ANSWERED and host.has_answered and not leg.run.group.blocks.last
                if is_plain and line.limits is not None:  # nearly always; nothing else learns from it
                    host.end(ANSWERED, line.limits, now)
                else:
                    self._ended(leg, line, host, now)
                if leg.address is not None:
                    leg.address.end(leg.came, now)
                    freed[leg.address] = None
                elif line.shared is not None and host.is_lost and leg.came.how is not How.UNSENT:
                    self.hosts.seek(host, leg)
                if len(host.lines) > 1:
                    touched.update(dict.fromkeys(host.lines))
            touched[line] = None
        for line in touched:
            self._turns.look_at(line, now)
        for address in freed:
            self._turns.let_in(address, now)

    def _ended(self, leg: Leg, line: Line, host: Host, now: float) -> None:
        news = line.end(leg, now)
        if news is not None:
            self.news.append((news, host.name))
        if leg.came.has_reached and self._valve.outage.reached(host.name):
            self.news.append(("outage over", ""))

    def left_exit(self, rider: Rider, now: float) -> None:
        """Take what a request that has ended says of the proxy by which it went."""
        assert self.exits is not None
        for host in leave_exit(rider, self.exits, self.hosts, self.news, now):
            self.look_at(host, now)

    def learn(self, gate: Gate, origin: str, host: str, fetched: Fetched, now: float) -> None:
        """Take what came of asking for an origin's robots.txt; the legs that waited for it may go on.

        Args:
            gate: whose legs they are.
            origin: the origin.
            host: its host, whose delay a ``Crawl-delay`` lengthens.
            fetched: what came of it.
            now: the time.
        """
        gate.learn(origin, fetched, now)
        found = self.hosts.find(host)
        if found is not None:
            if fetched.rules is not None:
                found.crawl_delay_s = max(found.crawl_delay_s, fetched.rules.crawl_delay_s)
            self.look_at(found, now)

    def locate(self, name: str, found: Iterable[str] | None, now: float) -> None:
        """Take the addresses of a host that was sought; the legs that waited for it may go on.

        Args:
            name: the host's.
            found: its addresses; none where its name can't be resolved, ``None`` where it isn't for us to resolve it.
            now: the time.
        """
        host = self.hosts.locate(name, found)
        if host is not None:
            for line in host.lines:
                line.address = host.address_for(line.shared)
            self.look_at(host, now)

    def look_at(self, host: Host, now: float) -> None:
        """Take it that a host's state has changed, or its address's: lines go where that asks them to be."""
        self._turns.look_at_host(host, now)
        if host.address is not None:
            self._turns.let_in(host.address, now)

    def renew(self, group: Group, host: str, now: float) -> None:
        """Take it that what a group is told of a host has changed: a line in its place takes what waits."""
        key = (group, host)
        told = group.told.get(host)
        if told is not None and told.ends is not None:  # what backs off needn't wait for its end
            for leg in self._later.take_out(lambda leg: leg.host == host and leg.run.group is group):
                self._make_ready(leg, now)
        old = self._lines.get(key)
        if old is None:
            return
        line = self._line_of(key, old.queue[0][2] if old.queue else None, now)
        if line.host is not None or old.host is not None:  # else nothing limits it, now as before
            self._turns.replace(old, line, now)

    def resting(self) -> Iterator[tuple[Group, str, float]]:
        """Go through the hosts that may be asked at a known time and not before, each with its group and that time."""
        return self._turns.resting()

    def take_back(self, run: Run, now: float) -> list[Leg]:
        """Return every leg of a run that waits; they wait no more."""
        left = [leg for leg in self._leaving if leg.run is run]
        if left:
            self._leaving = collections.deque(leg for leg in self._leaving if leg.run is not run)
        legs = self._later.take_out(lambda leg: leg.run is run)
        for line in list(self._lines.values()):
            mine = [entry for entry in line.queue if entry[2].run is run]
            if mine:
                line.queue = [entry for entry in line.queue if entry[2].run is not run]
                heapq.heapify(line.queue)
                legs.extend(leg for _, _, leg in sorted(mine, key=lambda entry: entry[:2]) if leg.is_waiting)
                self._turns.look_at(line, now)
        for leg in legs:
            leg.leave(now)
        return left + legs

    def clear(self) -> list[Leg]:
        """Return every leg that waits; they wait no more."""
        left = list(self)
        self._leaving.clear()
        self._later.clear()
        self._turns.clear()
        self.hosts.sought.clear()
        return left

    def _push_in(self, leg: Leg, line: Line, now: float) -> None:
        """Put the leg for robots.txt at the head of a line, before the one that needs it."""
        assert line.clearance is not None
        line.clearance.gate.begin(leg.origin)
        leg.queued_at, leg.seat, leg.is_counted, leg.is_waiting = now, line, False, True
        heapq.heappush(line.queue, (-leg.target.priority, next(self._order), leg))

    def _pop(self, line: Line, now: float) -> Leg:
        """Take the first leg out of a line, and tell the host of it."""
        leg = heapq.heappop(line.queue)[2]
        drop_gone(line.queue)
        line.note_low()
        leg.leave(now)
        line.took(leg, now)
        if self.exits is not None and leg.verdict is None:
            give_exit(leg, self.exits, now)
        return leg

    def _end_patience(self, now: float) -> None:
        """Take the legs out that have waited as long as they may. Looks at all: at most each twentieth of a second."""
        first = math.inf
        for leg in list(self):
            if leg.verdict is not None:
                continue
            ends_at = leg.patience_ends_at
            if ends_at > now:
                first = min(first, ends_at)
            else:
                leg.leave(now)
                leg.verdict = waited_out(leg)
                self._leaving.append(leg)
        self._look_at_patience = max(first, now + _PATIENCE_GRAIN_S)

    def _line_of(self, key: tuple[Group, str], first: Leg | None, now: float) -> Line:
        line = Line.of(key, self.hosts, now, self._most)
        if line.shared is not None and line.host is not None and first is not None:
            self.hosts.seek(line.host, first)
        return line

    def _make_ready(self, leg: Leg, now: float) -> None:
        key = (leg.run.group, leg.host)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = self._line_of(key, leg, now)
        leg.seat = line
        heapq.heappush(line.queue, (-leg.target.priority, next(self._order), leg))
        if not line.is_in_ring and line.rests_until <= now:
            self._turns.look_at(line, now)
