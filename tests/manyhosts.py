"""Many hosts on loopback in a process of their own: some answer slowly, and all can be gone for a while."""

from __future__ import annotations

import asyncio
import multiprocessing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

PATIENCE_S = 60.0


def addresses(count: int) -> list[str]:
    """Return addresses of the loopback interface, from 127.0.1.1 on."""
    return [f"127.0.{1 + number // 250}.{1 + number % 250}" for number in range(count)]


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, one request at a time."""

    slow: dict[str, float]
    served: dict[str, int]
    open: set[Any]

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.host = transport.get_extra_info("sockname")[0]
        self.head = b""
        self.open.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.open.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.head += data
        if self.head.endswith(b"\r\n\r\n"):
            is_robots = self.head.startswith(b"GET /robots.txt ")
            self.head = b""
            asyncio.get_running_loop().call_later(self.slow.get(self.host, 0.002), self.answer, is_robots)

    def answer(self, is_robots: bool) -> None:
        if self.transport.is_closing():
            return
        self.served[self.host] = self.served.get(self.host, 0) + (not is_robots)
        status, body = ("404 Not Found", b"") if is_robots else ("200 OK", b"x" * 1000)
        self.transport.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


async def _serve(hosts: list[str], slow: dict[str, float], ends: Any) -> None:
    _Connection.slow, _Connection.served, _Connection.open = slow, {}, set()
    loop = asyncio.get_running_loop()
    servers: list[Any] = []
    port = 0
    while True:
        if not servers:
            for host in hosts:
                servers.append(await loop.create_server(_Connection, host, port, backlog=512))
                port = port or servers[0].sockets[0].getsockname()[1]
        ends.send(port)
        order = await loop.run_in_executor(None, ends.recv)
        for server in servers:
            server.close()
        for transport in list(_Connection.open):
            transport.abort()
        servers.clear()
        if order == "end":
            ends.send(_Connection.served)
            return
        ends.send("stopped")
        await loop.run_in_executor(None, ends.recv)


def _run(hosts: list[str], slow: dict[str, float], ends: Any) -> None:
    asyncio.run(_serve(hosts, slow, ends))


class ManyHosts:
    """The hosts, as long as the block lasts.

    Args:
        hosts: their addresses; each answers any path, and has no robots.txt.
        slow: the seconds that some of them take to answer.
    """

    def __init__(self, hosts: list[str], slow: dict[str, float] | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._ends, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(hosts, slow or {}, theirs), daemon=True)
        self.port = 0
        self.served: dict[str, int] = {}

    def __enter__(self) -> ManyHosts:
        self._process.start()
        self.port = self._answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.send("end")
        self.served = self._answer()
        self._process.join(PATIENCE_S)
        self._ends.close()

    def stop(self) -> None:
        """Have all hosts refuse connections, and break those that there are."""
        self._ends.send("stop")
        assert self._answer() == "stopped"

    def go_on(self) -> None:
        """Have them answer again, at the same port."""
        self._ends.send("go on")
        assert self._answer() == self.port

    def _answer(self) -> Any:
        assert self._ends.poll(PATIENCE_S), "the hosts don't answer"
        return self._ends.recv()
