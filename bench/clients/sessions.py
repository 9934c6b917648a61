"""Requests, in the ways that its users run it in threads."""

from __future__ import annotations

import threading
from concurrent.futures import as_completed
from typing import TYPE_CHECKING

import requests
from requests.adapters import HTTPAdapter

from bench.clients.crew import in_threads

if TYPE_CHECKING:
    from bench.work import Work

TIMEOUT = (5, 30)


def prepare(slug: str) -> None:
    """Import what only one of them needs."""
    if slug == "futures":
        import requests_futures.sessions  # noqa: F401  # an import is no part of a round


def unpooled(work: Work) -> None:
    """``requests.get`` in threads: a session and a connection for each call."""
    jars: dict[str, dict[str, str]] = {}
    for host, name, value in work.cookies:
        jars.setdefault(host, {})[name] = value

    def fetch(url: str) -> None:
        cookies = jars[url.split("/")[2].partition(":")[0]] if jars else None
        response = requests.get(url, verify=work.verify, timeout=TIMEOUT, cookies=cookies)
        work.take(url, response.status_code, response.content)

    in_threads(work, fetch)


def shared(work: Work) -> None:
    """One ``requests.Session`` for all threads, tuned; requests doesn't promise that this is safe."""
    with tuned(work, per_host=work.in_flight) as session:

        def fetch(url: str) -> None:
            response = session.get(url, timeout=TIMEOUT)
            work.take(url, response.status_code, response.content)

        in_threads(work, fetch)


def per_thread(work: Work) -> None:
    """A ``requests.Session`` for each thread, in hand-written thread-locals."""
    local = threading.local()
    sessions: list[requests.Session] = []

    def fetch(url: str) -> None:
        session: requests.Session | None = getattr(local, "session", None)
        if session is None:
            session = local.session = tuned(work, per_host=1)
            sessions.append(session)
        response = session.get(url, timeout=TIMEOUT)
        work.take(url, response.status_code, response.content)

    try:
        in_threads(work, fetch)
    finally:
        for session in sessions:
            session.close()


def futures(work: Work) -> None:
    """requests-futures: one session, an executor inside it, a future for each call."""
    from requests_futures.sessions import FuturesSession

    session = tuned(work, per_host=work.in_flight)
    with FuturesSession(max_workers=work.in_flight, session=session) as futures_session:
        waiting = {futures_session.get(url, timeout=TIMEOUT): url for url in work.urls}
        for future in as_completed(waiting):
            response = future.result()
            work.take(waiting.pop(future), response.status_code, response.content)


def tuned(work: Work, per_host: int) -> requests.Session:
    """Make a session whose pools are as large as the work wants: the stock one keeps connections to 10 hosts."""
    session = requests.Session()
    session.verify = work.verify
    for host, name, value in work.cookies:
        session.cookies.set(name, value, domain=host, path="/")
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_connections=max(10, work.hosts), pool_maxsize=max(10, per_host)))
    return session
