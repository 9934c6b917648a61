"""What a crawl has met so far: which targets, and how many of each host."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from crawlpool.leg import host_of
from crawlpool.models import Outcome, Result

if TYPE_CHECKING:
    from crawlpool.models import Target

# Among 100 million targets two fall together with a chance of 3 in 10,000: one page is missing then. Sixteen bytes
# would cost a fifth more memory for each target.
_DIGEST_BYTES = 8


class Seen:
    """The targets of one crawl, each remembered by a digest, and the share that each host has had.

    Args:
        max_per_host: targets of one host at most; ``None`` for any number.

    Not thread-safe: its owner's lock guards it.
    """

    def __init__(self, max_per_host: int | None) -> None:
        self._max_per_host = max_per_host
        self._digests: set[bytes] = set()
        self._per_host: dict[str, int] = {}

    @property
    def counts_hosts(self) -> bool:
        """Whether a host has a share at all; without one there is nothing to guard."""
        return self._max_per_host is not None

    def is_new(self, target: Target) -> bool:
        """Remember a target; return whether it is met for the first time: its method and URL, without the fragment."""
        key = hashlib.blake2b(
            f"{target.method} {target.url.partition('#')[0]}".encode("utf-8", "surrogatepass"),
            digest_size=_DIGEST_BYTES,
        ).digest()
        if key in self._digests:
            return False
        self._digests.add(key)
        return True

    def refusal_of(self, target: Target) -> Result | None:
        """Count a target for its host; return its result if that has had its share."""
        if self._max_per_host is None:
            return None
        host = host_of(target.url)
        count = self._per_host[host] = self._per_host.get(host, 0) + 1
        return Result(target, Outcome.SKIPPED, "max_per_host") if count > self._max_per_host else None

    def give_back(self, target: Target) -> None:
        """Take the count of a target back: it is counted when it comes again."""
        if self._max_per_host is not None:
            self._per_host[host_of(target.url)] -= 1
