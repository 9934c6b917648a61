"""Requests, responses and time for the tests of cookies."""

from __future__ import annotations

import contextlib
import http.client
import http.cookiejar
import io
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import requests
from requests.cookies import MockRequest, MockResponse, RequestsCookieJar, get_cookie_header

from crawlpool.cookies import asking, index, jar, netscape, store, view
from crawlpool.cookies.match import walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NOW_S = 1_800_000_000.5


class PlainJar(RequestsCookieJar):
    """``RequestsCookieJar`` as it is on CPython 3.11 and later: 3.10 iterates sorted by domain, path and name.

    The store keeps the order of arrival on each version (RFC 6265, section 5.4, step 2).
    """

    if sys.version_info < (3, 11):

        def __iter__(self) -> Iterator[Any]:
            return iter(list(walk(self._cookies)))

        def copy(self) -> PlainJar:
            new = PlainJar(self.get_policy())
            new.update(self)
            return new


class PosedTime:
    """The ``time`` module with a clock that is ticked by hand."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def time(self) -> float:
        return self.now_s

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@contextlib.contextmanager
def posed_time() -> Iterator[PosedTime]:
    """Let the standard library's cookies and ours see a posed time."""
    posed = PosedTime()
    with pytest.MonkeyPatch.context() as patch:
        for module in (http.cookiejar, asking, index, jar, netscape, store, view):
            patch.setattr(module, "time", posed)
        yield posed


def prepared(url: str, headers: dict[str, str] | None = None) -> requests.PreparedRequest:
    """Return a prepared GET request without cookies of its own."""
    return requests.Request("GET", url, headers=headers).prepare()


def message(lines: Sequence[str]) -> http.client.HTTPMessage:
    """Return the headers of a response that has these ``Set-Cookie`` lines, as http.client parses them."""
    text = "".join(f"Set-Cookie: {line}\r\n" for line in lines) + "Server: x\r\n\r\n"
    return http.client.parse_headers(io.BytesIO(text.encode("latin-1")))


def raw(lines: Sequence[str]) -> Any:
    """Return what ``extract_cookies_to_jar`` reads of urllib3's raw response."""
    return SimpleNamespace(_original_response=SimpleNamespace(msg=message(lines)))


def extract(jar: http.cookiejar.CookieJar, lines: Sequence[str], request: requests.PreparedRequest) -> None:
    """Extract the cookies of ``Set-Cookie`` lines into any jar, as requests does."""
    response: Any = MockResponse(message(lines))
    sought: Any = MockRequest(request)
    jar.extract_cookies(response, sought)


def plain_header(jar: http.cookiejar.CookieJar, request: requests.PreparedRequest) -> str | None:
    """Return the Cookie header of any jar, as requests computes it."""
    header: str | None = get_cookie_header(jar, request)
    return header


def contents(jar: Any) -> list[dict[str, Any]]:
    """Return all attributes of all cookies, in order."""
    return [dict(vars(cookie)) for cookie in iter(jar)]
