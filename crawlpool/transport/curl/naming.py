"""Transfers whose host is looked up before they begin: libcurl is handed addresses and never asks for a name."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from crawlpool.errors import BlockedAddress

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlpool.transport.curl.transfer import Transfer
    from crawlpool.transport.reach import Reach
    from crawlpool.transport.resolver import Resolver


class Naming:
    """What is known of hosts, and who waits for a name. The I/O thread's.

    Args:
        resolver: which asks.
        reach: the rules of addresses.
        answered: called, by any thread, with a transfer and what was found for it: addresses, or an exception.
    """

    def __init__(self, resolver: Resolver, reach: Reach, answered: Callable[[Transfer, Any], None]) -> None:
        self._resolver = resolver
        self._reach = reach
        self._answered = answered
        self.waiting: set[Transfer] = set()

    def has_addresses(self, transfer: Transfer, now: float) -> bool:
        """Give a transfer its addresses if they are known, else have them looked up; return whether they are known.

        Args:
            now: monotonic seconds.

        Raises:
            OSError: when the name is known not to resolve.
            BlockedAddress: when it leads only to addresses that must not be reached.
        """
        route = transfer.route
        known = self._resolver.cached(route.host, route.port)
        if known is not None:
            if len(known) != 1 or known[0] != route.host:
                transfer.addresses = self._fitting(transfer, known)
            return True
        self.waiting.add(transfer)
        transfer.dns_s = -now
        limit = transfer.way.connect_s
        transfer.connect_at = math.inf if limit is None else now + limit
        self._resolver.ask(route.host, route.port, lambda found: self._answered(transfer, found))
        return False

    def take(self, transfer: Transfer, found: Any) -> bool:
        """Take what was found; return whether the transfer still waited for it.

        An exception becomes the transfer's error.
        """
        if transfer not in self.waiting:
            return False
        self.waiting.discard(transfer)
        transfer.dns_s += time.monotonic()
        if isinstance(found, BaseException):
            transfer.error = found
        else:
            try:
                transfer.addresses = self._fitting(transfer, found)
            except BlockedAddress as error:
                transfer.error = error
        return True

    def _fitting(self, transfer: Transfer, found: tuple[str, ...]) -> tuple[str, ...]:
        if transfer.way.proxy is not None:  # the user's own
            return found
        return self._reach.fit(transfer.route.host, found, transfer.grant, transfer.exchange.request)

    def close(self) -> None:
        """Let the resolver go."""
        self._resolver.close()
