"""crawlpool itself: the blocking verb from the caller's own threads, and the pool's own workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.clients.crew import in_threads
from crawlpool import CookieStore, SessionPool

if TYPE_CHECKING:
    from bench.work import Work

TIMEOUT = (5, 30)


def get(work: Work, transport: str) -> None:
    """``SessionPool.get`` from the caller's own threads, as many as may be in flight."""
    with _pool(work, transport) as pool:

        def fetch(url: str) -> None:
            response = pool.get(url)
            work.take(url, response.status_code, response.content)

        in_threads(work, fetch)


def map_pages(work: Work, transport: str) -> None:
    """``SessionPool.map``: the pool's own workers. Pages come as they are done."""
    with _pool(work, transport) as pool:
        for result in pool.map(work.urls):
            response = result.unwrap()
            work.take(result.target.url, response.status_code, response.content)


def prepare(transport: str) -> None:
    """Have the transport imported: that is no part of a round."""
    SessionPool(threads=1, transport=transport).close()


def _pool(work: Work, transport: str) -> SessionPool:
    settings: dict[str, Any] = {"verify": work.verify, "timeout": TIMEOUT, "transport": transport}
    if transport == "curl":
        settings.update(threads=min(work.threads, work.in_flight), in_flight=work.in_flight)
    else:
        settings["threads"] = work.in_flight  # a thread of it has one request under way
    if work.cookies:
        store = CookieStore()
        for host, name, value in work.cookies:
            store.set(name, value, domain=host, path="/")
        settings["cookies"] = store
    return SessionPool(**settings)
