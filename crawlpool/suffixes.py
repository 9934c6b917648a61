"""Which names belong to one registrant, by the Public Suffix List: for cookies, and for shards.

The list is that of publicsuffix.org as the library ``publicsuffixlist`` ships it: its ICANN section and its private one
(``github.io``), with wildcards and exceptions. Nothing is ever downloaded. It is read at the first question that needs
it; each answer is remembered.
"""

from __future__ import annotations

import functools
import io
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# As WHATWG's URL standard tells (section 3.5): a host whose last label is a number is an IPv4 address or invalid.
_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?\Z")

#: A name that is longer is no name of DNS (RFC 1035, section 2.3.4), and nobody's domain is sought in it.
MAX_NAME = 253


def is_address(host: str) -> bool:
    """Tell whether ``host`` is an IP address, in whatever notation, and so has no domain above it.

    Args:
        host: as in a URL, an IPv6 address with its brackets or without.

    Thread-safe.
    """
    return ":" in host or host.startswith("[") or _NUMBER.search(host) is not None


@functools.lru_cache(maxsize=8192)
def registrable_domain(host: str) -> str:
    """Return what ``host`` counts under: the public suffix that it lies in, and one label more.

    An address, and a name that has no registrable domain (``localhost``, ``co.uk``), counts as itself.

    Args:
        host: as in a URL, without a port; letters of any case, a dot at its end or none.

    Thread-safe.
    """
    return _domain_of(host, _list)


@functools.lru_cache(maxsize=8192)
def is_public_suffix(name: str) -> bool:
    """Tell whether anybody can register a name right under ``name``: ``com``, ``co.uk``, ``github.io``.

    A name without dots is always one; so the list says by its default rule ``*``.

    Args:
        name: in ASCII (``xn--…``) or not, of any case, a dot at its end or none.

    Thread-safe.
    """
    name = name.rstrip(".").lower()
    if not name or is_address(name) or len(name) > MAX_NAME:
        return False
    return "." not in name or bool(_list().is_public(name))


class SuffixList:
    """A public suffix list of one's own, such as the one that a job has kept: no newer library changes its answers.

    Args:
        data: the list, as publicsuffix.org has it.

    Thread-safe. Nothing is remembered: each answer takes some microseconds.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._list = functools.cache(self._parsed)  # at the first question: to read it takes 50 ms

    def registrable_domain(self, host: str) -> str:
        """Return what ``host`` counts under by this list, as the function of that name does."""
        return _domain_of(host, self._list)

    def _parsed(self) -> Any:
        from publicsuffixlist import PublicSuffixList

        return PublicSuffixList(io.BytesIO(self._data))


def installed_list() -> bytes:
    """Return the public suffix list that the library ships, as it lies there: some 330 kB."""
    import importlib.resources  # here: it takes milliseconds, and hardly anybody asks

    return importlib.resources.files("publicsuffixlist").joinpath("public_suffix_list.dat").read_bytes()


def _domain_of(host: str, rules: Callable[[], Any]) -> str:
    name = host.rstrip(".").lower()
    if is_address(name) or "." not in name or len(name) > MAX_NAME:
        return name
    found = rules().privatesuffix(name)
    return name if found is None else str(found)


@functools.lru_cache(maxsize=1)
def _list() -> Any:
    # Here: a crawl that meets no Domain attribute needs none of its 10,000 rules. Two threads may read it at once, and
    # one of the two is then forgotten.
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()
