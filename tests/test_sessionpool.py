"""``SessionPool``: submitting, refusing, and closing with work under way."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from crawlpool import (
    Cancelled,
    ConfigError,
    Crawl,
    HostLimits,
    PoolClosed,
    QueueFull,
    Result,
    RetryPolicy,
    SessionPool,
)
from crawlpool.runs import ResponseFuture
from crawlpool.testing import Answer, SiteServer
from tests.gates import PATIENCE_S, Gate, Threads
from tests.leaks import open_sockets

pytestmark = pytest.mark.transports()


def pool_threads() -> list[str]:
    """Return the names of all threads of pools."""
    return [t.name for t in threading.enumerate() if t.name.startswith(("crawlpool-worker", "crawlpool-watchdog"))]


# Submit --------------------------------------------------------------------------------------------------------------


def test_submit_sends_what_it_is_told() -> None:
    """Method and options of ``submit`` are those of the request; its cookies are the pool's."""
    with SiteServer(
        lambda r: f"{r.method} {r.query} {r.headers['X']} {r.headers['Cookie']} {r.body.decode()}"
    ) as server:
        with SessionPool(cookies={"c": "1"}) as pool:
            future = pool.submit("put", server.url("/"), params={"p": "1"}, headers={"X": "y"}, data={"d": "2"})
            assert isinstance(future, ResponseFuture)
            assert future.result(PATIENCE_S).text == "PUT p=1 y c=1 d=2"


def test_submit_blocks_while_the_queue_is_full() -> None:
    """A full queue makes ``submit`` wait, and it goes on as soon as a worker takes one."""
    with Gate() as gate, SiteServer({"/": gate}) as server, SessionPool(threads=1, queue_size=2) as pool, gate:
        futures = [pool.submit("GET", server.url("/"))]
        gate.wait_for(1)
        futures += [pool.submit("GET", server.url("/")) for _ in range(2)]
        returned = threading.Event()

        def submit() -> None:
            futures.append(pool.submit("GET", server.url("/")))
            returned.set()

        with Threads() as threads:
            threads.start(submit)
            while not pool._workforce.frontier._rooms._rooms:  # nothing announces that it sleeps there
                time.sleep(0.001)
            assert not returned.is_set()
            assert pool.statistics().queued == 2
            gate.open()
        assert [future.result(PATIENCE_S).status_code for future in futures] == [200] * 4


def test_submit_from_a_handler_never_waits() -> None:
    """On a full queue a handler's ``submit`` raises ``QueueFull``: the worker it would wait for may be itself."""
    caught: list[QueueFull] = []

    def handler(result: Result, crawl: Crawl) -> None:
        pool.submit("GET", server.url("/"))
        try:
            pool.submit("GET", server.url("/"))
        except QueueFull as error:
            caught.append(error)

    with SiteServer({"/": b"x"}) as server, SessionPool(threads=1, queue_size=1) as pool:
        pool.crawl([server.url("/")], handler).check()
    assert len(caught) == 1
    assert "1 requests wait" in str(caught[0])


@pytest.mark.parametrize("name", ["stream", "strem", "max_wait_s"])
def test_submit_takes_no_other_options(name: str) -> None:
    """An option that ``submit`` doesn't know, ``stream`` among them, is refused by name; so it is by map and crawl."""
    with SessionPool() as pool:
        with pytest.raises(ConfigError, match=rf"submit\(\) takes no '{name}'"):
            pool.submit("GET", "http://127.0.0.1:1/", **{name: 1})
        if name != "max_wait_s":
            with pytest.raises(ConfigError, match=rf"map\(\) takes no '{name}'"):
                pool.map([], **{name: 1})
            with pytest.raises(ConfigError, match=rf"crawl\(\) takes no '{name}'"):
                pool.crawl([], **{name: 1})


@pytest.mark.parametrize(
    ("name", "value"), [("deadline", -1), ("max_body_bytes", 0), ("retry", "often"), ("deadline", "soon")]
)
def test_bad_options_are_refused_at_once(name: str, value: Any) -> None:
    """An option with a value that can't be is refused where it is given, not in a worker."""
    with SessionPool() as pool:
        with pytest.raises(ConfigError, match=name):
            pool.submit("GET", "http://127.0.0.1:1/", **{name: value})
        with pytest.raises(ConfigError, match=name):
            pool.map([], **{name: value})
        with pytest.raises(ConfigError, match=name):
            pool.crawl([], **{name: value})
    with SessionPool() as pool, pytest.raises(ConfigError, match="max_wait_s"):
        pool.map([], max_wait_s=-1)


def test_the_deadline_of_submit_is_of_all_legs() -> None:
    """A submitted request has one deadline over all its retries: a retry that would pass it isn't begun."""
    with SiteServer({"/": Answer(503, {"Retry-After": "30"})}) as server, SessionPool() as pool:
        assert pool.submit("GET", server.url("/"), deadline=5).result(PATIENCE_S).status_code == 503
        assert server.request_count == 1


def test_policies_by_call_and_site() -> None:
    """A retry policy of the call goes over the site's, the site's over the pool's."""
    twice = RetryPolicy(attempts=2, backoff_s=0, budget=None)
    with SiteServer({"/": Answer(503)}) as server, SessionPool(retry=False) as pool:
        pool.submit("GET", server.url("/")).result(PATIENCE_S)
        assert server.request_count == 1
        pool.site(server.url(""), retry=twice)
        pool.submit("GET", server.url("/")).result(PATIENCE_S)
        assert server.request_count == 3
        pool.submit("GET", server.url("/"), retry=False).result(PATIENCE_S)
        assert server.request_count == 4


def test_limits_of_the_pool_and_of_a_site() -> None:
    """``submit`` and ``map`` obey the pool's limits, and a site's over them, as the server sees it."""
    with Gate() as gate, SiteServer({"/": gate}) as server, gate:
        with SessionPool(threads=4, limits=HostLimits(concurrency=3)) as pool:
            pool.site(server.url(""), limits=HostLimits(concurrency=1))
            futures = [pool.submit("GET", server.url("/")) for _ in range(4)]
            gate.wait_for(1)
            gate.open()
            assert all(future.result(PATIENCE_S).ok for future in futures)
    assert gate.peak == 1


# Close ---------------------------------------------------------------------------------------------------------------


def test_close_finishes_what_was_submitted() -> None:
    """Closing waits until every submitted request has its answer, waiting ones and retries included."""
    answers = iter([Answer(503), Answer(503), *[Answer(200)] * 30])
    policy = RetryPolicy(backoff_s=0.01, budget=None)
    with SiteServer({"/": lambda _: next(answers)}) as server:
        for _ in range(3):
            pool = SessionPool(threads=2, retry=policy)
            futures = [pool.submit("GET", server.url("/")) for _ in range(6)]
            pool.close()
            assert all(future.done() and future.result().ok for future in futures)
            assert pool_threads() == []


def test_a_request_that_was_just_taken_is_finished_too() -> None:
    """Closing doesn't overlook a request between its queue and its worker's hands."""
    with SiteServer({"/": b"x"}) as server, SessionPool(threads=1) as pool:
        take = pool._workforce.frontier.take
        taken, go_on = threading.Event(), threading.Event()

        def slow_take(*args: Any) -> Any:
            legs = take(*args)
            if legs:
                taken.set()
                assert go_on.wait(PATIENCE_S)
            return legs

        pool._workforce.frontier.take = slow_take  # type: ignore[method-assign]
        future = pool.submit("GET", server.url("/"))
        assert taken.wait(PATIENCE_S)
        with Threads() as threads:
            threads.start(pool.close)
            while not pool._submitted._none_left._waiters:  # type: ignore[attr-defined]
                time.sleep(0.001)
            go_on.set()
        assert future.result(0).ok


def test_close_with_cancel_gives_everything_up() -> None:
    """``close(cancel=True)`` ends what runs and what waits with ``PoolClosed``, though the server never answers."""
    with Gate() as gate, SiteServer({"/": gate}) as server, gate:
        pool = SessionPool(threads=2, timeout=None, deadline=None)
        futures = [pool.submit("GET", server.url("/")) for _ in range(5)]
        gate.wait_for(2)
        pool.close(cancel=True)
        assert [type(future.exception(0)) for future in futures] == [PoolClosed] * 5
        assert pool_threads() == []
        found = pool.statistics()
        assert (found.threads, found.queued, found.sessions, found.connections_open) == (0, 0, 0, 0)


def test_close_waits_no_longer_than_it_may() -> None:
    """With ``timeout_s`` closing gives up what isn't done by then."""
    with Gate() as gate, SiteServer({"/": gate}) as server, gate:
        pool = SessionPool(threads=1, timeout=None, deadline=None)
        future = pool.submit("GET", server.url("/"))
        gate.wait_for(1)
        pool.close(timeout_s=0.05)
        assert isinstance(future.exception(0), PoolClosed)


def test_a_second_close_can_cut_the_first_short() -> None:
    """While one thread closes and waits for the work, another may close with ``cancel``: both come back."""
    with Gate() as gate, SiteServer({"/": gate}) as server, gate:
        pool = SessionPool(threads=1, timeout=None, deadline=None)
        future = pool.submit("GET", server.url("/"))
        gate.wait_for(1)
        with Threads() as threads:
            threads.start(pool.close)
            while not pool._submitted._none_left._waiters:  # type: ignore[attr-defined]
                time.sleep(0.001)
            pool.close(cancel=True)
        assert isinstance(future.exception(0), PoolClosed)


def test_leaving_with_by_an_exception_cancels() -> None:
    """An exception that leaves ``with`` doesn't wait for work: it is given up."""
    with Gate() as gate, SiteServer({"/": gate}) as server, gate:
        with pytest.raises(ZeroDivisionError), SessionPool(timeout=None, deadline=None) as pool:
            future = pool.submit("GET", server.url("/"))
            gate.wait_for(1)
            raise ZeroDivisionError
        assert isinstance(future.exception(0), PoolClosed)


def test_close_while_sixteen_threads_work() -> None:
    """Closed from outside while 16 callers and 16 workers wait for a mute server: each ends, nothing is left."""
    with Gate() as gate, SiteServer({"/": gate}) as server, gate:
        before = open_sockets()
        pool = SessionPool(threads=16, timeout=None, deadline=None)
        ends: list[BaseException] = []

        def call() -> None:
            with pytest.raises(PoolClosed) as caught:
                pool.get(server.url("/"))
            ends.append(caught.value)

        with Threads() as threads:
            futures = [pool.submit("GET", server.url("/")) for _ in range(16)]
            threads.start(call, 16)
            gate.wait_for(32)
            pool.close(cancel=True)
        assert len(ends) == 16
        assert all(isinstance(future.exception(0), PoolClosed) for future in futures)
        assert pool_threads() == []
        gate.open()
        server.stop()
        assert open_sockets() <= before


def test_close_from_inside_a_handler() -> None:
    """A handler may close the pool: its crawl ends with ``PoolClosed``, and a last close leaves nothing behind."""

    def handler(result: Result, crawl: Crawl) -> None:
        pool.close()

    with SiteServer({"/": b"x"}) as server:
        before = open_sockets()
        pool = SessionPool(threads=4)
        with pytest.raises(PoolClosed):
            pool.crawl([server.url(f"/?{n}") for n in range(50)], handler)
        pool.close()
        assert pool_threads() == []
        server.stop()
        assert open_sockets() <= before


def test_close_from_inside_a_callback() -> None:
    """A future's callback, which runs in a worker, may close the pool."""
    with SiteServer({"/": b"x"}) as server:
        pool = SessionPool(threads=2)
        closed = threading.Event()
        future = pool.submit("GET", server.url("/"))
        future.add_done_callback(lambda _: (pool.close(), closed.set()))
        assert closed.wait(PATIENCE_S)
        pool.close()
        assert pool_threads() == []


def test_a_handler_that_waits_for_a_future_doesnt_hold_up_closing() -> None:
    """A handler that waits for a request that still waits is told when the pool closes; nobody waits for nobody."""
    ends: list[BaseException | None] = []
    waiting = threading.Event()

    def handler(result: Result, crawl: Crawl) -> None:
        future = pool.submit("GET", server.url("/"))
        waiting.set()
        ends.append(future.exception(PATIENCE_S))

    with SiteServer({"/": b"x"}) as server:
        pool = SessionPool(threads=1)
        with Threads() as threads:
            threads.start(lambda: pool.crawl([server.url("/")], handler))
            assert waiting.wait(PATIENCE_S)
            pool.close(cancel=True)
        assert [type(error) for error in ends] == [PoolClosed]


def test_statistics_tell_of_the_work() -> None:
    """Statistics count the workers that live and the targets that wait."""
    with Gate() as gate, SiteServer({"/": gate}) as server, SessionPool(threads=2) as pool, gate:
        futures = [pool.submit("GET", server.url("/")) for _ in range(5)]
        gate.wait_for(2)
        found = pool.statistics()
        assert (found.threads, found.queued, found.sessions, found.connections_open) == (2, 3, 2, 2)
        for future in futures[2:]:
            future.cancel()
        for future in futures[:2]:
            future.abort()
        assert [type(future.exception(PATIENCE_S)) for future in futures[:2]] == [Cancelled] * 2
