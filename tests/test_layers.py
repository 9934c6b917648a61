"""A session's settings are its pool's until they are set on the session; adapters and their retries go by prefix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from crawlpool import CookieStore, RetryPolicy, Session, SessionPool
from crawlpool.testing import Answer, SiteServer

pytestmark = pytest.mark.transports()


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    """Give a pool that retries without waiting."""
    with SessionPool(retry=RetryPolicy(attempts=3, backoff_s=0), trust_env=False) as pool:
        yield pool


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("auth", ("u", "p"), ("v", "q")),
        ("verify", False, "/bundle"),
        ("cert", "/one", "/two"),
        ("max_redirects", 3, 4),
        ("timeout", 1.0, (2.0, 3.0)),
    ],
)
def test_a_setting_is_the_pools_until_it_is_set(name: str, first: Any, second: Any, pool: SessionPool) -> None:
    """Sessions made before see the pool's change; one that set its own keeps it."""
    session = pool.session
    setattr(pool, name, first)
    assert getattr(session, name) == first == getattr(pool, name)
    setattr(session, name, second)
    setattr(pool, name, None if name in ("auth", "cert") else first)
    assert getattr(session, name) == second


def test_mappings_are_the_pools_key_by_key(pool: SessionPool) -> None:
    """headers, params and proxies: the session's own keys stand, the others are live; replacing them all, too."""
    session = pool.session
    for name in ("headers", "params", "proxies"):
        getattr(session, name)["own"] = "mine"
        getattr(pool, name).update({"own": "pool's", "other": "1"})
        assert (getattr(session, name)["own"], getattr(session, name)["other"]) == ("mine", "1")
        setattr(pool, name, {"third": "3"})
        assert dict(getattr(session, name)) == {"own": "mine", "third": "3"}
        del getattr(session, name)["third"]
        getattr(pool, name)["third"] = "4"
        assert dict(getattr(session, name)) == {"own": "mine"}


def test_what_was_replaced_whole_is_the_sessions(pool: SessionPool) -> None:
    """``session.params = …`` as in requests: the pool's later changes aren't mixed into it."""
    session = pool.session
    session.params = [("a", "1"), ("a", "2")]
    session.proxies = {"http": "http://127.0.0.1:9"}
    pool.params["b"] = "1"
    pool.proxies["https"] = "http://127.0.0.1:9"
    assert session.params == [("a", "1"), ("a", "2")]
    assert session.proxies == {"http": "http://127.0.0.1:9"}


def test_cookies_are_the_pools_unless_the_session_has_its_own(pool: SessionPool) -> None:
    """One store for all; a jar of its own takes a session out, a None brings it back."""
    with SiteServer(lambda request: request.headers.get("cookie", "none")) as server:
        assert pool.session.cookies is pool.cookies
        pool.cookies.set("a", "1")
        assert pool.get(server.url()).text == "a=1"
        pool.session.cookies = requests.cookies.cookiejar_from_dict({"b": "2"})  # type: ignore[assignment]
        assert pool.get(server.url()).text == "b=2"
        pool.session.cookies = CookieStore()
        assert pool.get(server.url()).text == "none"
        pool.session.cookies = None  # type: ignore[assignment]
        assert pool.get(server.url()).text == "a=1"


def test_a_session_that_stands_alone_starts_as_requests_does() -> None:
    """No timeout, no deadline, no retries, requests' headers, nothing shared with another."""
    with Session() as one, Session() as two, requests.Session() as plain:
        assert dict(one.headers) == dict(plain.headers)
        for name in ("auth", "cert", "verify", "stream", "max_redirects", "trust_env", "params", "proxies", "hooks"):
            assert getattr(one, name) == getattr(plain, name), name
        assert one.timeout is None
        one.headers["X"] = "1"
        one.cookies.set("a", "1")
        assert "X" not in two.headers
        assert not two.cookies
        with SiteServer({"/": Answer(503)}) as server:
            assert one.get(server.url()).status_code == 503
            assert server.request_count == 1


def test_an_adapter_that_retries_turns_the_pools_retries_off(
    pool: SessionPool, caplog: pytest.LogCaptureFixture
) -> None:
    """Under its prefix only, and one log line says so."""
    with SiteServer({"/": Answer(503), "/own/": Answer(503)}) as server:
        with caplog.at_level("INFO", "crawlpool"):
            pool.session.mount(server.url("/own/"), HTTPAdapter(max_retries=Retry(1, status_forcelist=[503])))
        (record,) = caplog.records
        assert record.getMessage() == "retries left to adapter"
        assert (record.prefix, record.adapter) == (server.url("/own/"), "HTTPAdapter")  # type: ignore[attr-defined]
        with pytest.raises(requests.exceptions.RetryError):
            pool.get(server.url("/own/"))
        assert server.request_count == 2, "the adapter's one retry, none of the pool's"
        assert pool.get(server.url("/")).status_code == 503
        assert server.request_count == 5


def test_a_longer_prefix_has_the_pools_retries_again(pool: SessionPool) -> None:
    """What counts is the adapter that is chosen for the URL."""
    with SiteServer({"/": Answer(503), "/plain/": Answer(503)}) as server:
        pool.session.mount("http://", HTTPAdapter(max_retries=1))
        pool.session.mount(server.url("/plain/"), HTTPAdapter())
        assert pool.get(server.url("/plain/")).status_code == 503
        assert server.request_count == 3
        assert pool.get(server.url("/")).status_code == 503
        assert server.request_count == 4
        pool.session.mount("http://", HTTPAdapter())
        pool.get(server.url("/"))
        assert server.request_count == 7


def test_a_pools_factory_reaches_sessions_made_before(pool: SessionPool) -> None:
    """Each session has an adapter of its own; the session's own mount stands over the pool's."""
    made: list[HTTPAdapter] = []

    def factory() -> HTTPAdapter:
        made.append(HTTPAdapter())
        return made[-1]

    session = pool.session
    pool.mount("http://h.example", factory)
    assert made == []
    assert session.get_adapter("http://h.example/") is made[0]
    assert session.get_adapter("http://h.example/") is made[0]
    mine = HTTPAdapter()
    session.mount("http://own.example", mine)
    pool.mount("http://own.example", factory)
    assert session.get_adapter("http://own.example/") is mine


@pytest.mark.transports("urllib3")  # with curl an adapter has nothing of its own to close
def test_an_adapter_that_nobody_has_any_more_is_closed(pool: SessionPool) -> None:
    """Its idle connections go when the last prefix of it is taken over, and not before."""
    with SiteServer({"/": b"x"}) as server:
        pool.get(server.url())
        pool.session.mount("http://", HTTPAdapter())
        assert pool.statistics().connections_open == 1, "https:// still has it"
        pool.session.mount("https://", HTTPAdapter())
        assert pool.statistics().connections_open == 0
