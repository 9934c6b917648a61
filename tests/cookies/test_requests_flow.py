"""requests' own machinery over the store and its views: sessions that answer for real, on the loopback interface."""

from __future__ import annotations

import http.server
import sys
import threading
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import pytest
import requests
from requests.auth import HTTPDigestAuth
from requests.cookies import RequestsCookieJar

from crawlpool.cookies import CookieStore, RequestCookies

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.transports()


class Handler(http.server.BaseHTTPRequestHandler):
    """A site with a login, redirects and digest auth; the server keeps each Cookie header that came."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        seen: Any = self.server
        seen.seen.append((self.path, self.headers.get("Cookie")))
        answers: dict[str, tuple[int, list[tuple[str, str]]]] = {
            "/login": (302, [("Set-Cookie", "sid=1; Path=/"), ("Set-Cookie", "step=1"), ("Location", "/two")]),
            "/two": (307, [("Set-Cookie", "step=2; Path=/"), ("Set-Cookie", "pre=; Max-Age=0"), ("Location", "/end")]),
            "/logout": (302, [("Set-Cookie", "sid=; Max-Age=0; Path=/"), ("Location", "/end")]),
        }
        status, headers = answers.get(self.path, (200, [("Set-Cookie", "last=1; Path=/")]))
        if self.path == "/digest" and not self.headers.get("Authorization"):
            challenge = 'Digest realm="r", nonce="n", qop="auth"'
            status, headers = 401, [("WWW-Authenticate", challenge), ("Set-Cookie", "nonce=5; Path=/")]
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Any]:
    """Run the site on a free port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.seen = []  # type: ignore[attr-defined]
        running.daemon_threads = False
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


class ViewSession(requests.Session):
    """A session whose requests carry views of its store, as the pool's sessions will."""

    cookies: Any

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        own, request.cookies = request.cookies, None
        shared, self.cookies = self.cookies, RequestsCookieJar()
        try:
            prepared = super().prepare_request(request)
        finally:
            self.cookies = shared
        prepared.prepare_cookies(RequestCookies(shared, own))
        return prepared


def talk(session: requests.Session, server: Any) -> tuple[Any, Any, Any]:
    """Log in, be redirected, authenticate by digest, log out; return what the server saw and what is left."""
    site = f"http://127.0.0.1:{server.server_address[1]}"
    server.seen.clear()
    session.trust_env = False
    with session:
        session.cookies.set("pre", "0", domain="127.0.0.1", path="/")
        responses = [
            session.get(f"{site}/login", cookies={"own": "1"}),
            session.get(f"{site}/end"),
            session.get(f"{site}/digest", auth=HTTPDigestAuth("u", "p"), cookies={"own": "2"}),
            session.get(f"{site}/logout", headers={"X": "1"}),
            session.get(f"{site}/end", headers={"Cookie": "mine=1"}),
        ]
    left = sorted((c.domain, c.path, c.name, c.value) for c in session.cookies)
    return list(map(ordered, server.seen)), left, [response.cookies.get_dict() for response in responses]


def ordered(seen: tuple[str, str | None]) -> tuple[str, str | None]:
    """Return what the server saw; with sorted cookies on CPython 3.10, whose jars sort instead of keeping the order."""
    path, header = seen
    return path, "; ".join(sorted(header.split("; "))) if header and sys.version_info < (3, 11) else header


def test_session_with_views_sends_what_plain_requests_sends(server: Any) -> None:
    """Over logins, redirects, digest retries and logouts the server sees the same Cookie headers, in the same order."""
    plain = talk(requests.Session(), server)
    session = ViewSession()
    session.cookies = CookieStore()
    assert talk(session, server) == plain
    assert ordered(("/two", "pre=0; sid=1; step=1; own=1")) in plain[0]


def test_plain_session_takes_a_store_as_its_jar(server: Any) -> None:
    """A ``requests.Session`` with the store as ``cookies`` does all that it does with its own jar."""
    plain = talk(requests.Session(), server)
    session = requests.Session()
    session.cookies = CookieStore()
    assert talk(session, server) == plain


def test_blocking_policy_stores_nothing(server: Any) -> None:
    """The idiom that blocks all cookies of servers works, redirects included, and given cookies still go out."""
    plain, session = requests.Session(), ViewSession()
    plain.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.cookies = CookieStore(DefaultCookiePolicy(allowed_domains=[]))
    left_by_plain = talk(plain, server)[1]
    seen, left, _ = talk(session, server)
    assert left == left_by_plain == []  # a server may still expire a cookie, as everywhere
    assert seen[0] == ("/login", "own=1") and seen[2] == ("/end", "own=1")
