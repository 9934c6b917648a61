"""A line: what waits for one host, and what has to be so before the first of it may go. No lock; time is given."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

from crawlpool.clearance import Clearance, refusal_of
from crawlpool.robots.gate import CLOSED, Verdict

if TYPE_CHECKING:
    from crawlpool.leg import Group, Leg
    from crawlpool.limits import HostLimits
    from crawlpool.politeness import Host, Hosts


def drop_gone(queue: list[tuple[int, int, Leg]]) -> None:
    """Drop what doesn't wait any more from the head of a heap."""
    while queue and not queue[0][2].is_waiting:
        heapq.heappop(queue)


class Line:
    """The legs of one group for one host that may run as soon as the host may be asked.

    ``host`` and ``limits`` are ``None`` where nothing limits how the host is asked, and ``clearance`` where robots.txt
    doesn't count.
    """

    __slots__ = (
        *("clearance", "host", "ignores_robots", "is_in_ring", "key", "limits", "queue", "rests_until", "running"),
    )

    def __init__(self, key: tuple[Group, str] | None = None) -> None:
        self.key = key
        self.limits: HostLimits | None = None
        self.host: Host | None = None
        self.clearance: Clearance | None = None
        self.ignores_robots = False
        self.queue: list[tuple[int, int, Leg]] = []  # a heap: higher priority first, then order of arrival
        self.running = 0
        self.is_in_ring = False
        self.rests_until = -math.inf

    @classmethod
    def of(cls, key: tuple[Group, str], hosts: Hosts, now: float) -> Line:
        """Return the line of a group and a host, with what limits it."""
        line = cls(key)
        group, name = key
        limits = line.limits = group.limits_of(name)
        if limits is not None:
            line.clearance = group.clearance
            line.ignores_robots = group.ignores_robots
            line.host = hosts.of(name, now, limits.delay_s)
            line.host.lines.append(line)
        return line

    def may_start_at(self, now: float) -> float:
        """Return when its next leg may start: any time up to now means at once, infinity that a leg must end first."""
        host, limits = self.host, self.limits
        if host is None or limits is None or host.is_given_up(now):
            return -math.inf
        at = host.may_start_at(limits)
        clearance = self.clearance
        if clearance is not None and self.queue:
            leg = self.queue[0][2]
            if leg.run is not clearance and leg.origin:
                opens_at = clearance.gate.opens_at(leg.origin, now)
                # What ends unsent asks nothing of the host.
                at = -math.inf if opens_at == CLOSED else max(at, opens_at)
        return at

    def cleared(self, leg: Leg, now: float) -> Leg:
        """Return the leg that is to go in place of ``leg``: itself, with the rules for it, or robots.txt before it."""
        clearance = self.clearance
        if clearance is None or leg.run is clearance or not leg.origin or leg.verdict is not None:
            return leg
        answer = clearance.gate.ask(leg.origin, now)
        if answer.verdict is Verdict.FETCH:
            return clearance.leg_for(leg)
        leg.rules = answer.rules
        leg.robots = "allowed" if answer.verdict is Verdict.GO else "unreachable"
        if answer.verdict is not Verdict.GO:
            leg.verdict = refusal_of(leg, answer, now)
        return leg
