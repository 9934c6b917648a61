"""What a request costs is counted here, not timed: cookies and domains looked at, objects made."""

from __future__ import annotations

import http.cookiejar
from http.cookiejar import Cookie, DefaultCookiePolicy
from typing import Any

import pytest
from requests.cookies import MockRequest

from crawlpool.cookies import CookieStore, RequestCookies, asking, match
from tests.cookies.helpers import NOW_S, posed_time, prepared, raw

URL = "http://www.example.com/a/b"


class Counting(DefaultCookiePolicy):
    """A policy that counts what it is asked, and matches domains as the standard one does."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.asked = {"domain": 0, "path": 0, "cookie": 0}

    def is_blocked(self, domain: str) -> bool:
        self.asked["domain"] += 1  # asked by domain_return_ok once for each domain that matches the host
        return super().is_blocked(domain)

    def path_return_ok(self, path: str, request: Any) -> bool:
        self.asked["path"] += 1
        return super().path_return_ok(path, request)

    def return_ok(self, cookie: Cookie, request: Any) -> bool:
        self.asked["cookie"] += 1
        return super().return_ok(cookie, request)


class Touchy(Cookie):
    """A cookie that counts how often it is looked at."""

    looks = 0

    def is_expired(self, now: Any = None) -> bool:
        Touchy.looks += 1
        return super().is_expired(now)

    @property
    def path(self) -> str:
        Touchy.looks += 1
        return "/"

    @path.setter
    def path(self, value: str) -> None:
        pass


def with_others(count: int, policy: DefaultCookiePolicy | None = None) -> CookieStore:
    """Return a store with one cookie for ``URL`` and ``count`` of other domains that count looks at them."""
    store = CookieStore(policy)
    store.set("sid", "1", domain=".example.com", expires=4_000_000_000)
    for n in range(count):
        arguments: dict[str, Any] = {
            "version": 0,
            "name": f"c{n}",
            "value": "1",
            "port": None,
            "port_specified": False,
            "domain": f"www.host{n}.example",
            "domain_specified": False,
            "domain_initial_dot": False,
            "path": "/",
            "path_specified": True,
            "secure": False,
            "expires": 4_000_000_000 + n,
            "discard": False,
            "comment": None,
            "comment_url": None,
            "rest": {},
        }
        store.set_cookie(Touchy(**arguments))
    Touchy.looks = 0
    return store


@pytest.mark.parametrize("count", [10, 10_000])
def test_header_looks_at_no_cookie_of_another_domain(count: int) -> None:
    """The policy is asked as often with 10,000 cookies of other domains as with 10, and none of those is touched."""
    policy = Counting()
    store = with_others(count, policy)
    assert store.header_for(URL) == "sid=1"
    assert RequestCookies(store, {"own": "2"}).header_for(URL) == "sid=1; own=2"
    assert policy.asked == {"domain": 2, "path": 2, "cookie": 2}
    assert Touchy.looks == 0


def test_expired_cookies_are_dropped_without_looking_at_the_others() -> None:
    """Dropping what expired, which each request does, touches the expired cookies only."""
    with posed_time() as clock:
        store = with_others(1000)
        for n in range(3):
            store.set("short", "1", domain=f"short{n}.example", expires=int(NOW_S) + 5)
        Touchy.looks = 0
        clock.now_s += 10
        assert store.header_for("http://nothing.example/") is None
        assert len(store) == 1001
        assert Touchy.looks == 0


def test_nothing_is_made_for_a_host_without_cookies(monkeypatch: pytest.MonkeyPatch) -> None:
    """No stand-in for the request is made, and no policy asked, where the store has nothing for the host."""
    policy = Counting()
    store = with_others(10, policy)
    for module in (asking, match):
        monkeypatch.setattr(module, "MockRequest", None)
    assert store.header_for(prepared("http://nothing.example/")) is None
    assert RequestCookies(store).header_for(prepared("http://nothing.example/")) is None
    assert CookieStore().header_for(prepared(URL)) is None
    assert policy.asked == {"domain": 0, "path": 0, "cookie": 0}


def test_nothing_is_made_for_a_response_without_cookies(monkeypatch: pytest.MonkeyPatch) -> None:
    """No stand-in for request and response is made where no ``Set-Cookie`` came."""
    for module in (asking, match):
        monkeypatch.setattr(module, "MockRequest", None)
    store = CookieStore()
    store.take_from(raw([]), prepared(URL))
    RequestCookies(store).take_from(raw([]), prepared(URL))
    assert store.is_empty


def test_view_costs_nothing_by_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making, copying and updating a view of its own store copies no cookie of it and makes no policy."""
    store = with_others(1000)
    request = prepared(URL)
    monkeypatch.setattr(http.cookiejar, "DefaultCookiePolicy", None)
    view = RequestCookies(store, {"own": "2"}).copy()
    view.update(store)
    assert Touchy.looks == 0
    assert view.get_policy() is store.get_policy()
    sought: Any = MockRequest(request)
    view.add_cookie_header(sought)
    assert sought.get_new_headers() == {"Cookie": "sid=1; own=2"}
    assert Touchy.looks == 0
