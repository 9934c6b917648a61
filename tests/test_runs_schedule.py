"""The scheduling of a map: whom a retry holds up, whose limits and whose time count."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from crawlpool import AddressRules, HostLimits, SessionPool, runs
from crawlpool.runs import MapResults
from crawlpool.testing import Answer, Request, SiteServer
from tests.gates import PATIENCE_S, Gate, Threads, until
from tests.kit import HandClock, go_by_hand

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.above_transports


def test_a_retry_occupies_no_worker() -> None:
    """With one thread, others are fetched while one target waits for its retry."""
    answers = iter([Answer(503, {"Retry-After": "1"}), Answer(200, body=b"at last")])
    with SiteServer({"/slow": lambda _: next(answers), "/": b"fast"}) as server, SessionPool(threads=1) as pool:
        urls = [server.url("/slow"), *[server.url("/")] * 20]
        texts = [result.unwrap().text for result in pool.map(urls)]
        assert texts == ["fast"] * 20 + ["at last"]


def test_limits_hold_for_the_hosts_of_redirects() -> None:
    """A redirect hop counts for the host that it leads to: its limit is never exceeded."""
    with Gate() as gate, SiteServer({"/": gate}) as target:
        away = Answer(302, {"Location": target.url("/")})
        with SiteServer({"/": away}, hosts=["127.0.0.2", "127.0.0.3"]) as origin, gate:
            limits = HostLimits(concurrency=2)
            with SessionPool(threads=8, limits=limits, addresses=AddressRules("allow")) as pool, Threads() as threads:
                urls = [origin.url("/", host) for host in origin.hosts] * 4 + [target.url("/")] * 4
                results: list[Any] = []
                threads.start(lambda: results.extend(pool.map(urls)))
                gate.wait_for(2)
                until_waiting(pool, len(urls) - 2)
                assert gate.held == 2
                gate.open()
                threads.join()
            assert gate.peak <= 2
            assert len(results) == len(urls)
            assert all(result.is_ok for result in results)


def until_waiting(pool: SessionPool, count: int) -> None:
    """Wait until ``count`` legs wait and only the held ones run; nothing announces it."""
    for _ in range(int(PATIENCE_S * 1000)):
        if len(pool._workforce.frontier) == count:
            return
        threading.Event().wait(0.001)
    raise AssertionError(f"{len(pool._workforce.frontier)} legs wait, not {count}")


def test_the_deadline_of_a_map_is_each_legs() -> None:
    """In a map the deadline runs from a leg's start: time in the queue doesn't count."""
    clock = HandClock(time.monotonic())
    left: list[float] = []

    def auth(request: Any) -> Any:  # runs when a leg has begun
        left.extend(leg.deadline.remaining_s() for leg in pool._workforce._running if leg.deadline is not None)
        return request

    def answer(_: Request) -> bytes:
        clock.tick(60)
        return b"x"

    with Gate() as gate, SiteServer({"/hang": gate, "/": answer}) as server, gate:
        with SessionPool(threads=1, timeout=None) as pool:
            hung = list(pool.map([server.url("/hang")] * 2, deadline=0.3, retry=False))
            pool._shared.clock = clock
            results = list(pool.map([server.url("/")] * 3, deadline=100, auth=auth))
    assert [str(result.error_kind) for result in hung] == ["deadline", "deadline"]
    assert all(result.is_ok for result in results)
    assert left == [100.0] * 3


def test_max_wait_bounds_the_queue() -> None:
    """A target that has waited longer than ``max_wait_s`` fails instead of being sent."""
    clock = HandClock()

    def slow(_: Request) -> bytes:
        until(lambda: len(frontier) == 1)
        clock.tick(60)
        return b"x"

    with SiteServer(slow) as server, SessionPool(threads=1) as pool:
        frontier = pool._workforce.frontier
        go_by_hand(pool, clock)
        first, second = pool.map([server.url("/first"), server.url("/second")], max_wait_s=59, ordered=True)
        assert first.is_ok
        assert str(second.error_kind) == "deadline"
        assert "waited" in str(second.error)
        assert server.request_count == 1


def test_input_that_takes_its_time_holds_back_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has come while a target was waited for goes to the consumer before the next one is asked for."""
    monkeypatch.setattr(runs, "_SLOW_S", 0.0)
    seen: list[str] = []
    with SiteServer({"/": lambda request: request.query}) as server, SessionPool(threads=2) as pool:
        results: list[MapResults] = []

        def slow() -> Iterator[str]:
            for number in range(5):
                assert len(seen) >= number - 1
                if number:
                    until(lambda: results[0]._run.has_news)
                yield server.url(f"/?{number}")

        results.append(pool.map(slow()))
        for result in results[0]:
            seen.append(result.unwrap().text)
    assert sorted(seen) == list("01234")
