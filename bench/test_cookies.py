"""What a Cookie header costs: by the cookies that are sent, whatever else is stored; beside a plain jar's."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
from requests.cookies import RequestsCookieJar, cookiejar_from_dict, get_cookie_header, merge_cookies

from crawlpool.cookies import CookieStore, RequestCookies

if TYPE_CHECKING:
    from collections.abc import Callable

URL = "http://www.example.com/a/b"
SENT = 5
#: What the issue allows: 10⁵ cookies of other domains against 10.
MOST_TIMES = 2.0


def filled(jar: Any, others: int) -> Any:
    """Return ``jar`` with cookies that ``URL`` gets and ``others`` that it doesn't."""
    for n in range(SENT):
        jar.set(f"mine{n}", "x" * 20, domain=".example.com", expires=4_000_000_000)
    for n in range(others):
        jar.set("sid", "x" * 20, domain=f"www.host{n}.example", expires=4_000_000_000 + n)
    return jar


def request() -> requests.PreparedRequest:
    """Return a prepared request without cookies."""
    return requests.Request("GET", URL).prepare()


def plain_way(session: Any, own: dict[str, str], prepared: requests.PreparedRequest) -> str | None:
    """Compute the header as ``Session.prepare_request`` does: on a copy of the session's jar."""
    merged = merge_cookies(merge_cookies(RequestsCookieJar(), session), cookiejar_from_dict(own))
    header: str | None = get_cookie_header(merged, prepared)
    return header


@pytest.mark.parametrize("others", [10, 1000, 100_000])
@pytest.mark.benchmark(group="Cookie header, 5 cookies sent")
def test_store(benchmark: Any, others: int) -> None:
    """One header of the store."""
    store, prepared = filled(CookieStore(max_cookies=200_000), others), request()
    assert benchmark(store.header_for, prepared).count("=") == SENT


@pytest.mark.parametrize("others", [10, 1000, 100_000])
@pytest.mark.benchmark(group="Cookie header, 5 cookies sent")
def test_view_with_an_own_cookie(benchmark: Any, others: int) -> None:
    """One view with a cookie of the request, made and asked."""
    store, prepared = filled(CookieStore(max_cookies=200_000), others), request()
    header = benchmark(lambda: RequestCookies(store, {"own": "1"}).header_for(prepared))
    assert header.count("=") == SENT + 1


@pytest.mark.parametrize("others", [10, 1000])
@pytest.mark.benchmark(group="Cookie header, 5 cookies sent")
def test_plain_requests(benchmark: Any, others: int) -> None:
    """The same with requests' own jar, copied and merged for each request as requests does."""
    jar, prepared = filled(RequestsCookieJar(), others), request()
    assert benchmark(plain_way, jar, {"own": "1"}, prepared).count("=") == SENT + 1


@pytest.mark.parametrize("others", [10, 100_000])
@pytest.mark.benchmark(group="nothing stored for the host")
def test_other_host(benchmark: Any, others: int) -> None:
    """A request to a host without cookies."""
    store, prepared = filled(CookieStore(max_cookies=200_000), others), request()
    prepared.url = "http://nothing.example/"
    assert benchmark(store.header_for, prepared) is None


def test_cost_does_not_grow_with_what_is_stored() -> None:
    """A header beside 10⁵ cookies of other domains costs at most twice what it costs beside 10."""
    prepared = request()
    few, many = filled(CookieStore(max_cookies=200_000), 10), filled(CookieStore(max_cookies=200_000), 100_000)
    ways: dict[str, Callable[[Any], Any]] = {
        "store": lambda store: store.header_for(prepared),
        "view": lambda store: RequestCookies(store, {"own": "1"}).header_for(prepared),
        "nothing for the host": lambda store: store.header_for("http://nothing.example/"),
    }
    for name, way in ways.items():
        times: dict[int, list[float]] = {id(few): [], id(many): []}
        for _ in range(200):  # by turns, so that a busy machine hits both alike
            for store in (few, many):
                begin = time.perf_counter()
                for _ in range(20):
                    way(store)
                times[id(store)].append((time.perf_counter() - begin) / 20)
        with_few, with_many = (statistics.median(times[id(store)]) for store in (few, many))
        ratio = with_many / with_few
        print(f"{name}: {with_few * 1e6:.1f} µs beside 10, {with_many * 1e6:.1f} µs beside 100,000: {ratio:.2f} ×")
        assert ratio <= MOST_TIMES
