"""From a response's ``Set-Cookie`` lines to the cookies that its origin may set, without touching a jar."""

from __future__ import annotations

import dataclasses
from http.cookiejar import Cookie
from typing import TYPE_CHECKING, Any

from crawlpool.cookies.match import OCTETS, Where, as_shown, domain_matches, path_matches
from crawlpool.cookies.setcookie import SetCookie, parse_set_cookie
from crawlpool.suffixes import is_address, is_public_suffix

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Cookies of one response that are heeded, the first ones.
MAX_OF_RESPONSE = 50

_SECURE_PREFIX, _HOST_PREFIX = "__secure-", "__host-"


@dataclasses.dataclass(frozen=True)
class Incoming:
    """What one response asks of a jar.

    Args:
        cookies: what to store, in order. One that has expired already takes away the stored one of its key.
        is_secure: whether they came from where nobody could change them; else they can't touch ``Secure`` cookies.
        now_s: the time by which they have expired, in seconds since 1970.
    """

    cookies: Sequence[Cookie]
    is_secure: bool
    now_s: float

    def is_gone(self, cookie: Cookie) -> bool:
        """Tell whether ``cookie`` came expired: its server wants it dropped."""
        return cookie.expires is not None and cookie.expires <= self.now_s


class SetCookieHeaders:
    """``Set-Cookie`` values in the form of ``http.client``'s message, for a transport that has no such message."""

    def __init__(self, values: Sequence[str]) -> None:
        self._values = list(values)

    def get_all(self, name: str, default: Any = None) -> Any:
        """Return all values of the header ``name``."""
        return self._values if name.lower() == "set-cookie" else default


def read_lines(lines: Iterable[str], where: Where, now_s: float) -> Incoming:
    """Return the cookies that the answer to a request may set; those that RFC 6265bis refuses are left out.

    Args:
        lines: the ``Set-Cookie`` values, in order.
        where: the request that was answered.
        now_s: the time, in seconds since 1970.

    Source: RFC 6265bis, section 5.7.
    """
    cookies: list[Cookie] = []
    for line in lines:
        if len(cookies) >= MAX_OF_RESPONSE:
            break
        said = parse_set_cookie(line, now_s)
        cookie = None if said is None else _admitted(said, where)
        if cookie is not None:
            cookies.append(cookie)
    return Incoming(cookies, where.is_secure, now_s)


def default_path(path: str) -> str:
    """Return the path of a cookie that names none: its request's, up to the last slash (RFC 6265bis, section 5.1.4)."""
    return path[: path.rfind("/")] or "/" if path.startswith("/") else "/"


def _admitted(said: SetCookie, where: Where) -> Cookie | None:
    domain = said.domain
    if domain:
        if not domain.isascii():
            return None
        if not domain_matches(where.host, domain):
            return None
        if domain == where.host and (is_address(domain) or is_public_suffix(domain)):
            domain = ""  # only this very host can be meant
        elif is_public_suffix(domain):
            return None
    if said.secure and not where.is_secure:
        return None
    if not _keeps_its_prefix(said, domain):
        return None
    return Cookie(
        version=0,
        name=said.name,
        value=as_shown(said.value),
        port=None,
        port_specified=False,
        domain=f".{domain}" if domain else where.host,
        domain_specified=bool(domain),
        domain_initial_dot=bool(domain),
        path=said.path or default_path(where.path),
        path_specified=bool(said.path),
        secure=said.secure,
        expires=said.expires,
        discard=said.expires is None,
        comment=None,
        comment_url=None,
        rest=_rest(said),
    )


def _keeps_its_prefix(said: SetCookie, domain: str) -> bool:
    """Tell whether a cookie is what the prefix of its name promises (RFC 6265bis, section 5.7, steps 20 to 22)."""
    name = said.name.lower()
    if not name:  # its value is what a server will take for a name
        return not said.value.lower().startswith((_SECURE_PREFIX, _HOST_PREFIX))
    if name.startswith(_HOST_PREFIX):
        return said.secure and not domain and said.path == "/"
    return said.secure or not name.startswith(_SECURE_PREFIX)


def _rest(said: SetCookie) -> dict[str, Any]:
    """Return the attributes that ``http.cookiejar`` has no field for, under the names by which it is asked for them."""
    rest: dict[str, Any] = {}
    if said.http_only:
        rest["HttpOnly"] = None
    if said.same_site is not None:
        rest["SameSite"] = said.same_site
    if as_shown(said.value) != said.value:
        rest[OCTETS] = said.value
    return rest


def lies_over(cookie: Cookie, kept: Cookie) -> bool:
    """Tell whether an insecure ``cookie`` would stand in the way of a ``Secure`` one (RFC 6265bis, 5.7, step 16)."""
    if not kept.secure or kept.name != cookie.name or not path_matches(kept.path, cookie.path):
        return False
    mine, theirs = cookie.domain.removeprefix("."), kept.domain.removeprefix(".")
    return domain_matches(mine, theirs) or domain_matches(theirs, mine)
