"""What a crawl has met so far: which targets, and how many of each host."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import can_ada

from crawlpool.digests import Digests
from crawlpool.leg import host_of
from crawlpool.models import Outcome, Result

if TYPE_CHECKING:
    from crawlpool.models import Target


def normal_form(url: str) -> str:
    """Return a URL as the WHATWG URL standard writes it, without its fragment; as it is where that can't read it.

    Spellings of one URL come out alike: case of scheme and host, default port, dot segments, backslashes, host names
    in Unicode, spaces and letters that must be escaped.
    """
    url = url.partition("#")[0]
    try:
        return str(can_ada.parse(url).href)
    except (ValueError, TypeError):  # TypeError: half of a surrogate pair
        return url


def digest_of(target: Target) -> int | None:
    """Return the digest of what is asked for by a target, evenly spread over 64 bits.

    ``None`` where that can't be told: its data can be anything, a file too.
    """
    # Among 100 million targets two fall together with a chance of 3 in 10,000: one page is missing then.
    key = f"{target.method} {normal_form(target.url)}"
    if target.params is not None or target.data is not None or target.headers is not None:
        try:
            headers = None if target.headers is None else sorted((k.lower(), v) for k, v in target.headers.items())
            data = target.data.hex() if isinstance(target.data, (bytes, bytearray)) else target.data
            key += json.dumps([target.params, data, headers], sort_keys=True)
        except (TypeError, ValueError, AttributeError, RecursionError):
            return None
    return digest_of_key(key)


def digest_of_key(key: str) -> int:
    """Return the digest of what is asked for, said as a text: ``GET`` and the URL's normal form for a plain target."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class Seen:
    """The targets of one crawl, each remembered by a digest, and the share that each host has had.

    Args:
        max_per_host: targets of one host at most; ``None`` for any number.
        remembers: whether targets are remembered at all.

    Not thread-safe: its owner's lock guards it.
    """

    def __init__(self, max_per_host: int | None, *, remembers: bool = True) -> None:
        self._max_per_host = max_per_host
        self._remembers = remembers
        self._digests = Digests()
        self._per_host: dict[str, int] = {}

    def duplicate_of(self, target: Target, ordinal: int = 0) -> int | None:
        """Remember a target, or return the ordinal of the input that asked for the same before.

        Args:
            target: the target.
            ordinal: which input it is, from 1; 0 for one that a handler added.

        Returns:
            ``None`` for a target that is new; 0 for one that a handler had added.
        """
        if not self._remembers:
            return None
        digest = digest_of(target)
        return None if digest is None else self._digests.add(digest, ordinal)

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
