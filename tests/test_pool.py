"""The pool: a session for each thread, what they share, and an end that leaves nothing behind."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from crawlpool import ConfigError, CookieStore, PoolClosed, RetryPolicy, Session, SessionPool, Statistics
from crawlpool.pool import BlockingPool
from crawlpool.testing import Answer, Request, SiteServer
from tests.gates import PATIENCE_S, Gate, Threads
from tests.leaks import open_sockets

pytestmark = pytest.mark.transports()

SETTINGS: dict[str, Any] = {
    "threads": 0, "timeout": -1, "deadline": 0, "retry": 3, "max_body_bytes": 0, "max_redirects": -1,
    "idle_connections": 0, "queue_size": 0, "hooks": 5, "limits": 2,
}  # fmt: skip


def show(request: Request) -> Answer:
    """Answer with what a test wants to see of the request."""
    return Answer(200, {"X-Seen": request.headers.get("X-Mine", "-"), "X-Query": request.query}, b"shown")


# Sessions ------------------------------------------------------------------------------------------------------------


def test_a_session_per_thread() -> None:
    """A thread has one session, made on first use and the same ever after; another thread has another."""
    with BlockingPool() as pool:
        assert pool.statistics().sessions == 0
        mine = pool.session
        assert pool.session is mine
        assert isinstance(mine, Session)
        others: list[Session] = []
        both = threading.Barrier(2)

        def work() -> None:
            others.append(pool.session)
            others.append(pool.session)
            both.wait(PATIENCE_S)

        with Threads() as threads:
            threads.start(work, 2)
        assert len({id(session) for session in [mine, *others]}) == 3
        assert pool.statistics().sessions_made == 3


def test_two_pools_have_nothing_in_common() -> None:
    """One thread has a session of its own in each pool, with its own cookies and headers."""
    with BlockingPool(headers={"X-Mine": "one"}) as one, BlockingPool() as two:
        assert one.session is not two.session
        assert one.cookies is not two.cookies
        assert "X-Mine" not in two.session.headers


@pytest.mark.transports("urllib3")  # with curl a connection isn't any thread's
def test_the_session_of_a_dead_thread_is_reaped_at_once() -> None:
    """When a thread has ended its session is gone and its sockets are closed, without any call on the pool."""
    with SiteServer({"/": b"x"}) as server, BlockingPool() as pool:
        before = open_sockets()
        urls = [server.url("/")]
        with Threads() as threads:
            threads.start(lambda: pool.get(urls[0]), 5)
        ours = {key for session in list(pool._sessions) for key in session.lifeline._sockets}
        assert pool._sessions == set()
        assert ours == set()
        server.stop()  # its own ends of the connections
        assert open_sockets() <= before
        found = pool.statistics()
        assert (found.sessions, found.sessions_made, found.connections_open, found.connections_opened) == (0, 5, 0, 5)


@pytest.mark.transports("urllib3")
def test_a_death_while_the_pool_is_busy_is_noticed_later() -> None:
    """A thread that ends while the pool's lock is held doesn't wait: its sockets are closed, its entry goes next."""
    with SiteServer({"/": b"x"}) as server, BlockingPool() as pool:
        done, may_die = threading.Event(), threading.Event()
        sessions: list[Session] = []

        def work() -> None:
            sessions.append(pool.session)
            pool.get(server.url("/"))
            done.set()
            may_die.wait(PATIENCE_S)

        with Threads() as threads:
            threads.start(work)
            assert done.wait(PATIENCE_S)
            with pool._lock:
                may_die.set()
                threads.join()
                assert sessions[0].lifeline.counts() == (1, 0)
                assert sessions[0] in pool._sessions
        assert pool.statistics().sessions == 0


def test_statistics_are_frozen_numbers() -> None:
    """Statistics are a frozen snapshot: calls and connections so far, redirects no calls of their own."""
    routes = {"/": b"x", "/r": Answer(302, {"Location": "/"})}
    with SiteServer(routes) as server, SessionPool() as pool:
        pool.get(server.url("/"))
        pool.get(server.url("/r"))
        found = pool.statistics()
        assert found == Statistics(
            sessions=1, sessions_made=1, connections_open=1, connections_opened=1, requests=2, retries=0
        )
        with pytest.raises(dataclasses.FrozenInstanceError):
            found.requests = 5  # type: ignore[misc]
        list(pool.map([server.url("/r"), server.url("/")]))
        assert pool.statistics().requests == 4


def test_retries_are_counted() -> None:
    """A retry is counted as such and is no further request."""
    answers = iter([Answer(503, {"Retry-After": "0"}), Answer(200)])
    with SiteServer(lambda _: next(answers)) as server, BlockingPool(retry=RetryPolicy(backoff_s=0)) as pool:
        assert pool.get(server.url("/")).status_code == 200
        assert (pool.statistics().requests, pool.statistics().retries) == (1, 1)


# Defaults ------------------------------------------------------------------------------------------------------------


def test_a_changed_default_reaches_sessions_made_before() -> None:
    """A change of the pool's headers or params is in the next request of every session, unless it set its own."""
    with SiteServer({"/": show}) as server, BlockingPool(headers={"X-Mine": "old"}, params={"p": "1"}) as pool:
        url = server.url("/")
        assert (pool.get(url).headers["X-Seen"], pool.get(url).headers["X-Query"]) == ("old", "p=1")
        pool.headers["X-Mine"] = "new"
        pool.params = {"q": "2"}
        assert (pool.get(url).headers["X-Seen"], pool.get(url).headers["X-Query"]) == ("new", "q=2")
        pool.session.headers["X-Mine"] = "own"
        pool.headers = {"X-Mine": "newer"}
        assert pool.get(url).headers["X-Seen"] == "own"
        seen: list[str] = []
        with Threads() as threads:
            threads.start(lambda: seen.append(pool.get(url).headers["X-Seen"]))
        assert seen == ["newer"]


def test_single_defaults_can_be_set_and_read() -> None:
    """auth, verify, cert, hooks, timeout and max_redirects are read and set on the pool, and checked."""
    with BlockingPool(verify=False, timeout=3, max_redirects=2) as pool:
        assert (pool.verify, pool.timeout, pool.max_redirects, pool.auth, pool.cert) == (False, 3, 2, None, None)
        pool.auth, pool.verify, pool.proxies = ("u", "p"), True, {"http": "http://127.0.0.1:1"}
        session = pool.session
        assert (session.auth, session.verify, session.proxies["http"]) == (("u", "p"), True, "http://127.0.0.1:1")
        with pytest.raises(ConfigError, match="timeout"):
            pool.timeout = -5
        assert pool.timeout == 3
        seen: list[int] = []
        pool.hooks = {"response": lambda response, **_: seen.append(response.status_code)}
        with pytest.raises(ConfigError, match="hooks"):
            pool.hooks = 5
        assert len(pool.hooks["response"]) == 1
        with SiteServer({"/": b"x"}) as server:
            pool.verify, pool.auth, pool.proxies = False, None, {}
            pool.get(server.url("/"))
        assert seen == [200]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_bad_setting_is_named(name: str) -> None:
    """A setting that can't be is refused when the pool is made, by its name and value."""
    with pytest.raises(ConfigError, match=f"{name}.*{SETTINGS[name]}"):
        SessionPool(**{name: SETTINGS[name]})


def test_bad_headers_are_refused_where_they_are_set() -> None:
    """A header that HTTP can't carry is refused when it is set, not at the first request of some thread."""
    with pytest.raises(requests.exceptions.InvalidHeader):
        BlockingPool(headers={"a": "b\r\nc: d"})
    with BlockingPool() as pool, pytest.raises(requests.exceptions.InvalidHeader):
        pool.headers = {"a": "b\r\nc: d"}


def test_cookies_are_shared() -> None:
    """A cookie that one thread was given is sent by the next; a mapping or a store can begin it."""
    routes = {"/login": Answer(200, {"Set-Cookie": "sid=1; Path=/"}), "/": lambda r: r.headers.get("Cookie", "")}
    with SiteServer(routes) as server, BlockingPool(cookies={"first": "yes"}) as pool:
        with Threads() as threads:
            threads.start(lambda: pool.get(server.url("/login")))
        assert pool.get(server.url("/")).text in ("first=yes; sid=1", "sid=1; first=yes")
    store = CookieStore()
    with BlockingPool(cookies=store) as pool:
        assert pool.cookies is store


def test_a_site_has_settings_of_its_own() -> None:
    """Headers set for an origin go there and nowhere else."""
    with SiteServer({"/": show}) as one, SiteServer({"/": show}) as two, BlockingPool() as pool:
        pool.site(one.url(""), headers={"X-Mine": "secret"})
        assert pool.get(one.url("/")).headers["X-Seen"] == "secret"
        assert pool.get(two.url("/")).headers["X-Seen"] == "-"
        with pytest.raises(ConfigError, match="origin"):
            pool.site("no origin")


def test_a_mounted_factory_makes_an_adapter_for_each_session() -> None:
    """A factory is called in each session's thread, for sessions present and future; an adapter itself is refused."""
    made: list[tuple[int, HTTPAdapter]] = []

    def factory() -> HTTPAdapter:
        made.append((threading.get_ident(), HTTPAdapter()))
        return made[-1][1]

    with SiteServer({"/": b"x"}) as server, BlockingPool() as pool:
        assert pool.get(server.url("/")).ok
        pool.mount("http://127.0.0.1", factory)
        with Threads() as threads:
            threads.start(lambda: pool.get(server.url("/")))
        assert pool.get(server.url("/")).connection is made[-1][1]
        assert len({thread for thread, _ in made}) == 2
        with pytest.raises(ConfigError, match="factory"):
            pool.mount("http://", HTTPAdapter())  # type: ignore[arg-type]


# Closing -------------------------------------------------------------------------------------------------------------


def test_close_leaves_nothing() -> None:
    """After ``close`` no socket of the pool is open and no thread of it lives; closing again does no harm."""
    threads_before, sockets_before = set(threading.enumerate()), open_sockets()
    with SiteServer({"/": b"x"}) as server:
        pool = BlockingPool()
        pool.get(server.url("/"))
        pool.close()
        pool.close()
        assert pool.is_closed
        assert not [t for t in threading.enumerate() if t not in threads_before and "site" not in t.name]
        server.stop()
        assert open_sockets() <= sockets_before
    assert "closed" in repr(pool)


def test_leaving_with_an_exception_closes() -> None:
    """An exception goes through ``with`` and ``finally`` unchanged, and the pool is closed behind it."""
    with SiteServer({"/": b"x"}) as server:
        with pytest.raises(ZeroDivisionError), BlockingPool() as pool:
            pool.get(server.url("/"))
            raise ZeroDivisionError
        assert pool.is_closed
        other = BlockingPool()
        with pytest.raises(ZeroDivisionError):
            try:
                other.get(server.url("/"))
                raise ZeroDivisionError
            finally:
                other.close()
        assert other.statistics().connections_open == 0


def test_close_from_another_thread_ends_every_call() -> None:
    """While 16 threads wait for a server that never answers, ``close`` ends each call at once with ``PoolClosed``."""
    ends: list[BaseException] = []
    with Gate() as gate, SiteServer({"/": gate}) as server, gate:
        before = open_sockets()
        pool = BlockingPool(timeout=None, deadline=None)

        def work() -> None:
            with pytest.raises(PoolClosed) as caught:
                pool.get(server.url("/"))
            ends.append(caught.value)

        with Threads() as threads:
            threads.start(work, 16)
            gate.wait_for(16)
            pool.close()
            pool.close()
        assert len(ends) == 16
        gate.open()
        server.stop()
        assert open_sockets() <= before


def test_close_ends_a_back_off() -> None:
    """A call that sleeps before its retry ends when the pool closes, not when the sleep would."""
    with SiteServer({"/": Answer(503, {"Retry-After": "100"})}) as server:
        pool = BlockingPool(deadline=None)
        with Threads() as threads:
            asleep = threading.Event()
            wait = pool._shared.shutdown.wait
            pool._shared.shutdown.wait = lambda s: (asleep.set(), wait(s))[1]  # type: ignore[method-assign]

            def work() -> None:
                with pytest.raises(PoolClosed):
                    pool.get(server.url("/"))

            threads.start(work)
            assert asleep.wait(PATIENCE_S)
            pool.close()


def test_two_threads_may_close_at_once() -> None:
    """Closing from two threads at the same time leaves nothing behind, and both come back."""
    with SiteServer({"/": b"x"}) as server:
        pool = BlockingPool()
        pool.get(server.url("/"))
        start = threading.Barrier(2)
        with Threads() as threads:
            threads.start(lambda: (start.wait(PATIENCE_S), pool.close()), 2)
        assert pool.statistics().connections_open == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda p: p.session,
        lambda p: p.request("GET", "http://127.0.0.1:1/"),
        *(
            lambda p, v=v: getattr(p, v)("http://127.0.0.1:1/")
            for v in "get put post patch delete head options".split()
        ),
        lambda p: p.download("http://127.0.0.1:1/", "never-made"),
        lambda p: p.submit("GET", "http://127.0.0.1:1/"),
        lambda p: p.map(["http://127.0.0.1:1/"]),
        lambda p: p.crawl(["http://127.0.0.1:1/"]),
        lambda p: p.new_crawl(),
    ],
)
def test_a_closed_pool_refuses(call: Any) -> None:
    """Every method of a closed pool that would send something raises ``PoolClosed``."""
    pool = SessionPool()
    pool.close()
    with pytest.raises(PoolClosed):
        call(pool)


def test_a_session_kept_from_before_is_closed_too() -> None:
    """A session that a thread has kept refuses to send once its pool is closed."""
    pool = BlockingPool()
    session = pool.session
    pool.close()
    with pytest.raises(PoolClosed):
        session.get("http://127.0.0.1:1/")


def test_close_after_threads_died() -> None:
    """A pool whose threads have all ended closes as any other."""
    with SiteServer({"/": b"x"}) as server:
        before = open_sockets()
        pool = BlockingPool()
        with Threads() as threads:
            threads.start(lambda: pool.get(server.url("/")), 4)
        pool.close()
        assert pool.statistics().connections_open == 0
        server.stop()
        assert open_sockets() <= before


def test_close_cuts_a_streamed_response(transport: str) -> None:
    """A streamed response that is open when the pool closes is cut, and its thread closes its socket."""
    told = {"urllib3": requests.exceptions.ChunkedEncodingError, "curl": PoolClosed}[transport]
    with (
        Gate() as gate,
        SiteServer({"/": lambda r: Answer(200, {"Content-Length": "9"}, held(gate, r))}) as server,
        gate,
    ):
        before = open_sockets()
        pool = BlockingPool(timeout=None, deadline=None)
        response = pool.get(server.url("/"), stream=True)
        assert response.raw.read(4) == b"part"
        pool.close()
        with pytest.raises(told):
            list(response.iter_content(100))
        response.close()
        assert pool.statistics().connections_open == 0
        gate.open()
        server.stop()
        assert open_sockets() <= before


def held(gate: Gate, request: Request) -> Any:
    yield b"part"
    yield gate(request)
