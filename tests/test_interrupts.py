"""Ctrl-C comes between any two calls of the main thread: nothing waits for ever, and no thread is left behind."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from crawlpool import SessionPool
from crawlpool.testing import SiteServer

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
