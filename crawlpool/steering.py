"""The operator's side of a crawl: single hosts held, released, skipped or asked more slowly while it runs."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

from crawlpool.config import check
from crawlpool.errors import CrawlPoolError, InputError
from crawlpool.events import HostOrdered, emit, logger
from crawlpool.leg import host_of
from crawlpool.politeness import NOTHING, Order, Told
from crawlpool.redact import hide
from crawlpool.source.urls import normalize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlpool.books import Books
    from crawlpool.control import Control, HostsNow
    from crawlpool.intake import Intake
    from crawlpool.leg import Group
    from crawlpool.worker import Workforce

_log = logger("crawl")
_NO_NAME = frozenset("/\\?#@ \t")


@dataclasses.dataclass(frozen=True)
class HostStanding:
    """How a host stands in a crawl of which an operator has said something.

    Args:
        host: its name.
        is_held: whether the operator holds it.
        is_skipped: whether they skip it.
        delay_s: the delay that they gave to it; ``None`` for the crawl's own limits.
        waiting: targets that wait for it; where it is ``COUNTED`` there may be more.
        is_known: whether the crawl has met it: a target of it waits, or it was asked not long ago.
    """

    #: So many targets in the backlog are counted at most.
    COUNTED = 100_000

    host: str
    is_held: bool
    is_skipped: bool
    delay_s: float | None
    waiting: int
    is_known: bool


def host_named(text: object) -> str:
    """Return the host that somebody names, as the frontier tells hosts apart: lower case, punycode, no port.

    Raises:
        ConfigError: when it is no host's name; one with a scheme, a port or a login isn't.
    """
    wanted = "a host's name or address, without scheme and port"
    check(isinstance(text, str), "host", text, wanted)
    name = str(text).strip()
    if name.count(":") > 1 and not name.startswith("["):
        name = f"[{name}]"  # an IPv6 address, which stands in brackets in URLs
    is_bare = not _NO_NAME & set(name) and (":" not in name or (name.startswith("[") and name.endswith("]")))
    try:
        host = host_of(normalize(f"http://{name}/")) if name and is_bare else ""
    except InputError:
        host = ""
    check(bool(host), "host", hide(str(text)), wanted)
    return host


class Steered:
    """What ``Crawl`` has for an operator.

    Thread-safe: each method may be called from any thread, before the crawl runs and while it does.
    """

    group: Group
    _control: Control
    _intake: Intake
    _books: Books
    _workforce: Workforce
    _outstanding: int

    def hold(self, host: str) -> HostStanding:
        """Send nothing more to a host; what is under way is finished, and what there is of it waits.

        When nothing is left but what waits for held hosts, that ends as ``skipped``, reason ``held``.

        Args:
            host: its name or address, without a port; it counts also for one that the crawl meets later.

        Returns:
            How the host stands now.

        Raises:
            ConfigError: when it is no host's name.
        """
        return self._ordered(host, "hold")

    def release(self, host: str) -> HostStanding:
        """Let a host go on: no hold, of an operator or for its blocks, no pause after a refusal, no giving up counts.

        One that was skipped is asked again for what comes from now on.

        Args:
            host: as ``hold`` takes it.

        Returns:
            How the host stands now.

        Raises:
            ConfigError: when it is no host's name.
        """
        return self._ordered(host, "release")

    def skip(self, host: str) -> HostStanding:
        """Have all that waits for a host, and all that comes, end as ``skipped``, reason ``host_skipped``.

        Args:
            host: as ``hold`` takes it.

        Returns:
            How the host stands now.

        Raises:
            ConfigError: when it is no host's name.
        """
        return self._ordered(host, "skip")

    def set_delay(self, host: str, delay_s: float | None) -> HostStanding:
        """Have a host asked one request at a time, with a delay of its own in place of the crawl's limits.

        Args:
            host: as ``hold`` takes it.
            delay_s: seconds from the end of an answer to the next request, which a ``Crawl-delay`` lengthens; 0 for no
                delay, with as many at once as the crawl's limits allow; ``None`` for the crawl's limits again.

        Returns:
            How the host stands now.

        Raises:
            ConfigError: when it is no host's name, or the delay can't be.
        """
        return self._ordered(host, "delay", delay_s)

    def hosts_told(self) -> tuple[HostStanding, ...]:
        """Return how each host stands of which an operator has said something, by name."""
        return tuple(self._standing(host, told) for host, told in sorted(self._control.told().items()))

    def orders(self) -> dict[str, dict[str, Any]]:
        """Return what an operator has said, by host, JSON-ready: ``order`` (go, hold or skip) and ``delay_s``."""
        return {host: told.fields for host, told in sorted(self._control.told().items())}

    def restore_orders(self, orders: Mapping[str, Mapping[str, Any]]) -> None:
        """Have hosts stand as ``orders`` said: what was said in an earlier process goes on to hold.

        Args:
            orders: as ``orders`` has them; of other hosts what was said stays.

        Raises:
            ConfigError: when they aren't such; nothing is restored then.
        """
        self._control.restore(self.told_of(orders))
        self._refill()

    @staticmethod
    def told_of(orders: Mapping[str, Mapping[str, Any]]) -> dict[str, Told]:
        """Return what ``orders`` say, checked.

        Raises:
            ConfigError: when they aren't such.
        """
        return {host_named(host): Told.of(fields) for host, fields in orders.items()}

    def hosts_now(self) -> HostsNow:
        """Return which hosts the crawl leaves alone by itself, and which it asks last."""
        return self._control.hosts_now(self._books.unreachable())

    def _ordered(self, given: str, action: str, delay_s: float | None = None) -> HostStanding:
        host = host_named(given)
        is_known = self._control.knows(host)
        if action == "delay":
            told = self._control.delay(host, delay_s)
        elif action == "release":
            told = self._control.release(host)
        else:
            told = self._control.order(host, Order.HOLD if action == "hold" else Order.SKIP)
        try:
            standing = self._standing(host, told, is_known=is_known)  # before any of it goes
        finally:
            self._refill()
        emit(_log, "warning", HostOrdered(host, action, told.delay_s, standing.waiting))
        return standing

    def _standing(self, host: str, told: Told = NOTHING, *, is_known: bool = False) -> HostStanding:
        waiting = self._control.waiting(host) + self._intake.count_of(host, HostStanding.COUNTED)
        is_known = is_known or waiting > 0 or self._control.knows(host) or self._books.knows(host)
        return HostStanding(host, told.is_held, told.is_skipped, told.delay_s, waiting, is_known)

    def _end_holds(self) -> None:
        """End the holds when nothing else is left: no host is asked, and nothing waits but what is held."""
        if not self.group.told:
            return
        outstanding = self._outstanding
        # Each of these could change meanwhile. But where nothing runs and nothing else waits, nobody is there to do it
        # but an operator, who comes in time or too late, and who adds from outside: then the numbers don't agree.
        if self.group.queued or self._workforce.running(self):  # type: ignore[arg-type]
            return
        with contextlib.suppress(CrawlPoolError):  # the disk's: who refills from there tells of it
            if not self._intake.holds_only_held():
                return
            waiting = self._control.on_hold() + len(self._intake)
            if waiting == outstanding == self._outstanding and self._control.end_holds():
                self._refill()

    def _refill(self) -> None:
        raise NotImplementedError
