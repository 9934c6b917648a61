"""A world on simulated time for tests of the schedule: hosts that answer, workers that ask, and an operator."""

from __future__ import annotations

import collections
import dataclasses
import heapq
import itertools
import math
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, cast

from crawlpool.control import Control
from crawlpool.leg import Group, Leg
from crawlpool.limits import HostLimits
from crawlpool.politeness import Came, How, Order, Rate
from crawlpool.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crawlpool.clock import Clock
    from crawlpool.names import Found


@dataclasses.dataclass
class Asked:
    """One request as its host saw it; ``address`` is what its host had been found to share by then."""

    host: str
    start: float
    end: float
    came: Came
    address: str | None = None


class Said(NamedTuple):
    """What an operator says of a host."""

    at: float
    host: str
    what: str
    delay_s: float | None = None


class World:
    """Hosts that answer, workers that ask, and a clock that jumps from event to event.

    Args:
        workers: how many legs may run at once.
        answers: for each host, what it answers in turn (the last one for ever) and how long that takes.
        rate: how many may start in a second.
        said: what an operator says meanwhile, in order.
        names: for each host, what its name is resolved to in turn (the last one for ever), and how long that takes.
    """

    def __init__(
        self,
        workers: int,
        answers: dict[str, list[tuple[float, Came]]],
        rate: Rate | None = None,
        said: Sequence[Said] = (),
        names: dict[str, list[tuple[float, Found]]] | None = None,
    ) -> None:
        self.schedule = Schedule(rate=rate)
        self._names = {host: collections.deque(given) for host, given in (names or {}).items()}
        self._sought: list[tuple[float, int, str, Found]] = []
        self._where: dict[str, str] = {}
        self.workers = workers
        self.now = 0.0
        self.asked: list[Asked] = []
        self.ended: list[Leg] = []
        self._answers = {host: collections.deque(given) for host, given in answers.items()}
        self._running: list[tuple[float, int, Leg, Came]] = []
        self._order = itertools.count()
        self._said = collections.deque(said)
        self.controls: dict[str, Control] = {}

    def monotonic(self) -> float:
        return self.now

    def steer(self, host: str, group: Group) -> None:
        """Let the operator have a say in what a group asks of a host."""
        clock = cast("Clock", self)
        self.controls[host] = Control(Lock(), self.schedule, clock, group, lambda *_: None, lambda: None)

    def _heed(self) -> None:
        while self._said and self._said[0].at <= self.now:
            said = self._said.popleft()
            control = self.controls[said.host]
            if said.what == "release":
                control.release(said.host)
            elif said.what in ("hold", "skip"):
                control.order(said.host, Order(said.what))
            else:
                control.delay(said.host, said.delay_s)

    def _end_holds(self) -> bool:
        return any([control.end_holds() for control in self.controls.values()])

    def run(self, until: float = math.inf) -> None:
        """Go on until nothing waits and nothing runs, or to that moment; bounded in events."""
        for _ in range(100_000):
            self._heed()
            due_at = self.schedule.promote(self.now)
            self._seek()
            while len(self._running) < self.workers and self._start():
                pass
            self._check_idle()
            due_at = self.schedule.promote(self.now)
            events = [math.inf if due_at is None else due_at]
            events += [at for at, *_ in (*self._running[:1], *self._sought[:1])]
            if self._said:
                events.append(self._said[0].at)
            at = min(events)
            if at == math.inf and self._end_holds():
                continue
            if at == math.inf:
                assert not list(self.schedule), "legs wait, and nothing will ever let them go"
                return
            assert at >= self.now
            if at > until:
                self.now = until
                return
            self.now = at
            self._end()
            self._locate()
        raise AssertionError("it has no end")

    def _seek(self) -> None:
        sought, self.schedule.hosts.sought = self.schedule.hosts.sought, []
        for leg in sought:
            given = self._names[leg.host]
            takes_s, found = given[0] if len(given) == 1 else given.popleft()
            heapq.heappush(self._sought, (self.now + takes_s, next(self._order), leg.host, found))

    def _locate(self) -> None:
        while self._sought and self._sought[0][0] <= self.now:
            _, _, host, found = heapq.heappop(self._sought)
            if found:
                self._where[host] = min(found)
            self.schedule.locate(host, found, self.now)

    def _start(self) -> bool:
        legs = self.schedule.take(1, self.now)
        for leg in legs:
            if leg.verdict is not None:  # given up: it ends at once, unsent
                heapq.heappush(self._running, (self.now, next(self._order), leg, leg.came))
                continue
            given = self._answers[leg.host]
            takes_s, came = given[0] if len(given) == 1 else given.popleft()
            self.asked.append(Asked(leg.host, self.now, self.now + takes_s, came, self._where.get(leg.host)))
            heapq.heappush(self._running, (self.now + takes_s, next(self._order), leg, came))
        return bool(legs)

    def _end(self) -> None:
        while self._running and self._running[0][0] <= self.now:
            _, _, leg, came = heapq.heappop(self._running)
            leg.came = came
            self.schedule.ended([leg], self.now)
            self.ended.append(leg)

    def _check_idle(self) -> None:
        """With a worker free, no host with work may be one that could be asked now."""
        if len(self._running) >= self.workers or not self.schedule._valve.room(1, self.now):
            return
        for line in self.schedule._lines.values():
            is_ready = line.may_start_at(self.now) <= self.now and line.has_room(self.now)
            assert not line.queue or not is_ready, f"{line.key[1]} is ready, a worker idle"


def in_force(own: HostLimits | None, said: list[Said], at: float) -> HostLimits | None:
    """Return the limits of a host at one moment, after what was said of it until then; it must be one to be asked."""
    delays = [one.delay_s for one in said if one.what == "delay" and one.at <= at]
    orders = [one.what for one in said if one.what != "delay" and one.at <= at]
    assert not orders or orders[-1] == "release", f"asked at {at}, though told to {orders[-1]}"
    if not delays or delays[-1] is None:
        return own
    if delays[-1]:
        return HostLimits(delay_s=delays[-1], max_cooldown_s=(own or HostLimits()).max_cooldown_s)
    return None if own is None else dataclasses.replace(own, delay_s=0.0)


def check_politeness(asked: list[Asked], limits_of: dict[str, HostLimits | None], everything: Sequence[Said]) -> None:
    """Hold every request against the limits of its host, by the rules alone and not by how they are kept."""
    for host, own in limits_of.items():
        mine = sorted((one for one in asked if one.host == host), key=lambda one: one.start)
        said = [one for one in everything if one.host == host]
        for one in mine:
            limits = in_force(own, said, one.start)
            if limits is None:
                continue
            running = sum(other.start <= one.start < other.end for other in mine if other is not one)
            if limits.concurrency is not None:
                assert running < limits.concurrency, f"{host}: {running + 1} at once at {one.start}"
            for before in mine:
                if before.end > one.start or before is one:
                    continue
                assert one.start >= before.end + limits.delay_s, f"{host}: too early at {one.start}"
                was = in_force(own, said, before.start)
                is_lifted = any(s.what == "release" and before.end <= s.at <= one.start for s in said)
                if before.came.how is How.REFUSED and was is not None and not is_lifted:
                    asked_s = 1.0 if before.came.retry_after_s is None else before.came.retry_after_s
                    assert one.start >= before.end + min(asked_s, was.max_cooldown_s), f"{host}: not left alone"


def check_shared(asked: list[Asked], limits_of: dict[str, HostLimits | None]) -> None:
    """Hold every request, too, against all that started before it at the address that its host shares."""
    for number, one in enumerate(asked):
        limits = limits_of[one.host]
        if limits is None or not limits.per_ip:
            continue
        before = [other for other in asked[:number] if other.address == one.address is not None]
        running = sum(one.start < other.end for other in before)
        assert limits.concurrency is None or running < limits.concurrency, f"{one.address}: {running + 1} at once"
        for other in before:
            if limits.delay_s:
                assert one.start >= other.end + limits.delay_s, f"{one.address}: too early at {one.start}"
