"""From a backlog to the frontier: which hosts should have more of it, and when; whatever the backlog is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from crawlpool.address import InputHosts
from crawlpool.lines import PLACES
from crawlpool.politeness import on_hold

if TYPE_CHECKING:
    from collections.abc import Collection

    from crawlpool.leg import Leg, Run
    from crawlpool.worker import Workforce

_HOSTS = 64  # looked for in one go


class HostBacklog(Protocol):
    """Targets that wait, by host."""

    def __len__(self) -> int:
        """How many."""

    def hosts(self, most: int, without: Collection[str] = frozenset()) -> list[str]:
        """Return hosts that have some, whose turn it is first."""

    def count(self, host: str, most: int) -> int:
        """Return how many a host has; so many are counted at most."""


class Stock:
    """The targets of one crawl that aren't in the frontier yet.

    Args:
        run: the crawl, whose group has a backlog.
        workforce: who does the work.

    Thread-safe as far as its backlog is.
    """

    #: Targets of a host that are taken out in one go.
    BATCH = 64
    #: Whether workers are woken for what is put into the frontier; else who refills sees to that.
    WAKES = True
    _backlog: Any  # a HostBacklog, from which each kind of stock takes in a way of its own

    def __init__(self, run: Run, workforce: Workforce) -> None:
        self._run = run
        self._group = run.group
        self._inputs = run.group.inputs = InputHosts()  # what a handler adds names nothing, so that no page does
        self._workforce = workforce
        # Whether the backlog may hold targets of hosts that the frontier doesn't know to be there. Set after what it
        # speaks of was put, and taken back before it is looked for: so nothing is missed, and no lock is needed.
        self.has_strangers = False

    def __len__(self) -> int:
        """How many targets lie in the backlog."""
        return len(self._backlog)

    def count_of(self, host: str, most: int) -> int:
        """Return how many targets of a host lie in the backlog; so many are counted at most.

        Raises:
            CrawlPoolError: when the backlog can't be read.
        """
        return self._backlog.count(host, most) if self._backlog else 0

    def holds_only_held(self) -> bool:
        """Tell whether the backlog holds nothing but targets of hosts that an operator holds."""
        return not self._backlog or not self._backlog.hosts(1, without=on_hold(self._group.told))

    def refill(self) -> list[Leg]:
        """Move targets from the backlog to the frontier, as far as they help there. Runs no code of the user's.

        Returns:
            Those that the frontier doesn't take any more.

        Raises:
            CrawlPoolError: when the backlog can't be read.
        """
        group, frontier = self._group, self._workforce.frontier
        left: list[Leg] = []
        if group.hungry:
            for host, most in frontier.hungry_of(group).items():
                left += self._restock(host, most)
        is_dry = not group.queued and bool(self._backlog)  # nobody will name a host: look for any
        while (self.has_strangers or is_dry) and not group.is_full and not group.is_stopped:
            self.has_strangers = False  # first: what comes from now on sets it again
            # What is held comes out when it is released.
            without = on_hold(group.told) if is_dry else on_hold(group.told) | frontier.backed(group)
            strangers = self._backlog.hosts(_HOSTS, without)
            is_dry = False
            for host in strangers:
                if group.is_full:
                    break
                left += self._restock(host, PLACES)
            if strangers:
                self.has_strangers = True
        return left

    def _restock(self, host: str, most: int) -> list[Leg]:
        """Have the frontier have some more of a host; return what it doesn't take any more."""
        legs, is_last = self._legs_of(host, min(most, self.BATCH))
        is_taken = not legs or self._workforce.put_all(legs, None if is_last else host, wakes=self.WAKES)
        return [] if is_taken else legs

    def _legs_of(self, host: str, most: int) -> tuple[list[Leg], bool]:
        """Take targets of a host out of the backlog; return their legs, and whether they were its last."""
        raise NotImplementedError
