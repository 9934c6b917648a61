"""One round of one contender, in a process of its own: ``python bench/client.py CONTENDER < work.json > report.json``.

Each contender is written as its user would write it. The clock runs from before the first session or pool is made until
all are closed; imports and the check of what arrived lie outside. A round fails unless every page arrived whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import requests
from requests.adapters import HTTPAdapter

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT = (5, 30)

#: What a contender returns for each URL: the status and the body.
Page = tuple[int, bytes]


@dataclasses.dataclass(frozen=True)
class Work:
    """What to fetch, and how.

    Args:
        urls: in the order in which a crawler has them.
        pages: for each path, the length in bytes and the SHA-256 of its body.
        hosts: how many hosts the URLs have.
        threads: how many may fetch at once.
        verify: the CA bundle to trust.
    """

    urls: list[str]
    pages: dict[str, tuple[int, str]]
    hosts: int
    threads: int
    verify: str


def unpooled(work: Work) -> list[Page]:
    """``requests.get`` in 16 threads: a session and a connection for each call."""

    def fetch(url: str) -> Page:
        response = requests.get(url, verify=work.verify, timeout=TIMEOUT)
        return response.status_code, response.content

    with ThreadPoolExecutor(work.threads) as executor:
        return list(executor.map(fetch, work.urls))


def shared_session(work: Work) -> list[Page]:
    """One ``requests.Session`` for all threads, tuned; requests doesn't promise that this is safe."""
    with _tuned_session(work, per_host=work.threads) as session, ThreadPoolExecutor(work.threads) as executor:

        def fetch(url: str) -> Page:
            response = session.get(url, timeout=TIMEOUT)
            return response.status_code, response.content

        return list(executor.map(fetch, work.urls))


def session_per_thread(work: Work) -> list[Page]:
    """A ``requests.Session`` for each thread, in hand-written thread-locals."""
    local = threading.local()
    sessions: list[requests.Session] = []

    def fetch(url: str) -> Page:
        session: requests.Session | None = getattr(local, "session", None)
        if session is None:
            session = local.session = _tuned_session(work, per_host=1)
            sessions.append(session)
        response = session.get(url, timeout=TIMEOUT)
        return response.status_code, response.content

    try:
        with ThreadPoolExecutor(work.threads) as executor:
            return list(executor.map(fetch, work.urls))
    finally:
        for session in sessions:
            session.close()


def pool_get(work: Work) -> list[Page]:
    """``SessionPool.get`` from the caller's own 16 threads."""
    from crawlpool import SessionPool

    with (
        SessionPool(threads=work.threads, verify=work.verify, timeout=TIMEOUT) as pool,
        ThreadPoolExecutor(work.threads) as executor,
    ):

        def fetch(url: str) -> Page:
            response = pool.get(url)
            return response.status_code, response.content

        return list(executor.map(fetch, work.urls))


def pool_map(work: Work) -> list[Page]:
    """``SessionPool.map``: the pool's own 16 workers. Pages come as they are done; they are put in order afterwards."""
    from crawlpool import SessionPool

    found: dict[str, Page] = {}
    with SessionPool(threads=work.threads, verify=work.verify, timeout=TIMEOUT) as pool:
        for result in pool.map(work.urls):
            response = result.unwrap()
            found[result.target.url] = response.status_code, response.content
    return [found[url] for url in work.urls]


CONTENDERS: dict[str, Callable[[Work], list[Page]]] = {
    one.__name__: one for one in (unpooled, shared_session, session_per_thread, pool_get, pool_map)
}


def _tuned_session(work: Work, per_host: int) -> requests.Session:
    """Make a session whose pools are as large as the work wants: the stock one keeps connections to 10 hosts."""
    session = requests.Session()
    session.verify = work.verify
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_connections=max(10, work.hosts), pool_maxsize=max(10, per_host)))
    return session


def check(work: Work, pages: list[Page]) -> None:
    """Raise ``SystemExit`` unless every page arrived, whole."""
    if len(pages) != len(work.urls):
        raise SystemExit(f"{len(pages)} pages for {len(work.urls)} URLs")
    for url, (status, body) in zip(work.urls, pages, strict=True):
        size, digest = work.pages[url.split("?")[0].rpartition("/")[2]]
        if status != 200 or len(body) != size or hashlib.sha256(body).hexdigest() != digest:
            raise SystemExit(f"{url}: status {status}, {len(body)} bytes, {size} expected, or their digest differs")


def main() -> None:
    """Do one round and print what it took."""
    work = Work(**json.load(sys.stdin))
    contender = CONTENDERS[sys.argv[1]]
    if contender in (pool_get, pool_map):
        import crawlpool  # noqa: F401  # an import is no part of a round
    cpu_s, start = time.process_time(), time.perf_counter()
    pages = contender(work)
    report = {"seconds": time.perf_counter() - start, "cpu_s": time.process_time() - cpu_s}
    check(work, pages)
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
