"""The workers: started as work comes, outliving whatever a target does, ended without a trace."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import pytest

from crawlpool import Cancelled, HostLimits, Outcome, SessionPool
from crawlpool.leg import Leg
from crawlpool.testing import SiteServer
from crawlpool.worker import Workforce
from tests.gates import PATIENCE_S, Gate, ListRun, Threads, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crawlpool.clock import Clock
    from crawlpool.models import Result


pytestmark = pytest.mark.transports()


@contextlib.contextmanager
def crew(pool: SessionPool) -> Iterator[Workforce]:
    """Yield the pool's workers, and end the pool."""
    with pool:
        yield pool._workforce


def take_all(run: ListRun, count: int) -> list[Result]:
    for _ in range(count):
        assert run.came.acquire(timeout=PATIENCE_S)
    return [result for _, result in run.results]


@pytest.mark.transports("urllib3")
def test_workers_come_with_the_work() -> None:
    """A pool has no worker until there is work, one for one leg, and never more than it may."""
    with Gate() as gate, SiteServer({"/": gate}) as server, crew(SessionPool(threads=2)) as workers, gate:
        assert workers.threads == 0
        run = ListRun()
        workers.put(run.leg(server.url("/")))
        gate.wait_for(1)
        assert workers.threads == 1
        for _ in range(3):
            workers.put(run.leg(server.url("/")))
        gate.wait_for(1)
        assert workers.threads == 2
        assert gate.held == 2
        gate.open()
        assert {result.outcome for result in take_all(run, 4)} == {Outcome.OK}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("crawlpool-worker")]


@pytest.mark.transports("curl")
def test_who_goes_off_into_a_users_code_leaves_somebody_behind() -> None:
    """One worker has sent two requests off; the first's callback waits for the second, which another one finishes."""
    with Gate() as gate, Gate() as later, SiteServer({"/": gate, "/later": later}) as server, gate, later:
        with crew(SessionPool(threads=2)) as workers:
            pool, ensure = workers._pool, workers._ensure_worker

            def ensure_late() -> None:  # when the only worker has sent the second off, too, and waits for answers
                until(lambda: not workers.threads or (workers.frontier.idle == 1 and not len(workers.frontier)))
                ensure()

            workers._ensure_worker = ensure_late  # type: ignore[method-assign]
            first = pool.submit("GET", server.url("/"))  # type: ignore[attr-defined]
            gate.wait_for(1)
            second = pool.submit("GET", server.url("/later"))  # type: ignore[attr-defined]
            later.wait_for(1)
            assert workers.threads == 1
            waits, texts = threading.Event(), []

            def wait_for_the_second(_: object) -> None:
                waits.set()
                texts.append(second.result(PATIENCE_S).text)

            first.add_done_callback(wait_for_the_second)
            gate.open()
            assert waits.wait(PATIENCE_S)
            later.open()
            second.result(PATIENCE_S)
            until(lambda: texts)
    assert texts == ["through the gate"]


def test_workers_have_names() -> None:
    """Workers are called ``crawlpool-worker-3``, and know that they are workers."""
    seen: list[tuple[str, bool]] = []

    class Naming(ListRun):
        def settled(self, ended: Sequence[tuple[Leg, Result]]) -> None:
            seen.append((threading.current_thread().name, workers.is_worker()))
            super().settled(ended)

    with SiteServer({"/": b"x"}) as server, crew(SessionPool()) as workers:
        run = Naming()
        workers.put(run.leg(server.url("/")))
        take_all(run, 1)
        assert not workers.is_worker()
    assert seen == [("crawlpool-worker-1", True)]


def test_a_run_that_raises_ends_no_worker(caplog: pytest.LogCaptureFixture) -> None:
    """A run that can't take its result is a fault that is logged; the worker goes on with the next leg."""

    class Raising(ListRun):
        def settled(self, ended: Sequence[tuple[Leg, Result]]) -> None:
            super().settled(ended)
            raise SystemExit("out")

    with SiteServer({"/": b"x"}) as server, crew(SessionPool(threads=1)) as workers:
        run = Raising()
        for _ in range(3):
            workers.put(run.leg(server.url("/")))
        assert len(take_all(run, 3)) == 3
        assert workers.threads == 1
    assert "a run failed to take results" in caplog.text


def test_a_pool_that_closes_before_its_worker_wakes() -> None:
    """A worker whose pool closed before it came to anything ends quietly, and its leg is settled by the closing."""
    pool = SessionPool(threads=1)
    run = ListRun()
    with pool._lock:  # the worker waits here for its session
        pool._workforce.put(run.leg("http://127.0.0.1:1/"))
        pool._is_closed = True
    (worker,) = pool._workforce._threads
    worker.join(PATIENCE_S)
    pool.close(cancel=True)
    assert len(run.results) == 1


def test_no_thread_left_in_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system refuses another thread, those that there are do the work; without any, the caller is told."""
    start = threading.Thread.start
    allowed = iter([True, False, False])

    def scarce(thread: threading.Thread) -> None:
        if thread.name.startswith("crawlpool-worker") and not next(allowed):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    with Gate() as gate, SiteServer({"/": gate}) as server, crew(SessionPool(threads=4)) as workers, gate:
        run = ListRun()
        workers.put(run.leg(server.url("/")))
        gate.wait_for(1)
        workers.put(run.leg(server.url("/")))
        assert workers.threads == 1
        gate.open()
        assert len(take_all(run, 2)) == 2
        with pytest.raises(RuntimeError, match="new thread"), crew(SessionPool()) as others:
            others.put(run.leg(server.url("/")))


def test_abort_ends_what_runs_of_one_run() -> None:
    """Aborting a run ends its transfers at once and no other's."""
    with Gate() as gate, SiteServer({"/": gate}) as server, crew(SessionPool()) as workers, gate:
        one, other = ListRun(), ListRun()
        for run in (one, one, other):
            workers.put(run.leg(server.url("/")))
        gate.wait_for(3)
        workers.abort(one)
        assert [type(result.error) for result in take_all(one, 2)] == [Cancelled, Cancelled]
        gate.open()
        assert take_all(other, 1)[0].is_ok


def test_a_leg_that_was_taken_and_not_begun_is_not_sent() -> None:
    """A run that stops between a worker's taking a leg and its sending it isn't sent any more."""

    class Unwanted(ListRun):
        def is_wanted(self, leg: Leg) -> bool:
            return False

    with SiteServer({"/": b"x"}) as server, crew(SessionPool()) as workers:
        run = Unwanted()
        workers.put(run.leg(server.url("/")))
        (result,) = take_all(run, 1)
        assert (result.outcome, type(result.error), result.attempts) == (Outcome.FAILED, Cancelled, 0)
        assert server.request_count == 0


def test_an_abandoned_run_sends_nothing_more() -> None:
    """Abandoning takes no lock: what waits isn't sent from that moment on, and the watchdog ends what runs."""
    with Gate() as gate, SiteServer({"/": gate}) as server, crew(SessionPool(threads=1)) as workers, gate:
        run = ListRun()
        for _ in range(3):
            workers.put(run.leg(server.url("/")))
        gate.wait_for(1)
        with workers._lock, workers.frontier._lock:
            workers.abandon(run)
        (result,) = take_all(run, 1)
        assert isinstance(result.error, Cancelled)
        assert server.request_count == 1
        assert len(workers.frontier) == 0


def test_joining_workers_from_workers_locks_nothing_up() -> None:
    """Two workers that both close their pool don't wait for each other."""
    both = threading.Barrier(2)

    class Closing(ListRun):
        is_quick = False  # one waits for the other

        def settled(self, ended: Sequence[tuple[Leg, Result]]) -> None:
            both.wait(PATIENCE_S)
            pool.close()
            super().settled(ended)

    with SiteServer({"/": b"x"}) as server:
        pool = SessionPool(threads=2)
        run = Closing()
        with Threads() as threads:
            threads.start(lambda: [pool._workforce.put(run.leg(server.url("/"))) for _ in range(2)])
        assert len(take_all(run, 2)) == 2
        pool.close()
        assert not any(thread.is_alive() for thread in pool._workforce._threads)


def test_a_leg_taken_back_at_the_last_moment_is_sent_later_and_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What must not go out any more, as its host refused meanwhile, waits again: it is asked once, by one attempt."""
    asked: dict[str, int] = {}
    is_late = Leg.is_late

    def late_at_first(leg: Leg, clock: Clock, looked_at: float) -> bool:
        asked[leg.target.url] = asked.get(leg.target.url, 0) + 1
        return asked[leg.target.url] == 1 or is_late(leg, clock, looked_at)

    monkeypatch.setattr(Leg, "is_late", late_at_first)
    limits = HostLimits(delay_s=0, concurrency=2)
    with SiteServer({"/": b"page"}) as server, SessionPool(threads=4) as pool:
        results: list[Result] = []
        seeds = [server.url(f"/?{n}") for n in range(6)]
        report = pool.crawl(seeds, lambda result, _: results.append(result), limits=limits, robots=False)
        assert (report.ok, server.hits("/")) == (6, 6)
    assert [result.attempts for result in results] == [1] * 6
    assert list(asked.values()) == [2] * 6
