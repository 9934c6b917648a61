"""An operator's hand on the hosts of one crawl, while it runs: what they say is heeded from the next leg on."""

from __future__ import annotations

import dataclasses
import heapq
from typing import TYPE_CHECKING, Any

from crawlpool.politeness import NOTHING, Order, Told, on_hold

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crawlpool.clock import Clock
    from crawlpool.leg import Group, Leg
    from crawlpool.schedule import Schedule

_MOST_RESTING = 5


@dataclasses.dataclass(frozen=True)
class HostsNow:
    """Which hosts are left alone at one moment, or wait longest.

    Args:
        blocked: held by the crawl itself, as their answers say that they don't want us.
        given_up: those of the names asked for that can't be reached.
        resting: hosts with work that may not be asked before some seconds have passed, longest first.
    """

    blocked: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()
    resting: tuple[tuple[str, float], ...] = ()


class Control:
    """What an operator says of the hosts of one group of legs.

    Args:
        lock: the frontier's, which guards all of this.
        schedule: whose lines heed it.
        clock: where time comes from.
        group: whose hosts.
        recount: counts a leg that waits among those of its group, or not.
        heed: called under the lock when all is told: who waits for legs, or for room, is woken.

    Thread-safe.
    """

    def __init__(
        self,
        lock: Any,
        schedule: Schedule,
        clock: Clock,
        group: Group,
        recount: Callable[[Leg, bool], None],
        heed: Callable[[], None],
    ) -> None:
        self._lock = lock
        self._schedule = schedule
        self._clock = clock
        self._group = group
        self._recount = recount
        self._heed = heed
        group.control = self

    def order(self, host: str, order: Order) -> Told:
        """Hold a host, skip it, or let it go; return what holds for it now."""
        with self._lock:
            return self._tell(host, self._group.told.get(host, NOTHING).ordered(order))

    def delay(self, host: str, delay_s: float | None) -> Told:
        """Have a host asked with a delay of its own, or by the limits of its group again; return what holds now.

        Raises:
            ConfigError: for a delay that can't be.
        """
        with self._lock:
            told = self._group.told.get(host, NOTHING).delayed(delay_s)
            self._begin_delay(host, told)
            return self._tell(host, told)

    def restore(self, orders: Mapping[str, Told]) -> None:
        """Have hosts stand as an operator has said in an earlier process."""
        with self._lock:
            for host, told in orders.items():
                self._begin_delay(host, told)
                self._tell(host, told)

    def release(self, host: str) -> Told:
        """Let a host go, whatever keeps it: an order, blocks, refusals, failures to reach it; its delay stays."""
        with self._lock:
            now = self._clock.monotonic()
            self._group.blocks.forget(host)
            if self._group.clearance is not None:
                self._group.clearance.gate.forgive(host)
            known = self._schedule.hosts.find(host)
            if known is not None:
                known.lift(now)
                for line in list(known.lines):  # of other groups, too: a refusal counts for everybody, or for nobody
                    self._schedule.renew(line.key[0], host, now)
            return self._tell(host, self._group.told.get(host, NOTHING).ordered(Order.GO))

    def end_holds(self) -> list[str]:
        """End what waits for held hosts; return these."""
        with self._lock:
            hosts = sorted(on_hold(self._group.told))
            for host in hosts:
                self._tell(host, dataclasses.replace(self._group.told[host], is_over=True))
            return hosts

    def told(self) -> Mapping[str, Told]:
        """Return what holds for each host of which an operator has said anything."""
        return {host: told for host, told in self._group.told.items() if told.is_operators}

    def waiting(self, host: str) -> int:
        """Return how many legs of a host wait in the frontier."""
        with self._lock:
            return sum(1 for _ in self._waiting({host}))

    def on_hold(self) -> int:
        """Return how many legs in the frontier wait because their hosts are held."""
        with self._lock:
            hosts = on_hold(self._group.told)
            return sum(1 for _ in self._waiting(hosts)) if hosts else 0

    def knows(self, host: str) -> bool:
        """Tell whether anything is known of a host: it was asked lately, or is to be asked."""
        with self._lock:
            return self._schedule.hosts.find(host) is not None or any(True for _ in self._waiting({host}))

    def hosts_now(self, lost: list[str]) -> HostsNow:
        """Return which hosts are left alone, or wait longest.

        Args:
            lost: hosts that may have been given up.
        """
        with self._lock:
            now = self._clock.monotonic()
            hosts, told = self._schedule.hosts, self._group.told
            blocked = self._group.blocks.hosts() if self._group.holds_blocked else []
            given_up = [name for name in lost if (host := hosts.find(name)) is not None and host.is_given_up(now)]
            resting = [
                (host, at - now)
                for group, host, at in self._schedule.resting()
                if group is self._group and at > now and not told.get(host, NOTHING).is_held
            ]
        longest = heapq.nlargest(_MOST_RESTING, resting, key=lambda one: one[1])
        return HostsNow(tuple(sorted(blocked)), tuple(sorted(given_up)), tuple(longest))

    # Under the lock ----------------------------------------------------------------------------------------------

    def heed_blocks(self, host: str) -> None:
        """Hold a host whose answers say that it doesn't want us, and let it go if they don't say so any more.

        An operator's word counts for more. Called by who holds the lock, where the group gives back what that leaves.
        """
        group = self._group
        told = group.told.get(host, NOTHING)
        is_blocked = group.holds_blocked and group.blocks.has(host)
        if is_blocked is not told.is_blocked and (told.is_blocked or told.order is Order.GO):
            self._tell(host, told.blocked(is_blocked))

    def _begin_delay(self, host: str, told: Told) -> None:
        hosts, now = self._schedule.hosts, self._clock.monotonic()
        if told.delay_s and (self._group.limits_of(host) is None or hosts.find(host) is None):
            # Nobody knows when its last answer ended: up to now it had no limits, or was forgotten.
            known = hosts.of(host, now)
            known.ended_at = max(known.ended_at, now)

    def _tell(self, host: str, told: Told) -> Told:
        group, now = self._group, self._clock.monotonic()
        rest = {name: one for name, one in group.told.items() if name != host}
        group.told = rest if told.is_nothing else {**rest, host: told}
        # What is held takes nobody's place: else a few hosts on hold would leave no room for the others.
        for leg in list(self._waiting({host})):
            self._recount(leg, not told.waits)
        self._schedule.renew(group, host, now)
        if not told.waits:
            self._schedule.back(group, host)  # what there is of it in the backlog comes out now
        self._heed()
        return told

    def _waiting(self, hosts: set[str]) -> list[Leg]:
        group = self._group
        return [leg for leg in self._schedule if leg.is_waiting and leg.host in hosts and leg.run.group is group]
