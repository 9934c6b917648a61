"""The frontier: the bounded, host-fair queue that feeds the workers. The only scheduler there is.

Every leg waits here: first tries, retries that back off, redirects. A worker takes legs whose host is free and whose
time has come; it never sleeps for a host. Hosts with something to do stand in a ring and have turns.
"""

from __future__ import annotations

import collections
import heapq
import itertools
import math
import threading
from typing import TYPE_CHECKING

from crawlpool.clock import LOOK_S, SYSTEM_CLOCK, Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from crawlpool.leg import Group, Leg, Run


def _never() -> bool:
    return False


class _Host:
    """The legs of one group for one host that may run as soon as the host is free."""

    __slots__ = ("is_in_ring", "key", "limit", "queue", "running")

    def __init__(self, key: tuple[Group, str]) -> None:
        self.key = key
        self.limit = key[0].limit_of(key[1])
        self.queue: list[tuple[int, int, Leg]] = []  # a heap: higher priority first, then order of arrival
        self.running = 0
        self.is_in_ring = False

    def is_ready(self) -> bool:
        return bool(self.queue) and (self.limit is None or self.running < self.limit)


class _Room(threading.Condition):
    """The wait for room in one group."""

    waiting = 0


class Frontier:
    """A bounded queue of legs.

    Args:
        clock: where time comes from.
        running_at_most: legs that may be taken and not settled at once; ``None`` for any number.

    Thread-safe. ``take`` and ``put`` wait without polling.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK, running_at_most: int | None = None) -> None:
        self._clock = clock
        self._most = math.inf if running_at_most is None else running_at_most
        # Guards every field below, the hosts in _hosts, and the counters of the legs' groups. Nothing is sent, read
        # or written under it, and no user's code runs.
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)  # waited on by workers, for legs
        self._rooms: dict[Group, _Room] = {}  # waited on by feeders; those of one group aren't woken for another's room
        self._hosts: dict[tuple[Group, str], _Host] = {}
        self._ring: collections.deque[_Host] = collections.deque()  # hosts that are ready, each once
        self._later: list[tuple[float, int, Leg]] = []  # a heap by the time before which a leg may not run
        self._order = itertools.count()
        self._queued = 0
        self._running = 0  # legs taken and not settled
        self._idle = 0
        self._has_timekeeper = False
        self._is_closed = False

    def __len__(self) -> int:
        """How many legs wait."""
        return self._queued

    @property
    def idle(self) -> int:
        """How many workers wait for a leg."""
        return self._idle

    def put(self, leg: Leg, *, block: bool = True) -> bool:
        """Queue a leg, waiting while its group has as many waiting as it may.

        Args:
            leg: the leg.
            block: whether to wait for room; retries and redirects of a target that is under way are put by ``settle``
                and never wait.

        Returns:
            Whether it was queued: not when there was no room, or the frontier is closed.
        """
        group = leg.run.group
        with self._lock:
            while not (self._is_closed or group.is_stopped) and group.is_full:
                if not block:
                    return False
                self._wait_for_room(group)
            if self._is_closed or group.is_stopped:
                return False
            self._put(leg)
            if self._rooms and group in self._rooms and not group.is_full:
                self._rooms[group].notify()  # one feeder was woken for many places: the next one is for it to wake
            self._wake()
            return True

    def put_all(self, legs: Sequence[Leg]) -> bool:
        """Queue legs of one run, whose group has no capacity, in one go; return whether they were: all or none."""
        group = legs[0].run.group
        with self._lock:
            if self._is_closed or group.is_stopped:
                return False
            for leg in legs:
                self._put(leg)
            self._wake()
            return True

    def take(self, n: int = 1, has_news: Callable[[], bool] = _never) -> list[Leg] | None:
        """Return up to ``n`` legs to be started now, waiting until there is one.

        The hosts of the legs count as busy until ``settle``.

        Args:
            has_news: asked, under the lock, whether the caller has something else to do; ``call`` has it asked again.

        Returns:
            The legs; none when there is something else to do; ``None`` when the frontier is closed and all that was
            taken is settled.
        """
        with self._lock:
            while True:
                if has_news():
                    return self._take(n) if self._ring and not self._is_closed else []
                if self._is_closed:
                    if not self._running:
                        return None
                    self._wait_for_work(None)
                    continue
                due_at = self._promote_due()
                if self._ring and self._running < self._most:
                    legs = self._take(n)
                    if self._idle and (
                        (self._ring and self._running < self._most) or (self._later and not self._has_timekeeper)
                    ):
                        self._work.notify()  # each who takes wakes the next, as long as there is something to do
                    return legs
                self._wait_for_work(due_at)

    def take_now(self, n: int, is_wanted: Callable[[Leg], bool]) -> list[Leg]:
        """Return up to ``n`` legs that can be started now and that the caller wants; waits for none.

        A host whose next leg isn't wanted is left to the workers, and one of them is woken for it.
        """
        with self._lock:
            if self._is_closed:
                return []
            if self._later:
                self._promote_due()
            legs = self._take(n, is_wanted)
            if self._ring and self._idle and self._running < self._most:
                self._work.notify()
            return legs

    def call(self) -> None:
        """Have one waiting worker ask its ``has_news``."""
        with self._lock:
            if self._idle:
                self._work.notify()

    def settle(self, ended: Iterable[tuple[Leg, Leg | None]], *, wakes: bool = True) -> list[Leg]:
        """Say that legs have ended, and queue those that follow on them (a retry, a redirect) whatever the bound.

        Args:
            wakes: whether others are woken for what can be taken now; not by one who comes back for it at once.

        Returns:
            The following legs that were not queued, because the frontier is closed or their run was stopped.
        """
        refused: list[Leg] = []
        with self._lock:
            touched: dict[_Host, None] = {}
            for leg, again in ended:
                host = leg.seat
                host.running -= 1
                self._running -= 1
                touched[host] = None
                if again is not None:
                    if self._is_closed or again.run.group.is_stopped:
                        refused.append(again)
                    else:
                        self._put(again)
            for host in touched:
                self._look_at(host)
            if self._is_closed:
                self._work.notify_all()  # the last one settled lets them end
            elif wakes:
                self._wake()
        return refused

    def drop(self, run: Run) -> list[Leg]:
        """Stop a run and its group: return every leg of it that waits; from now on none is queued.

        Those being sent aren't here.
        """
        with self._lock:
            run.group.is_stopped = True
            return self._take_back(run)

    def take_back(self, run: Run) -> list[Leg]:
        """Return every leg of a run that waits; they wait no more. Its group goes on."""
        with self._lock:
            return self._take_back(run)

    def close(self) -> list[Leg]:
        """Close the frontier: every wait ends, nothing is taken or queued any more. Return what still waited."""
        with self._lock:
            self._is_closed = True
            left = [leg for _, _, leg in self._later]
            left.extend(leg for host in self._hosts.values() for _, _, leg in host.queue)
            self._later.clear()
            self._ring.clear()
            for host in self._hosts.values():
                host.queue.clear()
                host.is_in_ring = False
            self._count_out(left)
            self._work.notify_all()
            for room in self._rooms.values():
                room.notify_all()
            return left

    # Under the lock ----------------------------------------------------------------------------------------------

    def _wait_for_room(self, group: Group) -> None:
        room = self._rooms.setdefault(group, _Room(self._lock))
        room.waiting += 1
        try:
            room.wait(LOOK_S)
        finally:
            room.waiting -= 1
            if not room.waiting:
                del self._rooms[group]

    def _take_back(self, run: Run) -> list[Leg]:
        legs = [leg for _, _, leg in self._later if leg.run is run]
        if legs:
            self._later = [entry for entry in self._later if entry[2].run is not run]
            heapq.heapify(self._later)
        for host in list(self._hosts.values()):
            mine = [entry for entry in host.queue if entry[2].run is run]
            if mine:
                host.queue = [entry for entry in host.queue if entry[2].run is not run]
                heapq.heapify(host.queue)
                legs.extend(leg for _, _, leg in sorted(mine, key=lambda entry: entry[:2]))
                self._look_at(host)
        self._count_out(legs)
        if run.group.is_stopped and run.group in self._rooms:
            self._rooms[run.group].notify_all()
        return legs

    def _put(self, leg: Leg) -> None:
        leg.queued_at = now = self._clock.monotonic()
        self._queued += 1
        leg.run.group.queued += 1
        if leg.not_before > now:
            heapq.heappush(self._later, (leg.not_before, next(self._order), leg))
        else:
            self._make_ready(leg)

    def _make_ready(self, leg: Leg) -> None:
        key = (leg.run.group, leg.host)
        host = self._hosts.get(key)
        if host is None:
            host = self._hosts[key] = _Host(key)
        leg.seat = host
        heapq.heappush(host.queue, (-leg.target.priority, next(self._order), leg))
        if not host.is_in_ring:
            self._look_at(host)

    def _look_at(self, host: _Host) -> None:
        """Put a host in the ring or take it out as its state asks; forget one that has nothing left."""
        if host.is_ready():
            if not host.is_in_ring:
                host.is_in_ring = True
                self._ring.append(host)
        else:
            if host.is_in_ring:
                host.is_in_ring = False
                self._ring.remove(host)
            if not host.queue and host.running == 0:
                self._hosts.pop(host.key, None)

    def _take(self, n: int, is_wanted: Callable[[Leg], bool] | None = None) -> list[Leg]:
        now = self._clock.monotonic()
        legs: list[Leg] = []
        n = min(n, int(self._most - self._running)) if self._most != math.inf else n
        passed_over = 0
        while len(legs) < n and len(self._ring) > passed_over:
            host = self._ring.popleft()
            queue = host.queue
            if is_wanted is not None and not is_wanted(queue[0][2]):
                self._ring.append(host)
                passed_over += 1
                continue
            host.is_in_ring = False
            # One leg of each host in turn, unless there is no other host.
            most = 1 if self._ring else n - len(legs)
            if host.limit is not None:
                most = min(most, host.limit - host.running)
            while most > 0:
                leg = heapq.heappop(queue)[2]
                host.running += 1
                leg.waited_s += now - leg.queued_at
                legs.append(leg)
                most -= 1
                if not queue or (is_wanted is not None and most and not is_wanted(queue[0][2])):
                    break
            self._look_at(host)  # to the ring's end, behind the others
        self._running += len(legs)
        self._count_out(legs)
        return legs

    def _promote_due(self) -> float | None:
        """Make ready what has become due; return when the next will."""
        if not self._later:
            return None
        now = self._clock.monotonic()
        while self._later and self._later[0][0] <= now:
            self._make_ready(heapq.heappop(self._later)[2])
        return self._later[0][0] if self._later else None

    def _wait_for_work(self, due_at: float | None) -> None:
        # One waiting worker watches the clock for all: sixteen that wake for one leg are fifteen too many.
        keeps_time = due_at is not None and not self._has_timekeeper
        self._idle += 1
        try:
            if keeps_time and due_at is not None:
                self._has_timekeeper = True
                self._work.wait(max(due_at - self._clock.monotonic(), 0.0))
            else:
                self._work.wait()
        finally:
            self._idle -= 1
            if keeps_time:
                self._has_timekeeper = False
                if self._later and self._idle:
                    self._work.notify()  # somebody else must watch the clock while this one works

    def _wake(self) -> None:
        if self._idle and self._running < self._most:
            if self._ring:
                self._work.notify(min(self._idle, len(self._ring) if len(self._ring) > 1 else self._depth()))
            elif self._later and not self._has_timekeeper:
                self._work.notify()
            elif self._later:
                self._work.notify_all()  # the timekeeper may watch for a later moment than the new first

    def _depth(self) -> int:
        host = self._ring[0]
        return len(host.queue) if host.limit is None else min(len(host.queue), host.limit - host.running)

    def _count_out(self, legs: Iterable[Leg]) -> None:
        for leg in legs:
            group = leg.run.group
            self._queued -= 1
            group.queued -= 1
            if group in self._rooms and (group.has_much_room or not self._ring):
                self._rooms[group].notify()
