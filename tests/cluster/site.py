"""Hundreds of hosts on loopback in a process of their own: pages, links, redirects, errors, all by their paths.

The server keeps the time of each request and each answer by its own clock: so it says what it was asked, how often, and
whether anybody was impolite, whatever the askers believe.
"""

from __future__ import annotations

import asyncio
import collections
import hashlib
import itertools
import multiprocessing
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.cluster.net import enter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

PATIENCE_S = 60.0
_STATUSES = {200: "OK", 302: "Found", 404: "Not Found", 500: "Internal Server Error"}


class Page(NamedTuple):
    """What a path is answered with."""

    status: int
    location: str | None
    body: bytes


def addresses(count: int, first: int = 1) -> list[str]:
    """Return addresses of the loopback interface: 127.FIRST.0.1 and so on, each a registrable domain of its own."""
    return [f"127.{first}.{number // 250}.{1 + number % 250}" for number in range(count)]


def page_of(host: str, path: str, hosts: Sequence[str], port: int) -> Page:
    """Return what a path of a host is answered with.

    ``/p/…`` is a page; of these one in twelve redirects to another host, one in twenty-five isn't there, and one in ten
    has links to pages of others (``/l/…``), which have none.
    """
    digest = hashlib.blake2b(f"{host}{path}".encode(), digest_size=8).digest()
    pick = int.from_bytes(digest[:4], "big")
    other = hosts[int.from_bytes(digest[4:], "big") % len(hosts)]
    if path.startswith("/p/"):
        if pick % 12 == 0:
            return Page(302, f"http://{other}:{port}/r/{digest.hex()}", b"")
        if pick % 25 == 0:
            return Page(404, None, b"none")
        if pick % 10 == 0:
            links = "".join(f"http://{hosts[(pick + n) % len(hosts)]}:{port}/l/{(pick + n) % 997}\n" for n in range(3))
            return Page(200, None, links.encode())
    elif path.startswith("/r/") and pick % 7 == 0:  # and on, to a third host
        return Page(302, f"http://{other}:{port}/e/{digest.hex()}", b"")
    return Page(200, None, b"page " + path.encode())


def follow(result: Any, crawl: Any) -> None:
    """Add the links of a page: the handler of these crawls."""
    response = result.response
    if response is not None and response.status_code == 200 and response.content.startswith(b"http"):
        for line in response.text.split():
            crawl.add(line, parent=result)


class Asked(NamedTuple):
    """One request as the server saw it: seconds by its clock."""

    host: str
    path: str
    came_s: float
    ended_s: float


class _Connection(asyncio.Protocol):
    hosts: Sequence[str] = ()
    asked: list[Asked]
    answer_s = 0.0
    keeps = True

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.host, self.port = transport.get_extra_info("sockname")[:2]
        self.head = b""

    def data_received(self, data: bytes) -> None:
        self.head += data
        if b"\r\n\r\n" not in self.head:
            return
        came_s = time.monotonic()
        path = self.head.split(b" ", 2)[1].decode("ascii", "replace")
        self.head = b""
        if self.answer_s:
            asyncio.get_running_loop().call_later(self.answer_s, self.answer, path, came_s)
        else:
            self.answer(path, came_s)

    def answer(self, path: str, came_s: float) -> None:
        if self.transport.is_closing():
            self.asked.append(Asked(self.host, path, came_s, time.monotonic()))
            return
        page = page_of(self.host, path, self.hosts, self.port) if path != "/robots.txt" else Page(404, None, b"")
        location = f"Location: {page.location}\r\n" if page.location else ""
        head = f"HTTP/1.1 {page.status} {_STATUSES[page.status]}\r\n{location}Content-Length: {len(page.body)}\r\n\r\n"
        # Taken before it is written: the asker may have it before this process comes to its next line.
        ended_s = time.monotonic()
        self.transport.write(head.encode() + page.body)
        if self.keeps:
            self.asked.append(Asked(self.host, path, came_s, ended_s))


async def _serve(hosts: Sequence[str], port: int, answer_s: float, keeps: bool, ends: Any) -> None:
    _Connection.hosts, _Connection.asked = hosts, []
    _Connection.answer_s, _Connection.keeps = answer_s, keeps
    loop = asyncio.get_running_loop()
    servers: list[Any] = []
    for host in hosts:
        servers.append(await loop.create_server(_Connection, host, port, backlog=512))
        port = port or servers[0].sockets[0].getsockname()[1]
    ends.send(port)
    await loop.run_in_executor(None, ends.recv)
    for server in servers:
        server.close()
    ends.send(_Connection.asked)


def _run(hosts: Sequence[str], port: int, answer_s: float, keeps: bool, ends: Any, place: str | None = None) -> None:
    if place is not None:
        enter(place)
    asyncio.run(_serve(hosts, port, answer_s, keeps, ends))


class Site:
    """The hosts, as long as the block lasts.

    Args:
        hosts: their addresses.
        answer_s: how long an answer takes.
        port: where they listen; any that is free unless given.
        keeps: whether it is kept what was asked.
        place: the network namespace that they are in; ``None`` for this one.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        answer_s: float = 0.0,
        port: int = 0,
        *,
        keeps: bool = True,
        place: str | None = None,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.hosts = hosts
        self._ends, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(hosts, port, answer_s, keeps, theirs, place), daemon=True)
        self.port = 0
        #: What was asked; there after the block.
        self.asked: list[Asked] = []

    def __enter__(self) -> Site:
        self._process.start()
        assert self._ends.poll(PATIENCE_S), "the hosts don't come up"
        self.port = self._ends.recv()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.send("end")
        if self._ends.poll(PATIENCE_S):
            self.asked = self._ends.recv()
        self._process.join(PATIENCE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._ends.close()

    def urls(self, count: int) -> list[str]:
        """Return so many URLs, the same each time, over all hosts; one in fifty is there twice."""
        found = []
        for number in range(count):
            host = self.hosts[number * 7919 % len(self.hosts)]
            path = number - 13 if number % 50 == 49 else number
            if path != number:
                host = self.hosts[path * 7919 % len(self.hosts)]
            found.append(f"http://{host}:{self.port}/p/{path}")
        return found


def breaches(asked: Sequence[Asked], delay_s: float) -> list[tuple[Asked, Asked]]:
    """Return the requests that came too soon, by the server's clock: each with the one before it of the same host.

    Args:
        asked: what the server saw.
        delay_s: what must lie between the end of an answer and the next request.
    """
    by_host: dict[str, list[Asked]] = collections.defaultdict(list)
    for one in asked:
        by_host[one.host].append(one)
    found = []
    for ones in by_host.values():
        ones.sort(key=lambda one: one.came_s)
        found += [(before, one) for before, one in itertools.pairwise(ones) if one.came_s < before.ended_s + delay_s]
    return found
