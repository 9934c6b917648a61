"""Other libraries that are used from threads: urllib3, httpx and niquests, each with one shared, thread-safe client.

Each is imported where it is used: niquests' interpreter has none of the others, and they lack niquests.
"""

from __future__ import annotations

import importlib
import ssl
from typing import TYPE_CHECKING

from bench.clients.crew import in_threads

if TYPE_CHECKING:
    from bench.work import Work

CONNECT_S, READ_S = 5.0, 30.0


def prepare(slug: str) -> None:
    """Import the one that is to be measured: that is no part of a round."""
    importlib.import_module(slug.partition("_")[0])


def urllib3_pool(work: Work) -> None:
    """One ``urllib3.PoolManager`` for all threads. It has no cookies, and doesn't ask for gzip by itself."""
    import urllib3

    timeout = urllib3.Timeout(connect=CONNECT_S, read=READ_S)
    with urllib3.PoolManager(
        num_pools=max(10, work.hosts),
        maxsize=work.in_flight,
        timeout=timeout,
        ca_certs=work.verify,
        headers={"Accept-Encoding": "gzip", "User-Agent": "bench"},
    ) as pool:

        def fetch(url: str) -> None:
            response = pool.request("GET", url)
            work.take(url, response.status, response.data)

        in_threads(work, fetch)


def httpx_client(work: Work) -> None:
    """One ``httpx.Client`` for all threads."""
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=max(work.in_flight, work.hosts))
    context = ssl.create_default_context(cafile=work.verify)
    timeout = httpx.Timeout(READ_S, connect=CONNECT_S, pool=None)
    with httpx.Client(verify=context, limits=limits, timeout=timeout) as client:
        for host, name, value in work.cookies:
            client.cookies.set(name, value, domain=host, path="/")

        def fetch(url: str) -> None:
            response = client.get(url)
            work.take(url, response.status_code, response.content)

        in_threads(work, fetch)


def niquests_session(work: Work) -> None:
    """One ``niquests.Session`` for all threads, which niquests promises to be safe."""
    import niquests

    with niquests.Session(pool_connections=max(10, work.hosts), pool_maxsize=work.in_flight) as session:
        session.verify = work.verify
        for host, name, value in work.cookies:
            session.cookies.set(name, value, domain=host, path="/")

        def fetch(url: str) -> None:
            response = session.get(url, timeout=(CONNECT_S, READ_S))
            work.take(url, response.status_code, response.content)

        in_threads(work, fetch)
