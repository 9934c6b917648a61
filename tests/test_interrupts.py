"""Ctrl-C comes between any two calls of the main thread: nothing waits for ever, and no thread is left behind."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any

import pytest

from crawlpool import PoolClosed, SessionPool
from crawlpool.clock import LOOK_S
from crawlpool.testing import SiteServer
from tests.gates import PATIENCE_S, Gate, Threads, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.transports(), pytest.mark.timeout(30)]


class InterruptedLock:
    """A lock in whose release, the ``nth`` by the thread that made it, an interrupt comes: it is released by then."""

    def __init__(self, lock: Any, nth: int) -> None:
        self._lock = lock
        self._left = nth
        self._victim = threading.get_ident()

    def __enter__(self) -> Any:
        return self._lock.__enter__()

    def __exit__(self, *exception: object) -> None:
        self._lock.__exit__(*exception)
        if threading.get_ident() == self._victim:
            self._left -= 1
            if self._left == 0:
                raise KeyboardInterrupt


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_an_interrupt_while_a_seed_is_counted_ends_the_crawl(nth: int) -> None:
    """Each target that was counted is let go of: the crawl's end is not waited for in vain."""
    with SiteServer({"/": b"x"}) as server, SessionPool(retry=False, trust_env=False) as pool:
        crawl = pool.new_crawl()

        def seeds() -> Iterator[str]:
            yield server.url("/1")
            crawl._lock = InterruptedLock(crawl._lock, nth)  # type: ignore[assignment]
            while True:
                yield server.url("/2")

        with pytest.raises(KeyboardInterrupt):
            crawl.run(seeds())
        assert pool.get(server.url("/")).content == b"x"


def test_a_worker_whose_start_was_interrupted_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs all the same; closing the pool ends it like any other."""
    start = threading.Thread.start
    interrupted: list[threading.Thread] = []

    def interrupt(thread: threading.Thread) -> None:
        start(thread)
        if thread.name.startswith("crawlpool-worker") and not interrupted:
            interrupted.append(thread)
            raise KeyboardInterrupt

    with SiteServer({"/": b"x"}) as server, SessionPool(threads=2, retry=False, trust_env=False) as pool:
        monkeypatch.setattr(threading.Thread, "start", interrupt)
        with pytest.raises(KeyboardInterrupt):
            list(pool.map(server.url(f"/{n}") for n in range(10)))
        pool.close()
        [worker] = interrupted
        assert not worker.is_alive()


def test_who_waits_for_a_future_looks_for_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """No wait for a future goes on for longer than the look for signals, and each ends as the standard one does."""
    waits: list[float | None] = []
    with Gate() as gate, SiteServer({"/": b"x", "/held": gate}) as server, SessionPool(trust_env=False) as pool, gate:
        future, other = (pool.submit("GET", server.url("/held")) for _ in range(2))
        gate.wait_for(2)
        wait = future._condition.wait

        def noted(timeout: float | None = None) -> bool:
            waits.append(timeout)
            return wait(timeout)

        monkeypatch.setattr(future._condition, "wait", noted)
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(0.01)
        with pytest.raises(concurrent.futures.TimeoutError):
            future.exception(timeout=0.01)
        with Threads() as threads:
            threads.start(lambda: until(lambda: len(waits) > 4) or gate.open())
            assert future.result().content == b"through the gate"
        assert future.exception() is None
        assert other.result(PATIENCE_S).ok
    assert all(timeout is not None and timeout <= LOOK_S for timeout in waits)
    with pytest.raises(PoolClosed):
        pool.submit("GET", "http://127.0.0.1:1/")


def test_a_future_that_was_cancelled_says_so() -> None:
    """Taken back before a worker had it, it raises what the standard one raises, and it does so at once."""
    with Gate() as gate, SiteServer({"/": gate}) as server, SessionPool(threads=1, trust_env=False) as pool, gate:
        pool.submit("GET", server.url("/"))
        gate.wait_for()
        waiting = pool.submit("GET", server.url("/"))
        assert waiting.cancel()
        for ask in (waiting.result, waiting.exception):
            with pytest.raises(concurrent.futures.CancelledError):
                ask(PATIENCE_S)
        gate.open()
