"""Which shard a host belongs to: a digest of its registrable domain, so that each host has one owner.

All hosts of one registrant lie in one shard: what they share (an address, a limit for the whole site, a redirect from
``example.org`` to ``www.example.org``) stays within one process.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import idna

from crawlpool.address import literal_of, plainly
from crawlpool.config import check, is_count
from crawlpool.suffixes import is_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crawlpool.suffixes import SuffixList

#: The most shards that a job has.
MOST_SHARDS = 9999
#: So many for each worker. With few a worker has none left while another has the last; each costs a ledger.
SHARDS_A_WORKER = 32
_MOST_HOSTS = 50_000  # whose shards are remembered


def default_shards(workers: int) -> int:
    """Return into how many shards a job is cut for so many workers: 32 for each, 9,999 at most."""
    return min(SHARDS_A_WORKER * workers, MOST_SHARDS)


def check_shards(count: object) -> None:
    """Raise ``ConfigError`` unless ``count`` is a number of shards that a job may have."""
    rule = f"a whole number, 1 to {MOST_SHARDS}"
    check(is_count(count) and count <= MOST_SHARDS, "shards", count, rule)  # type: ignore[operator]


def one_spelling(host: str) -> str:
    """Return a host as it is usually written, where it can be written in several ways: else it had several owners.

    A name in letters beyond ASCII becomes punycode (UTS 46, as in ``source.urls``); an address in another notation
    (``0x7f.1``, ``[0:0::1]``) what everybody writes, without brackets. What is neither stays as it is.

    Args:
        host: lower case, no port.
    """
    if not host.isascii() or "%" in host:
        host = plainly(host).lower()
        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except UnicodeError:
            return host
    literal = literal_of(host) if is_address(host) else None
    return host if literal is None else str(literal.address)


class Sharding:
    """Which shard each host belongs to.

    Args:
        count: how many shards there are.
        suffixes: the public suffix list by which registrable domains are told.

    Raises:
        ConfigError: for a number of shards that can't be.

    Thread-safe: no lock; two threads that ask for the same host at once reckon twice, and alike.
    """

    def __init__(self, count: int, suffixes: SuffixList) -> None:
        check_shards(count)
        self.count = count
        self._suffixes = suffixes
        self._shards: dict[str, int] = {}

    def shard_of(self, host: str) -> int:
        """Return the shard of a host, from 0.

        Args:
            host: as ``leg.host_of`` gives it: lower case, no port.
        """
        shard = self._shards.get(host)
        if shard is None:
            domain = self._suffixes.registrable_domain(one_spelling(host)).encode("utf-8", "backslashreplace")
            shard = int.from_bytes(hashlib.blake2b(domain, digest_size=8).digest(), "big") % self.count
            if len(self._shards) >= _MOST_HOSTS:
                self._shards.clear()
            self._shards[host] = shard
        return shard

    def shard_of_row(self, row: Sequence[Any]) -> int:
        """Return the shard of a row of the ledger (``ledger.store.Row``).

        One that has no host goes by what it asks for, so that the same again comes to the same shard; a bad line, which
        asks for nothing, by its ordinal.
        """
        host: str = row[1]
        if host:
            return self.shard_of(host)
        by = row[5] if row[5] is not None else row[0] or 0
        return int(by) % self.count
