"""Libraries on an event loop: so many tasks, each of which takes the next URL when it has done one.

That is the best of the ways that their users write: a task for each URL costs more, a semaphore no less.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bench.work import Work

CONNECT_S, READ_S = 5.0, 30.0


def prepare(slug: str) -> None:
    """Import the one that is to be measured: that is no part of a round."""
    importlib.import_module(slug if slug == "curl_cffi" else slug.partition("_")[0])


async def _all(work: Work, fetch: Callable[[str], Awaitable[None]]) -> None:
    waiting = iter(work.urls)

    async def take_turns() -> None:
        for url in waiting:
            await fetch(url)

    await asyncio.gather(*(take_turns() for _ in range(work.in_flight)))


def aiohttp_session(work: Work) -> None:
    """One ``aiohttp.ClientSession``, whose connector allows what is in flight."""
    import aiohttp
    from yarl import URL

    async def run() -> None:
        jar = aiohttp.CookieJar(unsafe=True)  # the hosts are addresses, from which the safe one takes no cookies
        for host, name, value in work.cookies:
            jar.update_cookies({name: value}, URL(f"http://{host}/"))
        is_tls = work.urls[0].startswith("https:")
        context = ssl.create_default_context(cafile=work.verify) if is_tls else True
        connector = aiohttp.TCPConnector(limit=work.in_flight, limit_per_host=0, ssl=context)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=jar) as session:

            async def fetch(url: str) -> None:
                async with session.get(url) as response:
                    work.take(url, response.status, await response.read())

            await _all(work, fetch)

    asyncio.run(run())


def httpx_async(work: Work) -> None:
    """One ``httpx.AsyncClient``."""
    import httpx

    async def run() -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=max(work.in_flight, work.hosts))
        context = ssl.create_default_context(cafile=work.verify)
        timeout = httpx.Timeout(READ_S, connect=CONNECT_S, pool=None)
        async with httpx.AsyncClient(verify=context, limits=limits, timeout=timeout) as client:
            for host, name, value in work.cookies:
                client.cookies.set(name, value, domain=host, path="/")

            async def fetch(url: str) -> None:
                response = await client.get(url)
                work.take(url, response.status_code, response.content)

            await _all(work, fetch)

    asyncio.run(run())


def curl_cffi(work: Work) -> None:
    """One ``curl_cffi.AsyncSession``, which may have so many handles as there are requests in flight."""
    from curl_cffi import AsyncSession

    async def run() -> None:
        async with AsyncSession(
            max_clients=work.in_flight, verify=work.verify, timeout=(CONNECT_S, READ_S), trust_env=False
        ) as session:
            for host, name, value in work.cookies:
                session.cookies.set(name, value, domain=host, path="/")

            async def fetch(url: str) -> None:
                response = await session.get(url)
                work.take(url, response.status_code, response.content)

            await _all(work, fetch)

    asyncio.run(run())
