"""Cookies by domain, path and name, with the order of arrival and the order of expiry. No locks: its owner has one."""

from __future__ import annotations

import heapq
import math
import time
from typing import TYPE_CHECKING

from crawlpool.cookies.match import Domains, Paths, copy_paths, settle, walk

if TYPE_CHECKING:
    from collections.abc import Iterable
    from http.cookiejar import Cookie

    from crawlpool.cookies.incoming import Key

# An emptied domain keeps its place in the order, as in the standard library's jar, until so many were emptied.
MAX_HOLLOW = 1024

# Below this the heap isn't worth tidying.
_MIN_HEAP = 64


class CookieIndex:
    """The cookies of one store.

    Setting, removing and dropping what expired cost O(log n) for n cookies; so does each cookie read for a request.

    Args:
        domains: the cookies, by domain, path and name. The dict is taken over, not copied.

    Not thread-safe.
    """

    def __init__(self, domains: Domains) -> None:
        self.domains = domains
        self.count = sum(1 for _ in walk(domains))
        self._rank = {domain: place for place, domain in enumerate(domains)}  # the place in the order of arrival
        self._ticks = len(domains)  # grows with each arrival of a domain or an expiry date
        self._hollow = 0  # paths emptied since the last sweep
        # The cookie that expires next comes first. Replaced and removed cookies stay in until they come up.
        self._heap: list[tuple[float, int, Cookie]] = []
        self._fill_heap()

    @property
    def next_rank(self) -> int:
        """The place that the next new domain gets, or a lower one that none has."""
        return self._ticks

    def set(self, cookie: Cookie) -> None:
        """Store ``cookie`` in the place of one with the same domain, path and name."""
        settle(cookie)
        paths = self.domains.get(cookie.domain)
        if paths is None:
            paths = self.domains[cookie.domain] = {}
            self._rank[cookie.domain] = self._tick()
        names = paths.setdefault(cookie.path, {})
        if cookie.name not in names:
            self.count += 1
        names[cookie.name] = cookie
        if cookie.expires is not None:
            heapq.heappush(self._heap, (cookie.expires, self._tick(), cookie))
            if len(self._heap) > max(_MIN_HEAP, 2 * self.count):
                self._fill_heap()

    def get(self, domain: str, path: str, name: str) -> Cookie | None:
        """Return the cookie stored under these, or ``None``."""
        return self.domains.get(domain, {}).get(path, {}).get(name)

    def remove(self, domain: str, path: str, name: str) -> None:
        """Remove one cookie.

        Raises:
            KeyError: when it isn't stored.
        """
        names = self.domains[domain][path]
        del names[name]
        self.count -= 1
        if not names:
            self._hollow += 1
            if self._hollow > max(MAX_HOLLOW, self.count):
                self._sweep()

    def remove_path(self, domain: str, path: str) -> None:
        """Remove the cookies of one path in one domain; ``KeyError`` when there is no such path."""
        self.count -= len(self.domains[domain].pop(path))

    def remove_domain(self, domain: str) -> None:
        """Remove a domain with its cookies; ``KeyError`` when there is none."""
        self.count -= sum(map(len, self.domains.pop(domain).values()))
        self._rank.pop(domain, None)

    def clear(self) -> None:
        """Remove everything."""
        self.domains.clear()
        self._rank.clear()
        self._heap.clear()
        self.count = self._hollow = 0

    def remove_all(self, keys: Iterable[Key]) -> None:
        """Remove the cookies of ``keys``; those not stored are passed over."""
        for key in keys:
            if self.get(*key) is not None:
                self.remove(*key)

    def named(self, name: str, domain: str | None, path: str | None) -> list[Key]:
        """Return the keys of all cookies called ``name``, within ``domain`` and ``path`` if given."""
        return [(c.domain, c.path, c.name) for c in self.within(domain, path) if c.name == name]

    def within(self, domain: str | None, path: str | None) -> list[Cookie]:
        """Return the cookies of ``domain`` and ``path``, or of all where it is ``None``, in stored order."""
        domains = self.domains.values() if domain is None else (self.domains.get(domain, {}),)
        return [
            cookie
            for paths in domains
            for names in (paths.values() if path is None else (paths.get(path, {}),))
            for cookie in names.values()
        ]

    def part(self, candidates: Iterable[str] | None) -> list[tuple[float, str, Paths]]:
        """Return (rank, domain, copied paths) of the stored domains among ``candidates``, or of all, in order."""
        domains = self.domains
        found = domains if candidates is None else [domain for domain in candidates if domain in domains]
        # A domain without a rank was written into the dict from outside, past this class; it counts as the newest.
        part = [(self._rank.get(domain, math.inf), domain, copy_paths(domains[domain])) for domain in found]
        part.sort(key=lambda entry: entry[0])
        return part

    def purge(self) -> None:
        """Remove the cookies that have expired; costs O(log n) for each, and nothing when there is none."""
        heap = self._heap
        if not heap:
            return
        now_s = time.time()
        while heap and heap[0][0] <= now_s:
            cookie = heapq.heappop(heap)[2]
            if self.get(cookie.domain, cookie.path, cookie.name) is not cookie:
                continue
            if cookie.expires is not None and cookie.expires > now_s:  # its owner changed it after storing it
                heapq.heappush(heap, (cookie.expires, self._tick(), cookie))
            elif cookie.expires is not None:
                self.remove(cookie.domain, cookie.path, cookie.name)

    def _tick(self) -> int:
        self._ticks += 1
        return self._ticks - 1

    def _fill_heap(self) -> None:
        self._heap = [(c.expires, self._tick(), c) for c in walk(self.domains) if c.expires is not None]
        heapq.heapify(self._heap)

    def _sweep(self) -> None:
        """Drop emptied paths and domains, which would else pile up for ever in a long crawl."""
        self._hollow = 0
        for domain, paths in list(self.domains.items()):
            for path in [path for path, names in paths.items() if not names]:
                del paths[path]
            if not paths:
                self.remove_domain(domain)
