"""Limits for requests that the caller's own thread sends: it waits for the host's turn, and counts for everybody."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import requests

from crawlpool import DeadlineExceeded, HostLimits, HostUnreachable, PoolClosed, Result, SessionPool
from crawlpool.politeness import breaker
from crawlpool.testing import Answer, Request, SiteServer, loopback_hosts
from tests.gates import Gate, Threads, until
from tests.test_politeness import Arrivals

pytestmark = pytest.mark.above_transports

DELAY_S = 0.05
DELAYED = HostLimits(delay_s=DELAY_S)


def test_the_delay_holds_for_threads_that_get() -> None:
    """Eight threads that ask one host, and a map beside them, see to it together; redirects are requests, too."""
    arrivals = Arrivals(lambda request: Answer(302, {"Location": "/to"}) if request.path == "/from" else b"x")
    with SiteServer(arrivals) as server, SessionPool(threads=4, limits=DELAYED) as pool:
        with Threads() as threads:
            threads.start(lambda: pool.get(server.url("/from")).raise_for_status(), 4)
            mapped = list(pool.map(server.url(f"/{n}") for n in range(4)))
    assert all(result.is_ok for result in mapped)
    assert len(arrivals.spans["127.0.0.1"]) == 4 * 2 + 4
    assert min(arrivals.gaps()) >= DELAY_S


def test_no_more_at_once_than_may() -> None:
    """Six threads, two at once: the server never has more; each has its answer."""
    with Gate() as gate, SiteServer({"/": gate}) as server, SessionPool(limits=HostLimits(concurrency=2)) as pool:
        with gate, Threads() as threads:
            threads.start(lambda: pool.get(server.url("/")).raise_for_status(), 6)
            gate.wait_for(2)
            until(lambda: sum(turn.waiting for turn in pool._workforce.frontier._turnstile._turns.values()) == 4)  # type: ignore[union-attr]
            gate.open()
        assert (gate.peak, gate.total) == (2, 6)


def test_a_workers_end_is_a_callers_turn() -> None:
    """Who waits for a leg of a worker is woken by its end."""
    with Gate() as gate, SiteServer({"/gate": gate, "/": b"x"}) as server:
        with SessionPool(limits=HostLimits(concurrency=1)) as pool, gate, Threads() as threads:
            future = pool.submit("GET", server.url("/gate"))
            gate.wait_for(1)
            threads.start(lambda: pool.get(server.url("/")).raise_for_status())
            until(lambda: pool._workforce.frontier._turnstile._turns)  # type: ignore[union-attr]
            gate.open()
            assert future.result().ok
        assert gate.peak == 1


def test_who_cannot_wait_so_long_is_told_at_once() -> None:
    """A turn that comes after the deadline isn't waited for."""
    with SiteServer({"/": b"x"}) as server, SessionPool(limits=HostLimits(delay_s=60.0)) as pool:
        pool.get(server.url("/"))
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="limits leave no turn"):
            pool.get(server.url("/"), deadline=30)
        assert time.monotonic() - began < 10
        assert server.request_count == 1


def test_a_deadline_ends_the_wait_for_somebody_elses_end() -> None:
    """Where nobody knows when the turn comes, it is waited for until the deadline."""
    with Gate() as gate, SiteServer({"/": gate}) as server, SessionPool(limits=HostLimits()) as pool, gate:
        future = pool.submit("GET", server.url("/"))
        gate.wait_for(1)
        with pytest.raises(DeadlineExceeded):
            pool.get(server.url("/"), deadline=0.1)
        gate.open()
        assert future.result().ok


def test_a_refusal_is_waited_out_by_all(transport: str) -> None:
    """A 503 with a Retry-After leaves the host alone, whoever asks next; the retry of the same call comes after it."""
    first = threading.Event()

    def busy(request: Request) -> Any:
        if first.is_set():
            return b"x"
        first.set()
        return Answer(503, {"Retry-After": "1"})

    arrivals = Arrivals(busy)
    with SiteServer(arrivals) as server, SessionPool(limits=HostLimits(concurrency=4)) as pool:
        assert pool.get(server.url("/")).text == "x"
        assert pool.get(server.url("/")).text == "x"
    spans = sorted(arrivals.spans["127.0.0.1"])
    assert spans[1][0] - spans[0][1] >= 1.0


def test_a_host_that_was_given_up_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its probes have failed a call ends at once."""
    monkeypatch.setattr(breaker, "PROBES_S", (0.01,))
    dead = f"http://{loopback_hosts(2)[1]}:1/"
    with SessionPool(limits=HostLimits(connect_failures=1), retry=False) as pool:
        for _ in range(2):
            with pytest.raises(requests.ConnectionError):
                pool.get(dead)
        with pytest.raises(HostUnreachable):
            pool.get(dead)


def test_closing_the_pool_ends_the_wait() -> None:
    """With ``PoolClosed``, however long the host would have rested."""
    with SiteServer({"/": b"x"}) as server, SessionPool(limits=HostLimits(delay_s=600.0), deadline=None) as pool:
        pool.get(server.url("/"))
        caught: list[BaseException] = []

        def ask() -> None:
            try:
                pool.get(server.url("/"))
            except BaseException as error:
                caught.append(error)

        with Threads() as threads:
            threads.start(ask)
            until(lambda: pool._workforce.frontier._turnstile._turns)  # type: ignore[union-attr]
            pool.close()
    assert isinstance(caught[0], PoolClosed)


def test_what_an_auth_sends_waits_for_nothing() -> None:
    """It is part of a leg that has had its turn: to wait for that leg's end would be to wait for ever."""

    def auth(request: Any) -> Any:
        request.headers["X-Token"] = pool.get(server.url("/token"), auth=lambda r: r).text
        return request

    with SiteServer({"/token": b"mine", "/": lambda request: request.headers["x-token"]}) as server:
        with SessionPool(limits=HostLimits(concurrency=1), deadline=10) as pool:
            result = next(pool.map([server.url("/")], auth=auth))
            assert result.unwrap().text == "mine"


def test_a_handler_waits_for_its_turn() -> None:
    """What a handler asks for itself is a request like any other."""
    arrivals, texts = Arrivals(), []

    def handler(result: Result, crawl: object) -> None:
        texts.append(pool.get(server.url("/more")).text)

    with SiteServer(arrivals) as server, SessionPool(threads=2, limits=DELAYED) as pool:
        assert pool.crawl([server.url("/")], handler, limits=DELAYED, robots=False).ok == 1
    assert texts == ["x"]
    assert min(arrivals.gaps()) >= DELAY_S


def test_hosts_without_limits_wait_for_nothing() -> None:
    """A site's limits hold for its host, and nobody else's."""
    with SiteServer({"/": b"x"}, hosts=loopback_hosts(2)) as server, SessionPool() as pool:
        one, other = server.hosts
        pool.site(server.url("", one), limits=HostLimits(delay_s=600.0))
        for _ in range(3):
            assert pool.get(server.url("/", other)).ok
        assert pool.get(server.url("/", one)).ok
        with pytest.raises(DeadlineExceeded):
            pool.get(server.url("/", one))
