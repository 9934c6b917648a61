"""Which stored cookies go out with one request: where to look for them, and what the policy says of each.

The rules are those of ``http.cookiejar`` (a loose RFC 6265, sections 5.1.3, 5.1.4 and 5.4); here is only a cheaper way
to the same answers. Nothing in this module has state or takes a lock.
"""

from __future__ import annotations

import functools
import http.cookiejar
import re
import sys
from http.cookiejar import Cookie, CookiePolicy, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Cookies as ``http.cookiejar`` keeps them: by domain, path and name, each level in the order of arrival.
Names: TypeAlias = "dict[str, Cookie]"
Paths: TypeAlias = "dict[str, Names]"
Domains: TypeAlias = "dict[str, Paths]"

_PORT = re.compile(r":\d+$", re.ASCII)

# The request-host of a request, by the standard library's own reading of it (RFC 2965, section 1).
request_host: Any = http.cookiejar.request_host  # type: ignore[attr-defined]

# DNS has no longer names (RFC 1035: 253 characters), but userinfo counts here. Of longer ones no suffixes are made.
_MAX_INDEXED_HOST = 1024

# Methods of the standard policy whose outcome _StandardRules works out by itself. A policy object that has any of
# them replaced (a subclass has another type, so this is about attributes set on the object) is asked instead.
_ASKED = frozenset(
    (
        "domain_return_ok",
        "path_return_ok",
        "return_ok",
        "return_ok_version",
        "return_ok_verifiability",
        "return_ok_secure",
        "return_ok_expires",
        "return_ok_port",
        "return_ok_domain",
        "is_blocked",
        "is_not_allowed",
    )
)


class Rules(Protocol):
    """What decides about the cookies of one request."""

    def domain_ok(self, domain: str) -> bool:
        """Tell whether cookies of ``domain`` may go out."""

    def path_ok(self, path: str) -> bool:
        """Tell whether cookies of ``path`` may go out."""

    def cookie_ok(self, cookie: Cookie) -> bool:
        """Tell whether this cookie may go out."""


def host_of(url: str) -> str:
    """Return the request-host of ``url`` as ``http.cookiejar`` sees it: lower case, without port.

    Raises:
        ValueError: for a URL that can't be split.
    """
    return _PORT.sub("", urlsplit(url).netloc, count=1).lower()


def candidate_domains(host: str) -> tuple[str, ...] | None:
    """Return every cookie domain that the standard policy can match with ``host``; ``None`` for a host too long.

    See RFC 6265, section 5.1.3. The candidates are each suffix that begins at a label, with and without the leading
    dot, the same of ``host.local`` for a host without dots (RFC 2965's effective host name), and "", the domain of
    cookies that go everywhere.
    """
    return _suffixes(host) if len(host) <= _MAX_INDEXED_HOST else None


@functools.lru_cache(maxsize=4096)
def _suffixes(host: str) -> tuple[str, ...]:
    found: dict[str, None] = {"": None}
    for name in (host, host if "." in host else f"{host}.local"):
        dotted = name if name.startswith(".") else f".{name}"
        at = 0
        while at >= 0:
            found[dotted[at:]] = None
            found[dotted[at + 1 :]] = None
            at = dotted.find(".", at + 1)
    return tuple(found)


def is_indexable(policy: CookiePolicy) -> bool:
    """Tell whether ``candidate_domains`` holds for ``policy``: it matches domains as the standard policy does."""
    method = getattr(policy.domain_return_ok, "__func__", None)
    return method is DefaultCookiePolicy.domain_return_ok


class Facts:
    """What the standard policy wants to know of one request, worked out once for all of its cookies.

    Args:
        request: what ``http.cookiejar`` takes as a request, such as requests' ``MockRequest``.
        now_s: the time by which cookies have expired, whole seconds since 1970.
    """

    __slots__ = ("dotted", "dotted_effective", "effective_host", "now_s", "path", "request")

    def __init__(self, request: Any, now_s: int) -> None:
        stdlib: Any = http.cookiejar
        host, self.effective_host = stdlib.eff_request_host(request)
        self.dotted = host if host.startswith(".") else f".{host}"
        effective = self.effective_host
        self.dotted_effective = effective if effective.startswith(".") else f".{effective}"
        self.path = stdlib.request_path(request)
        self.request = request
        self.now_s = now_s


# CPython 3.11 makes the dict of an object when somebody first asks for it, as copy and pickle do. Of two threads that
# ask at once each may get its own, if the garbage collector runs just then and calls Python code (``gc.callbacks``, a
# finalizer): then what the object holds is freed twice, and the process dies, then or later.
_MAKES_DICTS_LATE = sys.version_info[:2] == (3, 11)


def settle(thing: object) -> None:
    """Make ready what other threads are going to share: have its dict made now, by one thread."""
    if _MAKES_DICTS_LATE:
        getattr(thing, "__dict__", None)


def rules_for(policy: CookiePolicy, facts: Facts) -> Rules:
    """Return the rules by which ``policy`` judges cookies for a request.

    A policy that is exactly the standard library's is worked out here; others are asked. The time is also stored
    where the standard policy looks for it.
    """
    policy._now = facts.now_s  # type: ignore[attr-defined]
    if type(policy) is DefaultCookiePolicy and _ASKED.isdisjoint(vars(policy)):
        return _StandardRules(policy, facts)
    return _AskedRules(policy, facts.request)


def select(rules: Rules, domains: Iterable[tuple[str, Paths]]) -> list[Cookie]:
    """Return the cookies of ``domains`` that may go out, in stored order."""
    return [
        cookie
        for domain, paths in domains
        if rules.domain_ok(domain)
        for path, names in paths.items()
        if rules.path_ok(path)
        for cookie in names.values()
        if rules.cookie_ok(cookie)
    ]


def walk(domains: Domains) -> Iterator[Cookie]:
    """Yield each cookie of ``domains``, in stored order."""
    for paths in domains.values():
        for names in paths.values():
            yield from names.values()


def copy_paths(paths: Paths) -> Paths:
    """Return a copy of ``paths`` with the very same cookie objects."""
    return {path: dict(names) for path, names in paths.items()}


class _AskedRules:
    """The rules of a policy that isn't known here: it is asked, as ``http.cookiejar`` would."""

    def __init__(self, policy: CookiePolicy, request: Any) -> None:
        self._policy = policy
        self._request = request

    def domain_ok(self, domain: str) -> bool:
        return bool(self._policy.domain_return_ok(domain, self._request))

    def path_ok(self, path: str) -> bool:
        return bool(self._policy.path_return_ok(path, self._request))

    def cookie_ok(self, cookie: Cookie) -> bool:
        return bool(self._policy.return_ok(cookie, self._request))


class _StandardRules:
    """The standard policy's rules, with what concerns no single cookie worked out once."""

    def __init__(self, policy: Any, facts: Facts) -> None:
        stdlib: Any = http.cookiejar
        self._policy = policy
        self._request = request = facts.request
        self._now_s = facts.now_s
        self._effective_host: str = facts.effective_host
        self._dotted: str = facts.dotted
        self._dotted_effective: str = facts.dotted_effective
        self._path: str = facts.path
        self._has_lists = bool(policy.blocked_domains()) or policy.allowed_domains() is not None
        self._is_secure = request.type in policy.secure_protocols
        # Version 0 is each cookie that browsers know; other versions and ports (RFC 2965) are left to the policy.
        self._takes_version_0 = bool(policy.netscape) and not (
            policy.strict_ns_unverifiable and request.unverifiable and stdlib.is_third_party(request)
        )
        self._is_strict = bool(policy.strict_ns_domain & DefaultCookiePolicy.DomainStrictNonDomain)

    def domain_ok(self, domain: str) -> bool:
        dotted = domain if not domain or domain.startswith(".") else f".{domain}"
        if not (self._dotted.endswith(dotted) or self._dotted_effective.endswith(dotted)):
            return False
        return not self._has_lists or bool(self._policy.domain_return_ok(domain, self._request))

    def path_ok(self, path: str) -> bool:
        if self._path == path:
            return True
        return self._path.startswith(path) and (path.endswith("/") or self._path[len(path) : len(path) + 1] == "/")

    def cookie_ok(self, cookie: Cookie) -> bool:
        if cookie.version != 0 or cookie.port:
            return bool(self._policy.return_ok(cookie, self._request))
        if not self._takes_version_0 or (cookie.secure and not self._is_secure) or cookie.is_expired(self._now_s):
            return False
        domain = cookie.domain
        if self._is_strict and not cookie.domain_specified and domain != self._effective_host:
            return False
        dotted = domain if not domain or domain.startswith(".") else f".{domain}"
        # Not _dotted_effective: the policy puts a dot before the effective host here even when there is one already.
        return f".{self._effective_host}".endswith(dotted)
