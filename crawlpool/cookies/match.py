"""Which stored cookies go out with one request, by RFC 6265bis: host, path and scheme. No state, no lock.

A cookie is kept under its domain as the standard library writes it: ``www.example.com``, or ``.example.com`` where
subdomains count. One that is not ``domain_specified`` and has no dot before it is host-only. Two kinds of cookies come
from requests alone, never from a server: with the domain "" one goes to every host, and a plain jar writes
``localhost.local`` for ``localhost``.
"""

from __future__ import annotations

import functools
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from requests.cookies import MockRequest
from requests.structures import CaseInsensitiveDict

from crawlpool.suffixes import is_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from http.cookiejar import Cookie

#: What names a cookie in a jar (RFC 6265bis, section 5.7): domain, path and name.
Key: TypeAlias = "tuple[str, str, str]"
#: Cookies as ``http.cookiejar`` keeps them: by domain, path and name, each level in the order of arrival.
Names: TypeAlias = "dict[str, Cookie]"
Paths: TypeAlias = "dict[str, Names]"
Domains: TypeAlias = "dict[str, Paths]"

# Scheme, host and path of a URL, with the authority cut as urllib3 cuts it: at a backslash, too.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(?:[^\\/?#]*@)?(\[[^\]\\/?#@]*\]|[^\\/?#@:\[\]]*)(?::[0-9]*)?([^?#]*)")
#: The attribute under which a cookie keeps the value that came, where requests shows it in another way.
OCTETS = "crawlpool-octets"

# CPython 3.11 makes the dict of an object when somebody first asks for it, as copy and pickle do. Of two threads that
# ask at once each may get its own, if the garbage collector runs just then and calls Python code (``gc.callbacks``, a
# finalizer): then what the object holds is freed twice, and the process dies, then or later.
_MAKES_DICTS_LATE = sys.version_info[:2] == (3, 11)

_LOOPBACK = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|\[::1\]")
_SECURE = frozenset(("https", "wss"))

# DNS has no longer names (RFC 1035: 253 characters): of longer ones no suffixes are made.
_MAX_SUFFIXED = 253


class Where(NamedTuple):
    """What of a request's URL decides about cookies.

    Args:
        host: lower case, without port, an IPv6 address in brackets.
        path: as it stands in the URL, at least ``/``.
        is_secure: whether nobody on the way can read or change the request: https, or http to this very machine
            (``localhost``, ``127.0.0.0/8``, ``[::1]``), as curl and browsers have it.
    """

    host: str
    path: str
    is_secure: bool


def make_dict(thing: object) -> None:
    """Make ready what threads are going to share: have its dict made now, by one of them."""
    if _MAKES_DICTS_LATE:
        getattr(thing, "__dict__", None)


def where_of(request: Any) -> Where:
    """Return what counts of a request.

    Args:
        request: a URL, a prepared request, or what ``http.cookiejar`` takes as a request. A ``Host`` header that
            somebody set by hand stands in for the URL's host, as in requests.

    Raises:
        ValueError: for a URL that can't be split.
    """
    url = request if isinstance(request, str) else _url_of(request)
    found = _URL.match(url)
    if found is not None:
        scheme, host, path = found.groups()
    else:
        parts = urlsplit(url)
        scheme, host, path = parts.scheme, parts.hostname or "", parts.path
    host = host.lower()
    return Where(host, path if path[:1] == "/" else "/", scheme.lower() in _SECURE or _is_here(host))


def header_of(request: Any, name: str) -> Any:
    """Return a header of a prepared request, or ``None``; ``name`` in lower case.

    requests' dict raises and catches an exception for each header that isn't there, which is most of what that costs.
    """
    headers = request.headers
    if type(headers) is CaseInsensitiveDict:
        entry = headers._store.get(name)
        return None if entry is None else entry[1]
    return headers.get(name.title())


def _url_of(request: Any) -> str:
    ask = getattr(request, "get_full_url", None)
    if ask is None and header_of(request, "host"):
        ask = MockRequest(request).get_full_url
    return str(request.url if ask is None else ask())


@functools.lru_cache(maxsize=4096)
def _is_here(host: str) -> bool:
    return _LOOPBACK.fullmatch(host) is not None


@functools.lru_cache(maxsize=4096)
def candidates(host: str) -> tuple[tuple[str, bool], ...]:
    """Return every cookie domain that can match with ``host``, and whether it is the host's own.

    These are the host and each name above it that begins at a label, with and without the dot before it, and "", the
    domain of cookies that go everywhere. Nothing is above an address (RFC 6265bis, section 5.1.3).
    """
    found: dict[str, bool] = {"": True, host: True}
    if host == "localhost":
        found["localhost.local"] = True  # as a plain jar has it; of other hosts it can't be told from a true name
    if is_address(host):
        return tuple(found.items())
    found[f".{host}"] = True
    at = host.find(".") if len(host) <= _MAX_SUFFIXED else -1
    while 0 <= at < len(host) - 1:
        found.setdefault(host[at:], False)
        found.setdefault(host[at + 1 :], False)
        at = host.find(".", at + 1)
    return tuple(found.items())


def path_matches(path: str, asked: str) -> bool:
    """Tell whether cookies of ``path`` go to a request for ``asked`` (RFC 6265bis, section 5.1.4)."""
    if asked == path:
        return True
    return asked.startswith(path) and (path.endswith("/") or asked[len(path) : len(path) + 1] == "/")


def domain_matches(host: str, domain: str) -> bool:
    """Tell whether ``host`` is ``domain`` or lies under it; both in lower case (RFC 6265bis, section 5.1.3)."""
    return host == domain or (host.endswith(f".{domain}") and not is_address(host))


def is_host_only(cookie: Cookie) -> bool:
    """Tell whether subdomains don't get ``cookie``."""
    return not (cookie.domain_specified or cookie.domain.startswith("."))


def matching(domains: Mapping[str, Paths], where: Where, now_s: float) -> list[tuple[Key, Cookie]]:
    """Return the cookies that may go out with a request, and their keys (RFC 6265bis, section 5.8.3, step 1)."""
    found = []
    for domain, is_own in candidates(where.host):
        paths = domains.get(domain)
        if not paths:
            continue
        for path, names in paths.items():
            if not path_matches(path, where.path):
                continue
            for name, cookie in names.items():
                if (
                    (is_own or not is_host_only(cookie))
                    and (where.is_secure or not cookie.secure)
                    and (cookie.expires is None or cookie.expires > now_s)
                ):
                    found.append(((domain, path, name), cookie))
    return found


def line_of(cookies: Iterable[Cookie]) -> str | None:
    """Return the ``Cookie`` header's value for ``cookies``; ``None`` for no header (RFC 6265bis, section 5.8.3).

    One without a name is its value alone, and so is one without a value, which is how a plain jar keeps it.
    """
    return "; ".join([_pair(cookie) for cookie in cookies]) or None


def as_shown(value: str) -> str:
    """Return a value as requests shows it: where quotes are around it, escaped ones in it are taken out."""
    return value.replace('\\"', "") if value.startswith('"') and value.endswith('"') else value


def octets_of(cookie: Cookie) -> str | None:
    """Return a cookie's value as its server sent it, which requests shows in another way; ``None`` for no value."""
    sent: str | None = cookie._rest.get(OCTETS) if cookie._rest else None  # type: ignore[attr-defined]
    return cookie.value if sent is None or as_shown(sent) != cookie.value else sent  # else it was given another one


def _pair(cookie: Cookie) -> str:
    value = octets_of(cookie)
    return f"{cookie.name}={value}" if cookie.name and value is not None else value or cookie.name


def walk(domains: Domains) -> Iterator[Cookie]:
    """Yield each cookie of ``domains``, in stored order."""
    for paths in domains.values():
        for names in paths.values():
            yield from names.values()


def copy_paths(paths: Paths) -> Paths:
    """Return a copy of ``paths`` with the very same cookie objects."""
    return {path: dict(names) for path, names in paths.items()}
