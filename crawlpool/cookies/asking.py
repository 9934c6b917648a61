"""What a user's ``CookiePolicy`` is asked, once RFC 6265bis has had its say: it can refuse more, not allow more."""

from __future__ import annotations

import copy
import time
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

from requests.cookies import MockRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.cookiejar import Cookie, CookiePolicy

    from crawlpool.cookies.incoming import Incoming
    from crawlpool.cookies.match import Key

# Where the standard policy keeps the time; it is no setting.
_NOW = "_now"
_PLAIN = {**vars(DefaultCookiePolicy()), _NOW: 0}


def is_plain(policy: CookiePolicy) -> bool:
    """Tell whether ``policy`` is the standard library's with no setting changed: it has nothing to add to the RFC."""
    return type(policy) is DefaultCookiePolicy and {**vars(policy), _NOW: 0} == _PLAIN


def sendable(policy: CookiePolicy, cookies: list[tuple[Key, Cookie]], request: Any) -> list[tuple[Key, Cookie]]:
    """Return those of ``cookies`` that ``policy`` lets go out with ``request``. It may be slow: hold no lock."""
    if not cookies or is_plain(policy):
        return cookies
    asked = _as_asked(policy, request)

    def may_go(cookie: Cookie) -> bool:
        shown = _as_shown(cookie)
        return bool(
            policy.domain_return_ok(shown.domain, asked)
            and policy.path_return_ok(shown.path, asked)
            and policy.return_ok(shown, asked)
        )

    return [entry for entry in cookies if may_go(entry[1])]


def storable(policy: CookiePolicy, request: Any) -> Callable[[Cookie], bool]:
    """Return what tells whether ``policy`` lets a cookie of the answer to ``request`` be stored. Hold no lock."""
    if is_plain(policy):
        return lambda cookie: True
    asked = _as_asked(policy, request)
    return lambda cookie: bool(policy.set_ok(_as_shown(cookie), asked))


def allowed(policy: CookiePolicy, incoming: Incoming, request: Any) -> list[Cookie]:
    """Return the cookies of a response that ``policy`` lets in. What a server drops it may always drop."""
    may_come = storable(policy, request)
    return [cookie for cookie in incoming.cookies if incoming.is_gone(cookie) or may_come(cookie)]


def _as_asked(policy: CookiePolicy, request: Any) -> Any:
    policy._now = int(time.time())  # type: ignore[attr-defined]  # the standard policy looks for it there
    if isinstance(request, str):
        request = UrlRequest(request)
    return request if hasattr(request, "get_full_url") else MockRequest(request)


def _as_shown(cookie: Cookie) -> Cookie:
    """Return ``cookie`` as the standard library writes it: a host without dots is ``name.local`` to its policies."""
    if cookie.domain and "." not in cookie.domain:
        cookie = copy.copy(cookie)
        cookie.domain += ".local"
    return cookie


class UrlRequest:
    """A URL in the place of a prepared request; it has what requests' ``MockRequest`` reads."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.headers: dict[str, str] = {}
