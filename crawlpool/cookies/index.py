"""Cookies by domain, path and name, with their order of creation, expiry and use. No locks: its owner has one."""

from __future__ import annotations

import collections
import heapq
import math
import time
from typing import TYPE_CHECKING

from crawlpool.cookies.incoming import lies_over
from crawlpool.cookies.match import Domains, Key, Where, make_dict, matching, walk
from crawlpool.suffixes import registrable_domain

if TYPE_CHECKING:
    from collections.abc import Iterable
    from http.cookiejar import Cookie

#: Cookies of one domain, whether for its subdomains, too, or not.
MAX_OF_DOMAIN = 180
#: Cookies of all domains together, and characters of their names, values, domains and paths.
MAX_COOKIES, MAX_CHARACTERS = 100_000, 64 * 2**20

# An emptied domain keeps its place in the order, as in the standard library's jar, until so many were emptied.
MAX_HOLLOW = 1024

# Below this the heap isn't worth tidying.
_MIN_HEAP = 64


class _Mark:
    """What is known of a stored cookie beside what it says itself."""

    __slots__ = ("created", "size", "used")

    def __init__(self, created: int) -> None:
        self.created = self.used = created
        self.size = 0


class CookieIndex:
    """The cookies of one store.

    Setting, removing and dropping what expired cost O(log n) for n cookies; so does each cookie read for a request.

    Where a domain has more than 180 cookies, one of them goes: one without ``Secure`` first, and of these the one that
    was set or sent least recently. Where there are too many in all, the least recently used of all goes (RFC 6265bis,
    section 5.7). Those that have expired go before either.

    Args:
        domains: the cookies, by domain, path and name. The dict is taken over, not copied.
        max_cookies: how many there may be in all.

    Not thread-safe.
    """

    def __init__(self, domains: Domains, max_cookies: int = MAX_COOKIES) -> None:
        self.domains = domains
        self.max_cookies = max_cookies
        self.count = 0
        self._characters = 0
        self._ticks = 0  # grows with each cookie that is set or sent
        self._hollow = 0  # paths emptied since the last sweep
        # By key, the least recently used first.
        self._marks: collections.OrderedDict[Key, _Mark] = collections.OrderedDict()
        self._of_domain: collections.Counter[str] = collections.Counter()  # cookies of each domain, without its dot
        # The Secure ones of each registrable domain: what an insecure answer of a host in it must leave alone.
        self._secure: dict[str, dict[Key, Cookie]] = {}
        # The cookie that expires next comes first. Replaced and removed cookies stay in until they come up.
        self._heap: list[tuple[float, int, Cookie]] = []
        for cookie in list(walk(domains)):
            make_dict(cookie)
            self._note(cookie)
        self._fill_heap()

    def set(self, cookie: Cookie) -> None:
        """Store ``cookie`` in the place of one with the same domain, path and name, whose age it inherits."""
        make_dict(cookie)
        self.domains.setdefault(cookie.domain, {}).setdefault(cookie.path, {})[cookie.name] = cookie
        self._note(cookie)
        if cookie.expires is not None:
            heapq.heappush(self._heap, (cookie.expires, self._tick(), cookie))
            if len(self._heap) > max(_MIN_HEAP, 2 * self.count):
                self._fill_heap()
        bare = cookie.domain.removeprefix(".")
        if self._of_domain[bare] > MAX_OF_DOMAIN or self._is_full:
            self.purge()
        if self._of_domain[bare] > MAX_OF_DOMAIN:
            of_domain = (cookie for domain in (bare, f".{bare}") for cookie in self.within(domain, None))
            self.remove(*min(map(_key, of_domain), key=self._rank_to_go))
        while self._is_full and self._marks:
            self.remove(*next(iter(self._marks)))

    def take(self, cookie: Cookie, is_secure: bool) -> None:
        """Store a server's ``cookie``, unless it came by an insecure way and stands in that of a ``Secure`` one."""
        if is_secure or not self.in_the_way(cookie):
            self.set(cookie)

    def drop(self, cookie: Cookie, is_secure: bool) -> None:
        """Remove what a server's expired ``cookie`` names, under the same condition."""
        key = _key(cookie)
        if self.get(*key) is not None and (is_secure or not self.in_the_way(cookie)):
            self.remove(*key)

    def in_the_way(self, cookie: Cookie) -> list[Key]:
        """Return the keys of the ``Secure`` cookies that a server's insecure ``cookie`` would overwrite or shadow."""
        if not self._secure:
            return []
        kept = self._secure.get(registrable_domain(cookie.domain.removeprefix(".")), {})
        return [key for key, other in kept.items() if lies_over(cookie, other)]

    def going(self, where: Where, now_s: float) -> list[tuple[Key, Cookie]]:
        """Return what goes out with a request: longer paths first, then the older ones. They count as used now.

        Source: RFC 6265bis, section 5.8.3.
        """
        found = matching(self.domains, where, now_s)
        if not found:
            return found
        marks = self._marks
        used = self._tick()
        ranked = []
        for entry in found:
            mark = marks.get(entry[0])
            if mark is None:  # written into the dict from outside, past this class; it counts as the newest
                ranked.append((-len(entry[0][1]), math.inf, entry))
                continue
            mark.used = used
            marks.move_to_end(entry[0])
            ranked.append((-len(entry[0][1]), mark.created, entry))
        if len(ranked) > 1:
            ranked.sort(key=_order)
        return [entry for _, _, entry in ranked]

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
        self._forget((domain, path, name))
        if not names:
            self._hollow += 1
            if self._hollow > max(MAX_HOLLOW, self.count):
                self._sweep()

    def remove_path(self, domain: str, path: str) -> None:
        """Remove the cookies of one path in one domain; ``KeyError`` when there is no such path."""
        for name in self.domains[domain].pop(path):
            self._forget((domain, path, name))

    def remove_domain(self, domain: str) -> None:
        """Remove a domain with its cookies; ``KeyError`` when there is none."""
        for path, names in self.domains.pop(domain).items():
            for name in names:
                self._forget((domain, path, name))

    def clear(self) -> None:
        """Remove everything."""
        for container in (self.domains, self._marks, self._of_domain, self._secure, self._heap):
            container.clear()
        self.count = self._hollow = self._characters = 0

    def remove_all(self, keys: Iterable[Key]) -> None:
        """Remove the cookies of ``keys``; those not stored are passed over."""
        for key in keys:
            if self.get(*key) is not None:
                self.remove(*key)

    def named(self, name: str, domain: str | None, path: str | None) -> list[Key]:
        """Return the keys of all cookies called ``name``, within ``domain`` and ``path`` if given."""
        return [_key(c) for c in self.within(domain, path) if c.name == name]

    def within(self, domain: str | None, path: str | None) -> list[Cookie]:
        """Return the cookies of ``domain`` and ``path``, or of all where it is ``None``, in stored order."""
        domains = self.domains.values() if domain is None else (self.domains.get(domain, {}),)
        return [
            cookie
            for paths in domains
            for names in (paths.values() if path is None else (paths.get(path, {}),))
            for cookie in names.values()
        ]

    def purge(self) -> None:
        """Remove the cookies that have expired; costs O(log n) for each, and nothing when there is none."""
        heap = self._heap
        if not heap:
            return
        now_s = time.time()
        while heap and heap[0][0] <= now_s:
            cookie = heapq.heappop(heap)[2]
            if self.get(*_key(cookie)) is not cookie:
                continue
            if cookie.expires is not None and cookie.expires > now_s:  # its owner changed it after storing it
                heapq.heappush(heap, (cookie.expires, self._tick(), cookie))
            elif cookie.expires is not None:
                self.remove(*_key(cookie))

    @property
    def _is_full(self) -> bool:
        return self.count > self.max_cookies or self._characters > MAX_CHARACTERS

    def _rank_to_go(self, key: Key) -> tuple[bool, float]:
        cookie, mark = self.get(*key), self._marks.get(key)
        return cookie is not None and cookie.secure, math.inf if mark is None else mark.used

    def _note(self, cookie: Cookie) -> None:
        """Keep the books of a cookie that was stored."""
        key = _key(cookie)
        mark = self._marks.get(key)
        if mark is None:
            mark = self._marks[key] = _Mark(self._tick())
            self.count += 1
            self._of_domain[key[0].removeprefix(".")] += 1
        else:
            mark.used = self._tick()
            self._marks.move_to_end(key)
            self._unsecure(key)
        size = len(key[0]) + len(key[1]) + len(key[2]) + len(cookie.value or "")
        self._characters += size - mark.size
        mark.size = size
        if cookie.secure:
            self._secure.setdefault(registrable_domain(key[0].removeprefix(".")), {})[key] = cookie

    def _forget(self, key: Key) -> None:
        """Keep the books of a cookie that was removed."""
        mark = self._marks.pop(key, None)
        if mark is None:  # it was written past this class
            return
        self.count -= 1
        self._characters -= mark.size
        bare = key[0].removeprefix(".")
        self._of_domain[bare] -= 1
        if not self._of_domain[bare]:
            del self._of_domain[bare]
        self._unsecure(key)

    def _unsecure(self, key: Key) -> None:
        if self._secure:
            site = registrable_domain(key[0].removeprefix("."))
            kept = self._secure.get(site)
            if kept is not None and kept.pop(key, None) is not None and not kept:
                del self._secure[site]

    def _tick(self) -> int:
        self._ticks += 1
        return self._ticks

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


def _key(cookie: Cookie) -> Key:
    return cookie.domain, cookie.path, cookie.name


def _order(ranked: tuple[int, float, object]) -> tuple[int, float]:
    return ranked[:2]
