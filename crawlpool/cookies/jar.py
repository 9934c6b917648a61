"""What the cookie store and the view that a request carries have in common: the way in and out through the policy.

A policy is the user's code. So it is never called under a lock: cookies are judged on a snapshot, and what a response
brings is judged before it is put into the jar in one step.
"""

from __future__ import annotations

from http.cookies import Morsel
from typing import TYPE_CHECKING, Any

from requests.cookies import MockRequest, MockResponse, RequestsCookieJar, create_cookie, morsel_to_cookie

from crawlpool.cookies.incoming import Incoming, SetCookieHeaders, read_response
from crawlpool.cookies.match import settle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from http.cookiejar import Cookie, CookiePolicy

    from requests import PreparedRequest


def cookie_of(name: str, value: Any, **attributes: Any) -> Cookie:
    """Return the cookie that requests makes of ``name`` and ``value``, or of a ``Morsel`` as value."""
    make: Any = morsel_to_cookie if isinstance(value, Morsel) else create_cookie
    cookie: Cookie = make(value) if isinstance(value, Morsel) else make(name, value, **attributes)
    return cookie


class _UrlRequest:
    """A URL in the place of a prepared request; it has what requests' ``MockRequest`` reads."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.headers: dict[str, str] = {}


class JudgedJar(RequestsCookieJar):
    """A ``RequestsCookieJar`` whose cookies go out and come in without a lock held while the policy decides."""

    def header_for(self, request: PreparedRequest | str) -> str | None:
        """Return the value of the ``Cookie`` header for ``request`` (RFC 6265, section 5.4), or ``None`` for no header.

        One snapshot of the cookies is used, so two values of one login can't mix. Nothing is made for a request to a
        host that no cookie is stored for.

        Args:
            request: a prepared request, or a URL. ``None`` is returned for a request that has a ``Cookie`` header
                already, as requests does.
        """
        sought: Any = _UrlRequest(request) if isinstance(request, str) else request
        if self._has_nothing_for(sought):
            return None
        mock: Any = MockRequest(sought)
        self.add_cookie_header(mock)
        header: str | None = mock.get_new_headers().get("Cookie")
        return header

    def take_from(self, response: Any, request: PreparedRequest | str) -> None:
        """Store the cookies of ``response`` that the policy accepts, all in one step (RFC 6265, section 5.3).

        Args:
            response: urllib3's raw response, as ``requests.cookies.extract_cookies_to_jar`` takes it. Without
                ``Set-Cookie`` in it nothing is made and no lock is taken.
            request: the prepared request that was answered, or its URL.
        """
        original = getattr(response, "_original_response", None)
        if original:
            self._take(original.msg, request)

    def take(self, set_cookie: Sequence[str], request: PreparedRequest | str) -> None:
        """Store the cookies of ``Set-Cookie`` header values, as ``take_from`` does.

        Args:
            set_cookie: the values, one for each header line, in order.
            request: the prepared request that was answered, or its URL.
        """
        if set_cookie:
            self._take(SetCookieHeaders(set_cookie), request)

    def _take(self, headers: Any, request: PreparedRequest | str) -> None:
        if headers.get_all("Set-Cookie") or (self._policy.rfc2965 and headers.get_all("Set-Cookie2")):
            sought: Any = _UrlRequest(request) if isinstance(request, str) else request
            self.extract_cookies(MockResponse(headers), MockRequest(sought))

    def add_cookie_header(self, request: Any) -> None:
        """Add the ``Cookie`` header to a request of ``urllib.request`` or to requests' stand-in for one.

        ``Cookie2`` is added as well when the policy wants RFC 2965, as ``http.cookiejar`` does.
        """
        policy = self._policy
        cookies = self._cookies_for_request(request)
        attributes = self._cookie_attrs(cookies)  # type: ignore[attr-defined]  # the stdlib's; it uses no state
        if attributes and not request.has_header("Cookie"):
            request.add_unredirected_header("Cookie", "; ".join(attributes))
        wants_cookie2 = policy.rfc2965 and not policy.hide_cookie2 and not request.has_header("Cookie2")
        if wants_cookie2 and any(cookie.version != 1 for cookie in cookies):
            request.add_unredirected_header("Cookie2", '$Version="1"')

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Store the cookies of a response that the policy accepts, all in one step.

        Args:
            response: anything whose ``info()`` returns headers with ``get_all``.
            request: the request that was answered, as ``http.cookiejar`` takes it.
        """
        incoming = read_response(self._policy, response, request)
        if incoming is not None:
            self._apply(incoming)

    def set_cookie_if_ok(self, cookie: Cookie, request: Any) -> None:
        """Store ``cookie`` if the policy accepts it for ``request``."""
        if self._policy.set_ok(cookie, request):
            self._apply(Incoming((), (cookie,)))

    def set_policy(self, policy: CookiePolicy) -> None:
        """Let ``policy`` decide from now on; cookies that are stored stay."""
        settle(policy)
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

    def _has_nothing_for(self, request: Any) -> bool:
        """Tell, cheaply, that no stored cookie can go out with ``request``; ``False`` when it takes a closer look."""
        raise NotImplementedError

    def _cookies_for_request(self, request: Any) -> list[Cookie]:
        """Return the cookies that go out with ``request``, in stored order, and drop the expired ones."""
        raise NotImplementedError

    def _apply(self, incoming: Incoming) -> None:
        """Drop and store what one response brought, in one step."""
        raise NotImplementedError
