"""How a crawl ends: drained, stopped, with a broken sink, a full disk or a closed pool; the books balance each time."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import pytest

from crawlpool import (
    Crawl,
    CrawlPoolError,
    HostLimits,
    Outcome,
    PoolClosed,
    Report,
    Result,
    SessionPool,
    SinkError,
    Target,
)
from crawlpool.frontier import Offered
from crawlpool.testing import Answer, SiteServer
from tests.gates import PATIENCE_S, Gate, ListSink, Threads, until

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.above_transports


class BrokenSink(ListSink):
    """A sink that fails after some records."""

    def __init__(self, after: int, error: BaseException) -> None:
        super().__init__()
        self.after, self.error = after, error

    def write(self, result: Result) -> None:
        if len(self.results) >= self.after:
            raise self.error
        super().write(result)

    def emit(self, item: Any) -> None:
        raise self.error


def run_in_thread(threads: Threads, crawl: Crawl, seeds: Any) -> list[Report]:
    """Run a crawl in a thread of its own; its report is in the list when the threads are joined."""
    reports: list[Report] = []
    threads.start(lambda: reports.append(crawl.run(seeds)))
    return reports


def test_drain_finishes_what_runs() -> None:
    """Draining lets running targets finish and skips those that wait; the books balance and say it wasn't all."""
    sink = ListSink()
    with Gate() as gate, SiteServer({"/": gate}) as server, SessionPool(threads=2) as pool, gate, Threads() as threads:
        crawl = pool.new_crawl(sinks=[sink])
        reports = run_in_thread(threads, crawl, [server.url(f"/?{n}") for n in range(10)])
        gate.wait_for(2)
        while crawl.progress().queued < 8:  # nothing announces that all are fed
            threading.Event().wait(0.001)
        assert crawl.progress().running == 2
        crawl.drain()
        crawl.drain()
        assert crawl.is_draining
        assert not crawl.add(server.url("/?late"))
        gate.open()
        threads.join()
        (report,) = reports
        assert (report.inputs, report.ok, report.skipped, report.is_complete) == (10, 2, 8, False)
        assert [result.reason for result in sink.results].count("interrupted") == 8
        assert server.request_count == 2


def test_stop_ends_what_runs() -> None:
    """Stopping ends running transfers too, at once, as skipped: a later run may fetch them."""
    sink = ListSink()
    with Gate() as gate, SiteServer({"/": gate}) as server, gate:
        with SessionPool(threads=2, timeout=None, deadline=None) as pool, Threads() as threads:
            crawl = pool.new_crawl(sinks=[sink], deadline=None)
            reports = run_in_thread(threads, crawl, [server.url(f"/?{n}") for n in range(5)])
            gate.wait_for(2)
            crawl.stop()
            threads.join()
    (report,) = reports
    assert report.check().skipped == report.inputs
    assert {result.reason for result in sink.results} == {"interrupted"}


def test_stop_ends_a_back_off() -> None:
    """A target that waits for its retry is skipped when the crawl is drained, not waited for."""
    with SiteServer({"/": Answer(503, {"Retry-After": "100"})}) as server, SessionPool() as pool, Threads() as threads:
        crawl = pool.new_crawl()
        reports = run_in_thread(threads, crawl, [server.url("/")])
        while pool._workforce.frontier._schedule._later.due_at == math.inf:  # nothing announces that the leg lies there
            threading.Event().wait(0.001)
        crawl.drain()
        threads.join()
    assert (reports[0].skipped, reports[0].inputs) == (1, 1)


def test_drain_stops_reading_seeds() -> None:
    """A drained crawl reads no further seed; what it never took is no part of its books."""
    read = 0

    def seeds() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield server.url("/")

    def handler(result: Result, crawl: Crawl) -> None:
        crawl.drain()

    with SiteServer({"/": b"x"}) as server, SessionPool(threads=1) as pool:
        report = pool.crawl(seeds(), handler).check()
        assert report.inputs == read
        assert not report.is_complete


def test_a_feeder_that_waits_for_room_is_let_go() -> None:
    """A crawl whose feeder waits for room in the queue is drained all the same."""
    with Gate() as gate, SiteServer({"/": gate}) as server, SessionPool(threads=1) as pool, gate, Threads() as threads:
        crawl = pool.new_crawl()
        crawl.group.capacity = crawl.group.most = 3
        reports = run_in_thread(threads, crawl, [server.url(f"/?{n}") for n in range(50)])
        gate.wait_for(1)
        # It may sleep there once before the first leg is taken, too.
        until(lambda: pool._workforce.frontier._rooms._rooms and crawl.group.queued == 3)
        crawl.drain()
        gate.open()
        threads.join()
        assert (reports[0].inputs, reports[0].ok, reports[0].skipped) == (5, 1, 4)


def test_adds_and_a_drain_at_the_same_moment() -> None:
    """However adds and a drain interleave, the crawl ends and each target that was taken has its outcome."""
    for _ in range(10):
        start = threading.Barrier(4)
        added: list[bool] = []

        def add(crawl: Crawl, start: threading.Barrier = start, added: list[bool] = added) -> None:
            start.wait(PATIENCE_S)
            added.extend([crawl.add(f"x://{threading.get_ident()}/{n}") for n in range(50)])

        def drain(crawl: Crawl, start: threading.Barrier = start) -> None:
            start.wait(PATIENCE_S)
            crawl.drain()

        with Gate() as gate, SiteServer({"/": gate}) as server, SessionPool(threads=2) as pool, gate:
            crawl = pool.new_crawl()
            with Threads() as threads:
                reports = run_in_thread(threads, crawl, [server.url("/")])
                gate.wait_for(1)
                threads.start(lambda crawl=crawl: add(crawl), 3)  # type: ignore[misc]
                threads.start(lambda crawl=crawl: drain(crawl))  # type: ignore[misc]
                gate.open()
        assert reports[0].check().found == added.count(True)


def test_an_add_that_was_late_for_the_drain_is_settled() -> None:
    """A target that passed the look at the drain and reaches the queue after it is settled, and the crawl ends."""
    with Gate() as gate, SiteServer({"/": gate}) as server, SessionPool() as pool, gate, Threads() as threads:
        crawl = pool.new_crawl()
        reports = run_in_thread(threads, crawl, [server.url("/")])
        gate.wait_for(1)
        add = crawl._intake.add

        def late(target: Target) -> None:
            crawl.drain()
            add(target)

        crawl._intake.add = late  # type: ignore[method-assign]
        assert crawl.add(server.url("/?late"))
        gate.open()
        threads.join()
    assert (reports[0].ok, reports[0].skipped, reports[0].found) == (1, 1, 1)


def test_room_that_another_thread_takes() -> None:
    """A target that finds no room goes to the backlog, its share given back, and is fetched later."""
    with SiteServer({"/": b"x"}) as server, SessionPool(threads=1) as pool:
        offer, refused = pool._workforce.offer, [True]

        def taken(leg: Any, *, block: bool, anyway: bool = False) -> Offered:
            return Offered.FULL if not block and refused and refused.pop() else offer(leg, block=block, anyway=anyway)

        pool._workforce.offer = taken  # type: ignore[method-assign]

        def handler(result: Result, crawl: Crawl) -> None:
            crawl.add(server.url("/?once"))

        report = pool.crawl([server.url("/")], handler, max_per_host=2)
    assert (report.ok, report.skipped, report.found) == (2, 0, 1)


@pytest.mark.parametrize("error", [SinkError("the disk is full"), ValueError("a user's sink"), SystemExit("out")])
def test_a_broken_sink_stops_the_crawl(error: BaseException) -> None:
    """When a sink can't write any more, the crawl stops with ``SinkError``, whatever the sink raised."""
    sink = BrokenSink(2, error)
    with SiteServer({"/": b"x"}) as server, SessionPool(threads=2) as pool:
        with pytest.raises(SinkError, match=str(error)):
            pool.crawl((server.url("/") for _ in range(10_000)), sinks=[sink])
        assert len(sink.results) == 2
        assert server.request_count < 200
        assert pool.crawl([server.url("/")]).ok == 1  # the pool goes on


def test_a_sink_that_takes_no_items() -> None:
    """A handler's ``emit`` that fails stops the crawl with ``SinkError``, too."""

    def handler(result: Result, crawl: Crawl) -> None:
        crawl.emit({"a": 1})

    sink = BrokenSink(100, SinkError("the disk is full"))
    with SiteServer({"/": b"x"}) as server, SessionPool() as pool, pytest.raises(SinkError, match="disk"):
        pool.crawl([server.url("/")], handler, sinks=[sink])


def test_an_on_result_that_raises() -> None:
    """``on_result`` must not raise; if it does, the crawl ends with that instead of hanging."""

    def on_result(result: Result) -> None:
        raise ZeroDivisionError

    with SiteServer({"/": b"x"}) as server, SessionPool() as pool, pytest.raises(ZeroDivisionError):
        pool.crawl([server.url(f"/?{n}") for n in range(30)], on_result=on_result)


def test_on_result_sees_every_result() -> None:
    """``on_result`` is called once for each target, after its record was written."""
    sink = ListSink()
    seen: list[tuple[Result, bool]] = []
    with SiteServer({"/": b"x"}) as server, SessionPool() as pool:
        pool.crawl(
            [server.url(f"/?{n}") for n in range(5)],
            sinks=[sink],
            on_result=lambda result: seen.append((result, result in sink.results)),
        )
    assert len(seen) == 5
    assert all(was_written for _, was_written in seen)


def test_closing_the_pool_ends_the_crawl() -> None:
    """A pool that is closed meanwhile ends the crawl with ``PoolClosed``; all targets are settled first."""
    sink = ListSink()
    with Gate() as gate, SiteServer({"/": gate}) as server, gate:
        pool = SessionPool(threads=2, timeout=None, deadline=None)
        with Threads() as threads:

            def crawl() -> None:
                with pytest.raises(PoolClosed):
                    pool.crawl([server.url(f"/?{n}") for n in range(5)], sinks=[sink], deadline=None)

            threads.start(crawl)
            gate.wait_for(2)
            pool.close()
    assert {result.outcome for result in sink.results} == {Outcome.SKIPPED}


@pytest.mark.parametrize("what", ["read", "write"])
def test_a_backlog_that_breaks(what: str) -> None:
    """When waiting targets can't be read from disk, or not put back, the crawl ends with that and doesn't hang."""

    def broken(*_: Any) -> Any:
        raise CrawlPoolError("the temporary file can't be read")

    def full(leg: Any, *, block: bool, anyway: bool = False) -> Offered:
        return offer(leg, block=block, anyway=anyway) if block else Offered.FULL

    def handler(result: Result, crawl: Crawl) -> None:
        if result.target.depth == 0:
            if what == "read":
                crawl._intake._backlog.take = broken  # type: ignore[method-assign]
                pool._workforce.offer = full  # type: ignore[method-assign]
                crawl.add(server.url("/?1"), parent=result)
            else:
                crawl.add(server.url("/?1"), parent=result)
                pool._workforce.offer = full  # type: ignore[method-assign]
                crawl._intake._backlog.put = broken  # type: ignore[method-assign]
                with pytest.raises(CrawlPoolError):
                    crawl.add(server.url("/?2"), parent=result)

    with SiteServer({"/": b"x"}) as server, SessionPool() as pool:
        offer = pool._workforce.offer
        if what == "read":
            with pytest.raises(CrawlPoolError, match="temporary"):
                pool.crawl([server.url("/")], handler)
        else:
            assert pool.crawl([server.url("/")], handler).check().found == 1


def test_many_seeds_lie_nowhere() -> None:
    """However many seeds there are, no more than a bounded number is read ahead of those that are done."""
    read = done = ahead = 0

    def seeds() -> Iterator[Target]:
        nonlocal read, ahead
        for read in range(1, 5001):
            ahead = max(ahead, read - done)
            yield Target(f"x://h/{read}")

    def on_result(result: Result) -> None:
        nonlocal done
        done += 1

    with SessionPool(threads=1) as pool:
        report = pool.crawl(seeds(), on_result=on_result, limits=HostLimits(concurrency=None))
    assert report.failed == 5000
    assert ahead <= Crawl.WAITING + 3
