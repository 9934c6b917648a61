"""Reading a response's ``Set-Cookie`` lines into cookies to store and cookies to drop, without touching a jar."""

from __future__ import annotations

import dataclasses
from http.cookiejar import Cookie, CookieJar, CookiePolicy
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What names a cookie in a jar (RFC 6265, section 5.3, step 11): domain, path and name.
Key: TypeAlias = "tuple[str, str, str]"


@dataclasses.dataclass(frozen=True)
class Incoming:
    """What one response asks of a jar.

    Args:
        gone: keys of the cookies that it expired (RFC 6265, section 3.1); they are dropped first.
        cookies: the cookies to store that the policy accepts, in order.
    """

    gone: Sequence[Key]
    cookies: Sequence[Cookie]


class SetCookieHeaders:
    """``Set-Cookie`` values in the form of ``http.client``'s message, for a transport that has no such message."""

    def __init__(self, values: Sequence[str]) -> None:
        self._values = list(values)

    def get_all(self, name: str, default: Any = None) -> Any:
        """Return all values of the header ``name``."""
        return self._values if name.lower() == "set-cookie" else default


class _Reader(CookieJar):
    """The standard library's parser on a jar that stays empty: what it would expire is noted instead."""

    def __init__(self, policy: CookiePolicy) -> None:
        super().__init__(policy)
        self.gone: list[Key] = []

    def clear(self, domain: str | None = None, path: str | None = None, name: str | None = None) -> None:
        if domain is not None and path is not None and name is not None:
            self.gone.append((domain, path, name))


def read_response(policy: CookiePolicy, response: Any, request: Any) -> Incoming | None:
    """Read the cookies of a response; ``None`` when it has none.

    Args:
        policy: decides which cookies are accepted. It is called here, so no lock may be held.
        response: anything whose ``info()`` returns headers with ``get_all``.
        request: the request that was answered, as ``http.cookiejar`` takes it.
    """
    headers = response.info()
    if not headers.get_all("Set-Cookie") and not (policy.rfc2965 and headers.get_all("Set-Cookie2")):
        return None
    reader = _Reader(policy)
    made = reader.make_cookies(response, request)
    return Incoming(reader.gone, [cookie for cookie in made if policy.set_ok(cookie, request)])
