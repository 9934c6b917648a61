"""What tests of the wire share: servers that break HTTP byte by byte, a small proxy, and a clock ticked by hand."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crawlpool.clock import Shutdown

if TYPE_CHECKING:
    from crawlpool import SessionPool


class HandClock:
    """A clock that stands still until it is ticked."""

    def __init__(self, now_s: float = 1000.0, wall_s: float = 1_800_000_000.0) -> None:
        self.now_s, self.wall_s = now_s, wall_s

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.wall_s

    def tick(self, seconds: float) -> None:
        self.now_s += seconds
        self.wall_s += seconds


def go_by_hand(pool: SessionPool, clock: HandClock) -> None:
    """Have a pool's frontier go by a clock ticked by hand, and those who wait in it, too.

    By two clocks they would wait for as long as these differ: on a machine that has just started, for ever.
    """
    frontier = pool._workforce.frontier
    frontier._clock = frontier._idlers._clock = clock


class RawServer:
    """Runs ``script(connection, number)`` in a thread for each connection to a loopback port; number counts from 1.

    ``shutdown`` ends a script's waits; every socket and thread is gone after the block.
    """

    def __init__(self, script: Callable[[socket.socket, int], None], tls: ssl.SSLContext | None = None) -> None:
        self.script, self.tls = script, tls
        self.shutdown = Shutdown()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.connections: list[socket.socket] = []
        self.lock = threading.Lock()  # guards connections
        self.threads = [threading.Thread(target=self._accept)]

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{'http' if self.tls is None else 'https'}://{host}:{self.port}{path}"

    def __enter__(self) -> RawServer:
        self.threads[0].start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.threads[0].join()
        self.listener.close()
        with self.lock:
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in self.threads[1:]:
            thread.join()

    def _accept(self) -> None:
        while not self.shutdown.is_set:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections.append(connection)
                number = len(self.connections)
            thread = threading.Thread(target=self._run, args=(connection, number))
            self.threads.append(thread)
            thread.start()

    def _run(self, connection: socket.socket, number: int) -> None:
        live = connection
        try:
            if self.tls is not None:
                live = self.tls.wrap_socket(connection, server_side=True)
                with self.lock:
                    self.connections[number - 1] = live
            self.script(live, number)
        except (OSError, ValueError):
            pass  # the client went away, or the test is over
        finally:
            with self.lock:
                live.close()


def connections_of(session: Any) -> tuple[int, int]:
    """Return (connections opened so far, connections open now) of a session that stands alone, by either transport."""
    engine = session._shared.engine
    counts: tuple[int, int] = session.lifeline.counts() if engine is None else engine.counts()
    return counts


def read_head(connection: socket.socket) -> bytes:
    """Read one request's head; empty when the client closed the connection instead."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        if not piece:
            return b""
        head += piece
    return head


def answering(*answers: bytes, close: bool = False) -> Callable[[socket.socket, int], None]:
    """Return a script that gives the bytes of each answer in turn, then the last again; ``close`` ends after one."""

    def script(connection: socket.socket, number: int) -> None:
        served = 0
        while read_head(connection):
            connection.sendall(answers[min(number - 1 if close else served, len(answers) - 1)])
            served += 1
            if close:
                return

    return script


class Proxy(RawServer):
    """A forward proxy: plain requests by absolute URL, TLS by CONNECT; every name leads to 127.0.0.1.

    ``heads`` holds the head of each request that reached it.
    """

    def __init__(self) -> None:
        super().__init__(self._serve)
        self.heads: list[bytes] = []

    def _serve(self, client: socket.socket, _: int) -> None:
        head = read_head(client)
        if not head:
            return
        self.heads.append(head)
        method, target, _version = head.split(b"\r\n", 1)[0].decode().split(" ")
        port = int(target.rpartition(":")[2]) if method == "CONNECT" else urlsplit(target).port
        with socket.create_connection(("127.0.0.1", port or 80)) as server:
            with self.lock:
                self.connections.append(server)
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                parts = urlsplit(target)
                path = parts.path + (f"?{parts.query}" if parts.query else "")
                server.sendall(head.replace(target.encode(), path.encode(), 1))
            back = threading.Thread(target=_relay, args=(server, client))
            back.start()
            _relay(client, server)
            back.join()


def _relay(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def resolving_to_nothing(patch: Any) -> Iterator[None]:
    """Within this block no name resolves: ``patch`` is pytest's monkeypatch."""

    def fail(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with patch.context() as inner:
        inner.setattr(socket, "getaddrinfo", fail)
        yield
