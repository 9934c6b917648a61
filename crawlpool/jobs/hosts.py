"""What a job remembers of hosts from one run to the next: who rests, what an operator said, who doesn't want us."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crawlpool.ledger.store import INPUT_HOST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlpool.clock import Clock
    from crawlpool.crawl import Crawl
    from crawlpool.frontier import Frontier
    from crawlpool.ledger.store import Batch, Ledger


class HostMemory:
    """The hosts of one job's crawl, as far as they are remembered.

    Args:
        ledger: where.
        crawl: whose hosts they are.
        frontier: that asks them.
        clock: where time comes from: of two processes it is the wall clock alone that goes on.

    ``restore`` is called before the clerk begins, ``note`` by the clerk.
    """

    def __init__(self, ledger: Ledger, crawl: Crawl, frontier: Frontier, clock: Clock) -> None:
        self._ledger = ledger
        self._crawl = crawl
        self._frontier = frontier
        self._clock = clock
        self._told: Mapping[str, Any] = {}  # what the group was told when it was last noted
        self._orders: dict[str, dict[str, Any]] = {}
        self._is_token_noted = False
        self._owns = crawl.options.owns  # of a frontier that several crawls share, whose hosts are whose

    def restore(self) -> None:
        """Have hosts go on where the run before left them.

        Who rested rests on, as far as its time isn't over; each waits a full delay, as nobody knows when its last
        answer ended; what an operator said holds. A host that was held for its answers is asked again: somebody has
        decided to go on. Hosts that aren't public and that the input has named stay permitted.
        """
        assert self._crawl.group.inputs is not None
        self._crawl.group.inputs.restore(self._ledger.input_hosts())
        now = self._clock.wall()
        cooled: dict[str, float] = {}
        for name, until, orders in self._ledger.host_states():
            if until is not None and until > now:
                cooled[name] = until - now
            if orders is not None:
                self._orders[name] = json.loads(orders)
        self._frontier.resume_hosts(self._crawl.group, cooled, waits_delay=self._ledger.run > 1, owns=self._owns)
        if self._orders:
            self._crawl._control.restore(self._crawl.told_of(self._orders))

    def note(self, batch: Batch) -> None:
        """Add to a batch what has changed since the last one."""
        named = self._crawl.group.inputs
        while named is not None and named.fresh:
            batch.values[f"{INPUT_HOST}{named.fresh.popleft()}"] = ""
        cooled = self._frontier.cooled(self._owns)
        if cooled:
            now = self._clock.wall()
            batch.cooled = [(host, now + left_s if left_s > 0 else 0.0) for host, left_s in cooled]
        clearance = self._crawl.group.clearance
        if not self._is_token_noted and clearance is not None:
            self._is_token_noted = True
            batch.values["robots_token"] = json.dumps(clearance.token)  # by which lines of a robots.txt we go
        told = self._crawl.group.told
        if told is self._told:  # it is replaced as a whole
            return
        batch.blocked = [(host, int(one.is_blocked)) for host, one in told.items()]
        batch.blocked += [(host, 0) for host in self._told if host not in told]
        self._told = told
        orders = self._crawl.orders()
        batch.orders = [(host, json.dumps(one)) for host, one in orders.items() if self._orders.get(host) != one]
        batch.orders += [(host, None) for host in self._orders if host not in orders]
        self._orders = orders
