"""Our own network being gone, told from hosts that are: then nothing is counted against anybody, and all wait."""

from __future__ import annotations

import collections
import re

#: So many requests in a row that couldn't connect or resolve, to hosts of so many domains, are an outage, if a host
#: that had answered before is among them.
FAILURES, DOMAINS = 50, 10
#: Seconds from one probe to the next.
PROBE_S = 10.0
#: Failures in a row from which on none is counted for now: it may turn out to be an outage.
SUSPICIOUS = 3
#: How often a request is excused on suspicion alone, and after how many seconds it is tried again.
EXCUSES, AGAIN_S = 5, 1.0

_ADDRESS = re.compile(r"[\d.]+|\[.*\]")


def domain_of(host: str) -> str:
    """Return what of a host's name counts as its domain: the last two labels, or the address.

    It is less than a registrable domain where a suffix has two labels: hosts seem closer to each other than they are,
    and it takes more of them for an outage.
    """
    return host if _ADDRESS.fullmatch(host) else ".".join(host.split(".")[-2:])


class Outage:
    """Tells whether our own network is gone. Times are of one monotonic clock.

    Not thread-safe: its owner's lock guards it.
    """

    __slots__ = ("_domains", "_failed", "_has_known", "is_on", "probe_at")

    def __init__(self) -> None:
        self._domains: set[str] = set()  # of hosts that answered; no more than are needed
        self._failed: collections.deque[str] = collections.deque(maxlen=FAILURES)  # domains, since the last answer
        self._has_known = False  # whether a host that had answered is among them
        self.is_on = False
        self.probe_at = 0.0

    @property
    def is_calm(self) -> bool:
        """Whether ``reached`` has nothing to learn from a host that has answered before."""
        return not self._failed

    @property
    def has_reached(self) -> bool:
        """Whether the last request that tells anything reached its host."""
        return bool(self._domains) and not self._failed

    def reached(self, host: str) -> bool:
        """Take it that a host was reached; return whether that ends an outage."""
        if len(self._domains) < DOMAINS:
            self._domains.add(domain_of(host))
        if not self._failed:
            return False
        self._failed.clear()
        self._has_known = False
        was_on, self.is_on = self.is_on, False
        return was_on

    def failed(self, host: str, now: float, *, is_known: bool) -> bool:
        """Take it that a host couldn't be reached; return whether that begins an outage.

        Args:
            host: which.
            now: the time.
            is_known: whether it had answered before.
        """
        self._failed.append(domain_of(host))
        self._has_known = self._has_known or is_known
        if self.is_on or not self._has_known or len(self._failed) < FAILURES or len(set(self._failed)) < DOMAINS:
            return False
        self.is_on, self.probe_at = True, now + PROBE_S
        return True

    def probe(self, now: float) -> None:
        """Note that a probe is being sent."""
        self.probe_at = now + PROBE_S

    def excuses(self, excuses: int) -> bool:
        """Tell whether a request that failed is to be tried again without being counted.

        Args:
            excuses: how often it was already.
        """
        if self.is_on:
            return True
        is_suspicious = self._has_known and len(self._failed) >= SUSPICIOUS and len(self._domains) >= DOMAINS
        return is_suspicious and excuses < EXCUSES
