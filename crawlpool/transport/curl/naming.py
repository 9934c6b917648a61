"""Transfers whose host is looked up before they begin: libcurl is handed addresses and never asks for a name."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlpool.transport.curl.transfer import Transfer
    from crawlpool.transport.resolver import Resolver


class Naming:
    """What is known of hosts, and who waits for a name. The I/O thread's.

    Args:
        resolver: which asks.
        answered: called, by any thread, with a transfer and what was found for it: addresses, or an exception.
    """

    def __init__(self, resolver: Resolver, answered: Callable[[Transfer, Any], None]) -> None:
        self._resolver = resolver
        self._answered = answered
        self.waiting: set[Transfer] = set()

    def has_addresses(self, transfer: Transfer, now: float) -> bool:
        """Give a transfer its addresses if they are known, else have them looked up; return whether they are known.

        Args:
            now: monotonic seconds.

        Raises:
            OSError: when the name is known not to resolve.
        """
        route = transfer.route
        known = self._resolver.cached(route.host, route.port)
        if known is not None:
            if len(known) != 1 or known[0] != route.host:
                transfer.addresses = known
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
            transfer.addresses = found
        return True

    def close(self) -> None:
        """Let the resolver go."""
        self._resolver.close()
