"""The frontier: the bounded, host-fair queue that feeds the workers. The only scheduler there is.

Every leg waits here: first tries, retries that back off, redirects. A worker takes legs whose host is free and whose
time has come; it never sleeps for a host. Hosts with something to do stand in a ring and have turns.
"""

from __future__ import annotations

import enum
import math
import threading
from typing import TYPE_CHECKING

from crawlpool.clock import SYSTEM_CLOCK, Clock
from crawlpool.control import Control
from crawlpool.idlers import Idlers
from crawlpool.owing import Owing
from crawlpool.rooms import Rooms
from crawlpool.schedule import Schedule
from crawlpool.tidings import Tidings
from crawlpool.turnstile import Turnstile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from crawlpool.leg import Group, Leg, Run
    from crawlpool.names import Found, Names
    from crawlpool.politeness import Exits, Rate


class Offered(enum.Enum):
    """What became of a leg that was offered."""

    QUEUED = "queued"
    HOST_FULL = "host full"  # enough of its host wait: more of them lie in the group's backlog
    FULL = "full"  # enough of the group wait
    ENDED = "ended"  # the frontier is closed, or the group stopped


def _never() -> bool:
    return False


class Frontier(Tidings):
    """A bounded queue of legs.

    Args:
        clock: where time comes from.
        running_at_most: legs that may be taken and not settled at once; ``None`` for any number.
        rate: how many may start in a second, all hosts together; ``None`` for any number.
        exits: the proxies by which legs go, where there are several; the frontier's lock guards them.
        names: finds the addresses of hosts, for limits that are per address, too; ``None`` where they can't be found.

    Thread-safe. ``take`` and ``put`` wait without polling.
    """

    def __init__(
        self,
        clock: Clock = SYSTEM_CLOCK,
        running_at_most: int | None = None,
        rate: Rate | None = None,
        exits: Exits | None = None,
        names: Names | None = None,
    ) -> None:
        self._clock = clock
        self._names = names
        # Guards every field below, the schedule with all its hosts and exits, and the counters of the legs' groups.
        # Nothing is sent, read or written under it, and no user's code runs.
        self._lock = threading.Lock()
        self._schedule = Schedule(math.inf if running_at_most is None else running_at_most, rate, exits)
        self._idlers = Idlers(self._lock, self._schedule, clock)  # workers that wait for legs
        self._rooms = Rooms(self._lock, self._schedule)  # waited in by feeders
        self._turnstile: Turnstile | None = None  # waited at by those who send by themselves
        self._owing = Owing()
        #: Has the I/O thread begin what may be begun, and tells whether it will; set where there is one, at the start.
        self.poke: Callable[[], bool] | None = None
        self._queued = 0
        self._is_closed = False

    def __len__(self) -> int:
        """How many legs wait."""
        return self._queued

    @property
    def idle(self) -> int:
        """How many workers wait for a leg."""
        return self._idlers.count

    def turnstile_of(self, group: Group) -> Turnstile:
        """Return where threads wait for the turns of hosts that they ask by themselves; called once."""
        self._turnstile = Turnstile(self._lock, self._schedule, self._clock, self._idlers.wake, group, self._names)
        return self._turnstile

    def control_of(self, group: Group) -> Control:
        """Return by what an operator has a say in which hosts of a group are asked."""
        return Control(self._lock, self._schedule, self._clock, group, self._recount, self._heed)

    def put(self, leg: Leg, *, block: bool = True) -> bool:
        """Queue a leg, waiting while its group has as many waiting as it may.

        Args:
            leg: the leg.
            block: whether to wait for room; retries and redirects of a target that is under way are put by ``settle``
                and never wait.

        Returns:
            Whether it was queued: not when there was no room, or the frontier is closed.
        """
        return self.offer(leg, block=block, anyway=True) is Offered.QUEUED

    def offer(self, leg: Leg, *, block: bool, anyway: bool = False) -> Offered:
        """Queue a leg where it has a place, waiting while ``Rooms.has_enough``.

        Args:
            leg: the leg.
            block: whether to wait; else it is refused as ``FULL``.
            anyway: whether it is queued even where enough of its host wait; a group without a backlog has no other way.
        """
        group = leg.run.group
        with self._lock:
            while True:
                if self._is_closed or group.is_stopped:
                    return Offered.ENDED
                if not (anyway or self._schedule.has_place(leg)):
                    group.backed.add(leg.host)
                    return Offered.HOST_FULL
                if not self._rooms.has_enough(group, self._idlers.count):
                    break
                if not block:
                    return Offered.FULL
                self._rooms.wait(group)
            self._put(leg, self._clock.monotonic())
            self._rooms.put(group)
            self._idlers.wake()
        self._look_up()
        return Offered.QUEUED

    def back(self, group: Group, host: str) -> None:
        """Note that more of a host lies in a group's backlog; ``hungry_of`` names it when it should have some of it."""
        with self._lock:
            self._schedule.back(group, host)

    def hungry_of(self, group: Group) -> dict[str, int]:
        """Return the hosts that should have more of a group's backlog, and how many; they are to be had from there."""
        with self._lock:
            hosts, group.hungry = group.hungry, {}
            group.backed.difference_update(hosts)
            return hosts

    def backed(self, group: Group) -> set[str]:
        """Return the hosts that will be named by ``hungry_of``."""
        with self._lock:
            return set(group.backed)

    def put_all(self, legs: Sequence[Leg], has_more_of: str | None = None, *, wakes: bool = True) -> bool:
        """Queue legs of one run, whatever the capacity of its group, in one go; return whether they were: all or none.


        Args:
            legs: the legs.
            has_more_of: a host of which more lies in the group's backlog.
            wakes: whether somebody is woken for them; else ``look`` is to be called.
        """
        group = legs[0].run.group
        with self._lock:
            if self._is_closed or group.is_stopped:
                return False
            now = self._clock.monotonic()
            for leg in legs:
                self._put(leg, now)
            if has_more_of is not None:
                self._schedule.back(group, has_more_of)
            if wakes:
                self._idlers.wake()
        self._look_up()
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
            legs = self._take_or_wait(n, has_news)
        self._look_up()
        return legs

    def take_now(self, n: int, is_wanted: Callable[[Leg], bool]) -> list[Leg]:
        """Return up to ``n`` legs that can be started now and that the caller wants; waits for none.

        A host whose next leg isn't wanted is left to the workers, and one of them is woken for it.
        """
        with self._lock:
            if self._is_closed:
                return []
            legs = self._take(n, is_wanted)
            self._idlers.wake(1)
        self._look_up()
        return legs

    def call(self) -> None:
        """Have one waiting worker ask its ``has_news``."""
        with self._lock:
            self._idlers.call(1)

    def settle(self, ended: Iterable[tuple[Leg, Leg | None]], *, wakes: bool = True) -> list[Leg]:
        """Say that legs have ended, and queue those that follow on them (a retry, a redirect) whatever the bound.

        Args:
            wakes: whether others are woken for what can be taken now; not by one who comes back for it at once.

        Returns:
            The following legs that were not queued, because the frontier is closed or their run was stopped.
        """
        ended = list(ended)
        with self._lock:
            now = self._clock.monotonic()
            # What follows comes first: so a line whose last leg ended isn't forgotten, to be made again for the next.
            # A leg that is given back itself has its place only when it has left the one that it had.
            refused = self._follow((again for leg, again in ended if again is not leg), now)
            self._schedule.ended((leg for leg, _ in ended), now)
            refused += self._follow((again for leg, again in ended if again is leg), now)
            self._owing.settled(ended)
            if self._turnstile is not None:
                self._turnstile.tell(leg for leg, _ in ended)
            self._rooms.settled(self._idlers.count)
            if self._is_closed:
                self._idlers.call(self._idlers.count)  # the last one settled lets them end
            elif wakes:
                self._idlers.wake()
        self._look_up()
        return refused

    def bind(self, most: float) -> None:
        """Set how many legs may run or be settled without being committed, all in all; for groups that owe."""
        with self._lock:
            self._owing.bind(most)
            self._idlers.wake()

    def paid(self, count: int, *, is_instant: bool = False) -> bool:
        """Take it that results of groups that owe are committed, or given up.

        Args:
            count: how many.
            is_instant: whether the I/O thread can begin what follows: to wake a worker for it costs more.

        Returns:
            Whether somebody was seen to who takes what may be begun now. Else enough legs run, and who ends one takes
            the next; should none end for a while, ``look`` is to be called.
        """
        with self._lock:
            self._owing.paid(count)
            is_busy = self._owing.is_busy(self._schedule.running)
        if not is_busy:
            self.look(is_instant=is_instant)
        return not is_busy

    @property
    def held_back(self) -> int:
        """How often legs that were ready had to wait, as too many results weren't committed yet; of any time."""
        return self._owing.held_back

    def look(self, *, is_instant: bool = False) -> None:
        """Have somebody take what may be begun now; as ``paid`` takes it."""
        if not (is_instant and self.poke is not None and self.poke()):
            with self._lock:
                self._idlers.wake(1)  # each who takes wakes the next

    def locate(self, host: str, found: Found) -> None:
        """Take the addresses of a host; the legs that waited for them may go on."""
        with self._lock:
            self._schedule.locate(host, found, self._clock.monotonic())
            self._idlers.wake()

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
            left = self._schedule.clear()
            self._count_out(left)
            self._idlers.call(self._idlers.count)
            self._rooms.wake_all()
            if self._turnstile is not None:
                self._turnstile.close()
            return left

    def _look_up(self) -> None:
        """Have the addresses of hosts found that are sought. Under no lock: an answer that is known comes at once."""
        hosts = self._schedule.hosts
        while hosts.sought:  # nearly never; who adds to it comes here afterwards
            with self._lock:
                sought, hosts.sought = hosts.sought, []
            for leg in sought:
                if self._names is None:
                    self.locate(leg.host, None)
                else:
                    self._names.seek(leg, self.locate)

    # Under the lock ----------------------------------------------------------------------------------------------

    def _take_back(self, run: Run) -> list[Leg]:
        legs = self._schedule.take_back(run, self._clock.monotonic())
        self._count_out(legs)
        if run.group.is_stopped:
            self._rooms.wake(run.group)
        return legs

    def _put(self, leg: Leg, now: float) -> None:
        group = leg.run.group
        if group.told and group.keeps_waiting(leg.host):
            leg.is_counted = False
        else:
            self._queued += 1
            group.queued += 1
            group.queued_bytes += leg.weight_bytes
        self._schedule.put(leg, now)

    def _follow(self, legs: Iterable[Leg | None], now: float) -> list[Leg]:
        refused: list[Leg] = []
        for leg in legs:
            if leg is None:
                continue
            if self._is_closed or leg.run.group.is_stopped:
                refused.append(leg)
            else:
                self._put(leg, now)
        return refused

    def _recount(self, leg: Leg, counts: bool) -> None:
        if leg.is_counted is not counts:
            leg.is_counted, by, group = counts, 1 if counts else -1, leg.run.group
            self._queued += by
            group.queued += by
            group.queued_bytes += by * leg.weight_bytes

    def _heed(self) -> None:
        self._rooms.settled(self._idlers.count)
        self._idlers.wake()

    def _take(self, n: int, is_wanted: Callable[[Leg], bool] | None = None) -> list[Leg]:
        schedule = self._schedule
        now = self._clock.monotonic()
        if schedule.has_timed:
            schedule.promote(now)
        if not schedule.has_ready or not (n := self._owing.room(n, schedule.running)):
            return []
        legs = schedule.take(n, now, is_wanted)
        self._count_out(legs)
        return legs

    def _take_or_wait(self, n: int, has_news: Callable[[], bool]) -> list[Leg] | None:
        schedule = self._schedule
        while True:
            if has_news() or schedule.hosts.sought:
                return [] if self._is_closed else self._take(n)
            if self._is_closed:
                if not schedule.running:
                    return None
                self._idlers.wait(None)
                continue
            legs = self._take(n)
            if legs:
                self._idlers.wake(1)  # each who takes wakes the next, as long as there is something to do
                return legs
            due_at = schedule.promote(self._clock.monotonic())
            if not schedule.hosts.sought:
                self._idlers.wait(due_at)

    def _count_out(self, legs: Iterable[Leg]) -> None:
        for leg in legs:
            group = leg.run.group
            if not leg.is_counted:
                leg.is_counted = True
                continue
            self._queued -= 1
            group.queued -= 1
            group.queued_bytes -= leg.weight_bytes
            self._rooms.took(group, self._idlers.count)
