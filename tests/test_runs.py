"""Futures of submitted requests, and the lazy map over many."""

from __future__ import annotations

import concurrent.futures
import gc
import math
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from crawlpool import Cancelled, InputError, Outcome, PoolClosed, RetryPolicy, SessionPool, Target
from crawlpool.testing import Answer, Request, SiteServer
from tests.gates import PATIENCE_S, Gate, Threads

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.above_transports


def endless(url: str, read: list[int]) -> Iterator[str]:
    """Yield URLs for ever and note how many were read."""
    while True:
        read.append(len(read))
        yield f"{url}?{len(read) - 1}"


def number_of(request: Request) -> str:
    return request.query


# Futures -------------------------------------------------------------------------------------------------------------


def test_a_future_has_the_response_or_the_error() -> None:
    """``result()`` is the response whatever its status, or raises the request's own error; ``exception()`` tells it."""
    with SiteServer({"/": b"x"}) as server, SessionPool(retry=False) as pool:
        future = pool.submit("GET", server.url("/"))
        assert future.result(PATIENCE_S).text == "x"
        assert future.exception() is None
        assert pool.submit("GET", server.url("/missing")).result(PATIENCE_S).status_code == 404
        with pytest.raises(requests.ConnectionError):
            pool.submit("GET", "http://127.0.0.1:1/").result(PATIENCE_S)
        assert isinstance(pool.submit("GET", "nothing").exception(PATIENCE_S), requests.exceptions.MissingSchema)
        done, _ = concurrent.futures.wait([future], PATIENCE_S)
        assert done == {future}


def test_cancel_takes_back_what_waits() -> None:
    """A request that waits is taken back: never sent, its room free at once, its waiters told."""
    with Gate() as gate, SiteServer({"/": gate}) as server, SessionPool(threads=1, queue_size=1) as pool, gate:
        running = pool.submit("GET", server.url("/"))
        gate.wait_for(1)
        waiting = pool.submit("GET", server.url("/"))
        assert waiting.cancel()
        assert waiting.cancelled()
        assert concurrent.futures.wait([waiting], PATIENCE_S).done == {waiting}
        assert pool.statistics().queued == 0
        other = pool.submit("GET", server.url("/"))  # there is room
        assert not running.cancel()
        gate.open()
        assert other.result(PATIENCE_S).ok and running.result(PATIENCE_S).ok
        assert server.request_count == 2
        with pytest.raises(concurrent.futures.CancelledError):
            waiting.result()


def test_abort_ends_a_running_transfer() -> None:
    """Aborting ends a transfer that a server never would, at once; a future that is done isn't aborted."""
    with Gate() as gate, SiteServer({"/": gate}) as server, SessionPool(timeout=None, deadline=None) as pool, gate:
        future = pool.submit("GET", server.url("/"))
        gate.wait_for(1)
        assert future.abort()
        with pytest.raises(Cancelled):
            future.result(PATIENCE_S)
        assert not future.cancelled()
        assert not future.abort()


def test_abort_of_one_that_waits_cancels_it() -> None:
    """Aborting a request that waits is taking it back."""
    with Gate() as gate, SiteServer({"/": gate}) as server, SessionPool(threads=1) as pool, gate:
        running = pool.submit("GET", server.url("/"))
        gate.wait_for(1)
        waiting = pool.submit("GET", server.url("/"))
        assert waiting.abort()
        assert waiting.cancelled()
        assert not waiting.abort()
        gate.open()
        assert running.result(PATIENCE_S).ok
    assert server.request_count == 1


def test_abort_ends_a_back_off() -> None:
    """Aborting a request that waits for its retry ends it now, not when the retry would be due."""
    with SiteServer({"/": Answer(503, {"Retry-After": "100"})}) as server, SessionPool(deadline=None) as pool:
        future = pool.submit("GET", server.url("/"))
        while pool._workforce.frontier._schedule._later.due_at == math.inf:  # nothing announces that the leg lies there
            threading.Event().wait(0.001)
        assert not future.cancel()
        assert future.abort()
        with pytest.raises(Cancelled):
            future.result(PATIENCE_S)
        assert pool.statistics().queued == 0


def test_abort_between_taking_and_sending() -> None:
    """An abort that comes when a worker has the request and hasn't sent it yet isn't lost."""
    prepared, go_on = threading.Event(), threading.Event()

    def slow_auth(request: Any) -> Any:
        prepared.set()
        assert go_on.wait(PATIENCE_S)
        return request

    with SiteServer({"/": b"x"}) as server, SessionPool() as pool:
        future = pool.submit("GET", server.url("/"), auth=slow_auth)
        assert prepared.wait(PATIENCE_S)
        assert future.abort()
        go_on.set()
        with pytest.raises((Cancelled, concurrent.futures.CancelledError)):
            future.result(PATIENCE_S)
    assert server.request_count == 0


def test_abort_of_a_retry_that_was_just_taken() -> None:
    """An abort that comes when a worker has taken a retry and hasn't begun with it isn't lost either."""
    with SiteServer({"/": Answer(503, {"Retry-After": "0"})}) as server:
        with SessionPool(threads=1, retry=RetryPolicy(backoff_s=0, budget=None)) as pool:
            take = pool._workforce.frontier.take
            taken, go_on = threading.Event(), threading.Event()

            def slow_take(*args: Any) -> Any:
                legs = take(*args)
                if legs and legs[0].attempt == 2:
                    taken.set()
                    assert go_on.wait(PATIENCE_S)
                return legs

            pool._workforce.frontier.take = slow_take  # type: ignore[method-assign]
            future = pool.submit("GET", server.url("/"))
            assert taken.wait(PATIENCE_S)
            assert future.abort()
            go_on.set()
            with pytest.raises(Cancelled):
                future.result(PATIENCE_S)
        assert server.request_count == 1


def test_a_callback_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """A done-callback runs in the worker; what it raises is logged and the worker goes on."""
    with SiteServer({"/": b"x"}) as server, SessionPool(threads=1) as pool:
        start = threading.Event()
        future = pool.submit("GET", server.url("/"), hooks={"response": lambda r, **_: start.wait(PATIENCE_S) and None})
        future.add_done_callback(lambda _: (_ for _ in ()).throw(SystemExit))
        start.set()
        assert future.result(PATIENCE_S).ok
        assert pool.submit("GET", server.url("/")).result(PATIENCE_S).ok
        assert pool.statistics().threads == 1


# Map: input and output -----------------------------------------------------------------------------------------------


def test_map_gives_each_target_its_result() -> None:
    """Each target, URL or ``Target``, has exactly one result, with the very object that was given."""
    with SiteServer(number_of) as server, SessionPool(threads=4) as pool:
        targets = [Target(server.url(f"/?{number}"), meta=number) for number in range(50)]
        results = list(pool.map(targets))
        assert sorted(result.target.meta for result in results) == list(range(50))
        assert all(result.unwrap().text == str(result.target.meta) for result in results)
        assert {id(result.target) for result in results} == {id(target) for target in targets}
        assert [result.unwrap().text for result in pool.map([server.url("/?plain")])] == ["plain"]
        assert list(pool.map([])) == []


def test_map_in_order() -> None:
    """With ``ordered`` results come in the order of the input, when the first is the last to answer, too."""
    with Gate(b"slow") as gate, SiteServer({"/slow": gate, "/": b"fast"}) as server, gate:
        with SessionPool(threads=3) as pool:
            twice = Target(server.url("/"))
            results = pool.map([server.url("/slow"), twice, twice, server.url("/")], ordered=True)
            with Threads() as threads:
                threads.start(lambda: (gate.wait_for(1), gate.open()))
                assert [result.unwrap().text for result in results] == ["slow", "fast", "fast", "fast"]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(["/", "/missing", "/again", "/loop", "nothing", None, 5]), max_size=30), st.booleans())
def test_one_result_for_each_whatever_it_is(paths: list[Any], ordered: bool) -> None:
    """Whatever mix of answers, retries, redirects and rubbish: as many results as inputs, in order when asked."""
    routes = {"/": b"x", "/again": Answer(503), "/loop": Answer(302, {"Location": "/loop"})}
    policy = RetryPolicy(attempts=2, backoff_s=0, budget=None)
    with SiteServer(routes) as server, SessionPool(threads=3, retry=policy, max_redirects=2) as pool:
        given = [server.url(path) if isinstance(path, str) and path[0] == "/" else path for path in paths]
        outcomes = [result.outcome for result in pool.map(given, ordered=ordered)]
    expected = {"/": Outcome.OK, "/missing": Outcome.HTTP_ERROR, "/again": Outcome.HTTP_ERROR}
    wanted = [expected.get(path, Outcome.FAILED) for path in paths]
    assert outcomes == wanted if ordered else sorted(outcomes) == sorted(wanted)


def test_map_reads_lazily() -> None:
    """Of an endless input no more is read than may be under way or wait: threads and queue, and not one result more."""
    read: list[int] = []
    with SiteServer(number_of) as server, SessionPool(threads=2, queue_size=3) as pool:
        results = pool.map(endless(server.url("/"), read))
        assert read == []
        for number in range(1, 40):
            next(results)
            assert len(read) <= number + 5
        results.close()


def test_what_is_no_target_fails_alone() -> None:
    """An input that is no URL and no target has a failed result of its own; the others are fetched."""
    with SiteServer({"/": b"x"}) as server, SessionPool() as pool:
        given: list[Any] = [server.url("/"), None, b"bytes", server.url("/")]
        results = list(pool.map(given, ordered=True))
        assert [result.outcome for result in results] == [Outcome.OK, Outcome.FAILED, Outcome.FAILED, Outcome.OK]
        assert all(isinstance(result.error, InputError) for result in results[1:3])
        with pytest.raises(TypeError, match="iterable"):
            pool.map(5)  # type: ignore[arg-type]


# Map: its end --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "break", "raise", "input raises"])
def test_leaving_early_stops_the_work(how: str) -> None:
    """However the loop is left: what waits is dropped, what runs is aborted, and the server hears no more."""
    with Gate() as gate, SiteServer({"/first": b"x", "/": gate}) as server, gate:
        with SessionPool(threads=2, queue_size=8, timeout=None, deadline=None) as pool:

            def given() -> Iterator[str]:
                yield server.url("/first")
                for _ in range(6):
                    yield server.url("/")
                if how == "input raises":
                    gate.wait_for(1)
                    raise ZeroDivisionError
                for _ in range(100):
                    yield server.url("/")

            def consume() -> None:
                for result in pool.map(given()):
                    assert result.target.url == server.url("/first")
                    if how == "break":
                        break
                    if how == "raise":
                        raise ZeroDivisionError

            if how == "close":
                results = pool.map(given())
                next(results)
                results.close()
                results.close()
                assert list(results) == []
            elif how == "break":
                consume()
            else:
                with pytest.raises(ZeroDivisionError):
                    consume()
            gc.collect()  # a traceback may have held the iterator
            until_idle(pool)
            assert server.request_count <= 1 + 2
            assert pool.statistics().queued == 0


def until_idle(pool: SessionPool) -> None:
    """Wait until no worker of the pool has anything to do; nothing announces it."""
    for _ in range(int(PATIENCE_S * 1000)):
        if not pool._workforce._running and not len(pool._workforce.frontier):
            return
        threading.Event().wait(0.001)
    raise AssertionError("the workers don't come to rest")


def test_a_map_that_is_dropped_in_a_collection_takes_no_lock() -> None:
    """Dropping a map takes no lock: a garbage collection may drop it in a thread that holds them all."""
    with Gate() as gate, SiteServer({"/first": b"x", "/": gate}) as server, gate:
        with SessionPool(threads=1, timeout=None, deadline=None) as pool:
            results = pool.map([server.url("/first")] + [server.url("/")] * 5)
            next(results)
            gate.wait_for(1)
            with pool._lock, pool._workforce._lock, pool._workforce.frontier._lock, results._run._lock:
                del results
            until_idle(pool)


def test_close_of_the_pool_ends_a_map() -> None:
    """A consumer that waits while the pool is closed gets ``PoolClosed``, and nobody hangs."""
    with Gate() as gate, SiteServer({"/": gate}) as server, gate:
        pool = SessionPool(threads=2, timeout=None, deadline=None)
        ends: list[str] = []

        def consume() -> None:
            read: list[int] = []
            try:
                for result in pool.map(endless(server.url("/"), read)):
                    assert isinstance(result.error, PoolClosed)
            except PoolClosed:
                ends.append("closed")

        with Threads() as threads:
            threads.start(consume)
            gate.wait_for(2)
            pool.close()
        assert ends == ["closed"]
