"""What the cookie store and the view that a request carries have in common: the way in and out.

RFC 6265bis decides first; then the policy may refuse more. A policy is the user's code, so it is never called under a
lock: cookies are judged on a snapshot, and what a response brings is judged before it is put into the jar in one step.
"""

from __future__ import annotations

import time
from http.cookies import Morsel
from typing import TYPE_CHECKING, Any

from requests.cookies import MockResponse, RequestsCookieJar, create_cookie, morsel_to_cookie

from crawlpool.cookies.asking import allowed, storable
from crawlpool.cookies.incoming import Incoming, SetCookieHeaders, read_lines
from crawlpool.cookies.match import Where, header_of, line_of, make_dict, where_of
from crawlpool.suffixes import registrable_domain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from http.cookiejar import Cookie, CookiePolicy

    from requests import PreparedRequest


def cookie_of(name: str, value: Any, **attributes: Any) -> Cookie:
    """Return the cookie that requests makes of ``name`` and ``value``, or of a ``Morsel`` as value."""
    make: Any = morsel_to_cookie if isinstance(value, Morsel) else create_cookie
    cookie: Cookie = make(value) if isinstance(value, Morsel) else make(name, value, **attributes)
    return cookie


def foresee(cookies: Sequence[Cookie]) -> None:
    """Look up what storing ``cookies`` will need of the suffix list: it is a file, and a lock will be held then."""
    for cookie in cookies:
        if cookie.secure:
            registrable_domain(cookie.domain.removeprefix("."))


class JudgedJar(RequestsCookieJar):
    """A ``RequestsCookieJar`` by RFC 6265bis, with no lock held while the policy decides."""

    def header_for(self, request: PreparedRequest | str) -> str | None:
        """Return the value of the ``Cookie`` header for ``request``, or ``None`` for no header.

        Longer paths come first, then older cookies. One snapshot is used, so two values of one login can't mix.

        Args:
            request: a prepared request, or a URL. ``None`` is returned for a request that has a ``Cookie`` header
                already, as requests does.

        Raises:
            ValueError: for a URL that can't be split.

        Source: RFC 6265bis, section 5.8.
        """
        if self._is_bare or not (isinstance(request, str) or header_of(request, "cookie") is None):
            return None
        return line_of(self._going(where_of(request), request))

    def take_from(self, response: Any, request: PreparedRequest | str) -> None:
        """Store the cookies of ``response`` that may come in, all in one step.

        Args:
            response: urllib3's raw response, as ``requests.cookies.extract_cookies_to_jar`` takes it. Without
                ``Set-Cookie`` in it nothing is made and no lock is taken.
            request: the prepared request that was answered, or its URL.

        Source: RFC 6265bis, section 5.7.
        """
        original = getattr(response, "_original_response", None)
        if original:
            self.extract_cookies(MockResponse(original.msg), request)

    def take(self, set_cookie: Sequence[str], request: PreparedRequest | str) -> None:
        """Store the cookies of ``Set-Cookie`` header values, as ``take_from`` does.

        Args:
            set_cookie: the values, one for each header line, in order.
            request: the prepared request that was answered, or its URL.
        """
        if set_cookie:
            self.extract_cookies(MockResponse(SetCookieHeaders(set_cookie)), request)

    def add_cookie_header(self, request: Any) -> None:
        """Add the ``Cookie`` header to a request of ``urllib.request`` or to requests' stand-in for one."""
        if self._is_bare or request.has_header("Cookie"):
            return
        line = line_of(self._going(where_of(request), request))
        if line is not None:
            request.add_unredirected_header("Cookie", line)

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Store the cookies of a response that may come in, all in one step.

        Args:
            response: anything whose ``info()`` returns headers with ``get_all``.
            request: the request that was answered, as ``http.cookiejar`` takes it, a prepared one, or its URL.
        """
        lines = response.info().get_all("Set-Cookie")
        if not lines:
            return
        incoming = read_lines(lines, where_of(request), time.time())
        if incoming.cookies:
            cookies = allowed(self._policy, incoming, request)
            foresee(cookies)
            self._apply(Incoming(cookies, incoming.is_secure, incoming.now_s))

    def set_cookie_if_ok(self, cookie: Cookie, request: Any) -> None:
        """Store ``cookie`` if the policy accepts it for ``request``; it is the caller's, so the RFC isn't asked."""
        if storable(self._policy, request)(cookie):
            self.set_cookie(cookie)

    def set_policy(self, policy: CookiePolicy) -> None:
        """Let ``policy`` decide from now on; cookies that are stored stay."""
        make_dict(policy)
        self._policy = policy

    def list_domains(self) -> list[str]:
        """Return the domains of the cookies, each once, in stored order."""
        return list(dict.fromkeys(cookie.domain for cookie in iter(self)))

    def list_paths(self) -> list[str]:
        """Return the paths of the cookies, each once, in stored order."""
        return list(dict.fromkeys(cookie.path for cookie in iter(self)))

    def multiple_domains(self) -> bool:
        """Tell whether two cookies have the same domain, which is what requests answers under this name."""
        domains = [cookie.domain for cookie in iter(self)]
        return len(set(domains)) < len(domains)

    def __repr__(self) -> str:
        # Not the cookies, as the standard library shows them: a repr ends up in logs, and their values are credentials.
        cookies: list[Any] = list(self)
        return f"<{type(self).__name__}: {len(cookies)} cookies of {len({c.domain for c in cookies})} domains>"

    __str__ = __repr__

    @property
    def _is_bare(self) -> bool:
        """Whether there can be nothing to send, to anybody; cheap."""
        raise NotImplementedError

    def _going(self, where: Where, request: Any) -> list[Cookie]:
        """Return the cookies that go out with ``request``, in the header's order, and drop the expired ones."""
        raise NotImplementedError

    def _cookies_for_request(self, request: Any) -> list[Cookie]:
        return self._going(where_of(request), request)  # what the standard library's jar calls it

    def _apply(self, incoming: Incoming) -> None:
        """Drop and store what one response brought, in one step."""
        raise NotImplementedError
