"""A line: what waits for one host, and what has to be so before the first of it may go. No lock; time is given."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

from crawlpool.clearance import Clearance, refusal_of
from crawlpool.politeness import How, Told
from crawlpool.robots.gate import Verdict
from crawlpool.settle import dropped, given_up

if TYPE_CHECKING:
    from crawlpool.leg import Group, Leg
    from crawlpool.limits import HostLimits
    from crawlpool.politeness import Address, Host, Hosts


#: Legs of a host that may wait in a line at least; what is more lies in the group's backlog, where it has one.
PLACES = 16
_MANY_PLACES = 1024


def drop_gone(queue: list[tuple[int, int, Leg]]) -> None:
    """Drop what doesn't wait any more from the head of a heap."""
    while queue and not queue[0][2].is_waiting:
        heapq.heappop(queue)


class Line:
    """The legs of one group for one host that may run as soon as the host may be asked.

    ``host`` and ``limits`` are ``None`` where nothing limits how the host is asked, and ``clearance`` where robots.txt
    doesn't count. ``limits`` and ``told`` never change, so the line that a leg has started from says what held for it:
    where they would, another line takes its place, and of this one those legs are left that run.
    """

    __slots__ = (
        *("address", "clearance", "host", "ignores_robots", "is_bound", "is_in_ring", "is_parked", "is_replaced"),
        *("key", "let_in_by", "lifted_at", "limits", "places", "queue", "rests_until", "running", "shared", "told"),
    )

    def __init__(self, key: tuple[Group, str] | None = None) -> None:
        self.key = key
        self.limits: HostLimits | None = None
        self.host: Host | None = None
        self.told: Told | None = None  # what an operator says of the host, or the crawl itself of one that it holds
        self.lifted_at = -math.inf  # when they last released it
        self.clearance: Clearance | None = None
        self.ignores_robots = False
        self.queue: list[tuple[int, int, Leg]] = []  # a heap: higher priority first, then order of arrival
        self.running = 0
        self.is_in_ring = False
        self.shared: HostLimits | None = None  # those that are its host's address's, too: not what an operator says
        self.address: Address | None = None  # that one, as soon as it is known
        self.is_parked = False  # until there is room at that address
        self.let_in_by: Address | None = None  # as long as it is in the ring
        self.is_replaced = False  # whether another line has its place
        self.rests_until = -math.inf
        self.is_bound = False  # whether its host may have fewer at once than there may be in all
        self.places = _MANY_PLACES

    @classmethod
    def of(cls, key: tuple[Group, str], hosts: Hosts, now: float, running_at_most: float) -> Line:
        """Return the line of a group and a host, with what limits it.

        Args:
            key: the group and the host.
            hosts: where the host is known.
            now: the time.
            running_at_most: legs of all hosts that may run at once: a host that may have as many isn't bound by that.
        """
        line = cls(key)
        group, name = key
        limits = group.limits_of(name)
        if limits is not None:
            line.shared = limits if limits.per_ip else None
            line.clearance = group.clearance
            line.ignores_robots = group.ignores_robots
        if group.told and (told := group.told.get(name)) is not None:
            line.told = told
            limits = told.limits(limits, group.limits)
        if limits is not None:
            line.limits = limits
            line.host = hosts.of(name, now, 0.0 if line.told is not None else limits.delay_s)
            line.host.kept_s = max(line.host.kept_s, limits.delay_s)
            line.host.lines.append(line)
            line.address = line.host.address_for(line.shared)
            line.lifted_at = line.host.lifted_at
            most = limits.concurrency
            if most is not None and (most < running_at_most or limits.delay_s):
                line.is_bound, line.places = True, max(PLACES, 4 * most)
            elif line.told is not None and line.told.waits:
                line.places = PLACES
        return line

    def take_over(self, old: Line) -> None:
        """Take over what waits in the line whose place this one takes; its legs that run are waited for where one must.

        Args:
            old: the line; it has none but these from now on.
        """
        old.is_replaced = True
        self.queue, old.queue = old.queue, []
        for _, _, leg in self.queue:
            leg.seat = self
        if old.host is None and self.host is not None and old.running:
            old.host = self.host
            old.host.running += old.running
            old.host.lines.append(old)

    @property
    def asks_user(self) -> bool:
        """Whether code of the user's judges the host's answers."""
        return self.limits is not None and self.limits.is_block is not None

    @property
    def is_low(self) -> bool:
        """Whether it should have more of the backlog."""
        return len(self.queue) <= self.places // 4 and not self.is_replaced

    @property
    def turns(self) -> int:
        """How many of its legs could go at once, by the number alone that its host, or address, may have at once."""
        host, limits = self.host, self.limits
        if not self.is_bound or host is None or limits is None or limits.concurrency is None:
            return len(self.queue)
        free = limits.concurrency - host.running
        address, shared = self.let_in_by, self.shared
        if address is not None and shared is not None and shared.concurrency is not None:
            free = min(free, shared.concurrency - address.running - address.let_in + 1)  # one place is taken by itself
        return max(1, min(len(self.queue), free))

    @property
    def is_blocked(self) -> bool:
        """Whether the host is left alone, because it doesn't want us."""
        if self.key is None:
            return False
        group, name = self.key
        return group.holds_blocked and bool(group.blocks.last) and group.blocks.has(name)

    @property
    def is_held(self) -> bool:
        """Whether what waits here is to end unsent for that; else ``told`` says that it waits."""
        return self.is_blocked and self.key is not None and not self.key[0].gives_back

    def note_low(self) -> None:
        """Have its group hear that it should have more of the backlog, if it should."""
        group, host = self.key or (None, "")
        if group is not None and group.backed and host in group.backed and self.is_low:
            group.hungry[host] = self.places - len(self.queue)

    def clear(self) -> None:
        """Forget what waits."""
        self.queue.clear()
        self.is_in_ring = False

    def took(self, leg: Leg, now: float) -> None:
        """Tell the host of a leg that was taken, and the leg of its host, or why it isn't to be sent."""
        self.running += 1
        if leg.address is not None:  # it was taken before, and given back
            leg.address = None
        host = self.host
        if host is None:
            return
        if self.ignores_robots:
            leg.robots = "ignored"
        if leg.verdict is None:
            if self.told is not None and (self.told.ends is not None or self.told.waits):
                leg.verdict = dropped(leg, self.told.ends or "held")  # where it waits only robots.txt comes here
            elif host.is_given_up(now):
                leg.verdict = given_up(leg, host.trouble)
            elif self.is_held:
                leg.verdict = dropped(leg, "held")
        leg.crawl_delay_s = host.crawl_delay_s  # it may grow until the leg has ended
        if host.cooled_until > leg.queued_at:
            leg.rested_until = host.cooled_until
        host.start()
        if host.address is not None and leg.verdict is None:
            leg.address = host.address
            leg.address.start()

    def end(self, leg: Leg, now: float) -> str | None:
        """Tell the host what came of a leg; return in a word what that makes of it, if somebody should hear of it."""
        host, limits, came = self.host, self.limits, leg.came
        assert host is not None
        if limits is None:
            host.left(now)
            return None
        may_be_left = came.is_block or came.how is How.UNREACHABLE
        was_left = may_be_left and (self.is_blocked or host.is_given_up(now))
        host.end(came, limits, now, is_told=leg.is_told)
        if self.key is not None and came.how in (How.ANSWERED, How.REFUSED):
            group, name = self.key
            group.blocks.note(name, is_block=came.is_block)
            if group.gives_back and group.control is not None:
                group.control.heed_blocks(name)
        if not may_be_left or was_left:
            return None
        return "given up" if host.is_given_up(now) else "held" if self.is_blocked else None

    def ends_unsent(self, now: float) -> bool:
        """Tell whether its next leg is to end without having asked for anything."""
        host, clearance, told = self.host, self.clearance, self.told
        if host is None or host.is_given_up(now) or self.is_held or (told is not None and told.ends is not None):
            return host is not None
        if clearance is None or not self.queue or not self._needs_clearance(self.queue[0][2]):
            return False
        return clearance.gate.ask(self.queue[0][2].origin, now).verdict.ends

    def has_room(self, now: float) -> bool:
        """Tell whether its next leg may start as far as the address is concerned that its host shares."""
        address, shared = self.address, self.shared
        return address is None or shared is None or address.may_start_at(shared) <= now or self.ends_unsent(now)

    def may_start_at(self, now: float) -> float:
        """Return when its host lets its next leg start: any time up to now means at once, infinity that it can't tell.

        Then a leg must end first, or its address must be found.
        """
        host, limits = self.host, self.limits
        if host is None or limits is None:
            return -math.inf
        if self.told is not None and (self.told.waits or self.told.ends):
            # A robots.txt doesn't wait for as long as an operator likes: those who wait for it ask again.
            is_robots = bool(self.queue) and self.queue[0][2].run is self.clearance
            return math.inf if self.told.waits and not is_robots else -math.inf
        if host.is_given_up(now) or self.is_held:
            return -math.inf
        if self.shared is not None and host.whereabouts.is_open:
            return math.inf
        clearance = self.clearance
        if clearance is None or not self.queue or not self._needs_clearance(self.queue[0][2]):
            return host.may_start_at(limits)
        gate, origin = clearance.gate, self.queue[0][2].origin
        if gate.ask(origin, now).verdict.ends:
            return -math.inf  # what ends unsent asks nothing of the host
        return max(host.may_start_at(limits), gate.opens_at(origin, now))

    def cleared(self, leg: Leg, now: float) -> Leg:
        """Return the leg that is to go in place of ``leg``: itself, with the rules for it, or robots.txt before it."""
        clearance = self.clearance
        if clearance is None or leg.verdict is not None or not self._needs_clearance(leg):
            return leg
        if self.is_held or (self.told is not None and self.told.ends):
            return leg
        answer = clearance.gate.ask(leg.origin, now)
        if answer.verdict is Verdict.FETCH:
            return clearance.leg_for(leg)
        if answer.verdict.ends:
            leg.robots = "unreachable"
            leg.verdict = refusal_of(leg, answer, now)
        elif answer.verdict is Verdict.GO:
            leg.robots, leg.rules = "allowed", answer.rules
        return leg

    def _needs_clearance(self, leg: Leg) -> bool:
        """Tell whether robots.txt has a say: not in whether it is itself fetched, and not where there is no origin."""
        return leg.run is not self.clearance and bool(leg.origin)
