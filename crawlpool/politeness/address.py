"""An address that several hosts share: what is asked of it now, and when it may be asked next."""

from __future__ import annotations

import collections
import enum
import ipaddress
import math
import weakref
from typing import TYPE_CHECKING, Any, TypeAlias

from crawlpool.politeness.came import Came, How

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crawlpool.limits import HostLimits

_IP: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"


class Whereabouts(enum.Enum):
    """What is known of where a host is."""

    UNKNOWN = "unknown"
    SOUGHT = "sought"  # its name is being looked up
    FOUND = "found"
    LOST = "lost"  # its name could not be looked up; after the next request it is sought again
    FOREIGN = "foreign"  # a proxy finds it: its address is not ours to know

    @property
    def is_open(self) -> bool:
        """Whether an answer is still to come."""
        return self is Whereabouts.UNKNOWN or self is Whereabouts.SOUGHT


class Address:
    """The state of one address. Times are of one monotonic clock.

    It has a delay, or a number of requests at once, by the limits of whichever of its hosts is to be asked next; all
    else (Crawl-delay, cooldown, breaker) is a host's own.

    Args:
        ip: which.

    Not thread-safe: its owner's lock guards it.
    """

    __slots__ = ("__weakref__", "ended_at", "is_loopback", "let_in", "name", "parked", "rests_until", "running")

    def __init__(self, ip: _IP) -> None:
        self.name = str(ip)
        self.is_loopback = ip.is_loopback
        self.running = 0
        self.ended_at = -math.inf
        # The schedule's own: the lines that wait for it, by what it may bear for each; how many of them have their turn
        # now; and when it looks at the others again.
        self.parked: dict[tuple[float, int | None], collections.deque[Any]] = {}
        self.let_in = 0
        self.rests_until = -math.inf

    def is_bound_by(self, limits: HostLimits) -> bool:
        """Tell whether the limits of one of its hosts are its own as well."""
        return limits.per_ip and not (limits.loopback_exempt and self.is_loopback)

    def may_start_at(self, limits: HostLimits) -> float:
        """Return the time from which on a request may be sent; infinity while one that runs has to end first."""
        if not self.running:
            return self.ended_at + limits.delay_s if limits.delay_s else -math.inf
        return math.inf if limits.delay_s or self.running >= _most(limits) else -math.inf

    def room(self, limits: HostLimits, now: float) -> float:
        """Return how many requests may be sent beside those for which lines were let in."""
        if limits.delay_s:
            return 0 if self.let_in or self.may_start_at(limits) > now else 1
        return _most(limits) - self.running - self.let_in

    def start(self) -> None:
        """Count a request that is about to be sent."""
        self.running += 1

    def end(self, came: Came, now: float) -> None:
        """Take what came of a request."""
        self.running -= 1
        if came.how is not How.UNSENT:
            self.ended_at = now

    def __repr__(self) -> str:
        return f"<Address {self.name}: {self.running} running>"


class Addresses:
    """The addresses of the hosts that are known, each once. One lives as long as one of its hosts is remembered.

    Not thread-safe: its owner's lock guards it.
    """

    def __init__(self) -> None:
        self.ended_at = -math.inf  # when the last answer of one that isn't known yet ended, as far as is known
        self._known: weakref.WeakValueDictionary[str, Address] = weakref.WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, found: Iterable[str]) -> Address | None:
        """Return the one address that stands for several of one name: hosts that have the same share it.

        Args:
            found: what the name was resolved to, in any order; what is no IP address isn't looked at.
        """
        ips = [ip for text in found if (ip := _ip_of(text)) is not None]
        if not ips:
            return None
        least = min(ips, key=lambda ip: (ip.version, int(ip)))
        known = self._known.get(str(least))
        if known is None:
            known = self._known[str(least)] = Address(least)
            known.ended_at = self.ended_at
        return known


def _most(limits: HostLimits) -> float:
    return math.inf if limits.concurrency is None else limits.concurrency


def _ip_of(text: str) -> _IP | None:
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip
