"""A small real HTTP/1.1 server on loopback, for users' tests, crawlpool's own, the demo, and benchmarks."""

from __future__ import annotations

import contextlib
import ipaddress
import selectors
import socket
import ssl
import threading
import time
import traceback
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

from crawlpool.clock import Shutdown
from crawlpool.errors import ConfigError
from crawlpool.testing.http1 import Answer, BadRequest, Request, pieces_of, read_request
from crawlpool.testing.routes import answerer
from crawlpool.testing.steps import Script, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from crawlpool.testing.routes import Site

STOP_TIMEOUT_S = 10.0
_Self = TypeVar("_Self", bound="SiteServer")


def loopback_hosts(count: int) -> tuple[str, ...]:
    """Return up to ``count`` addresses 127.0.0.1, 127.0.0.2, … that this machine can listen on; at least the first.

    Linux and Windows have all of 127.0.0.0/8; macOS has only the first unless the others were configured.
    """
    found = ["127.0.0.1"]
    for number in range(2, count + 1):
        host = str(ipaddress.IPv4Address("127.0.0.0") + number)
        with socket.socket() as probe:
            try:
                probe.bind((host, 0))
            except OSError:
                break
        found.append(host)
    return tuple(found)


class SiteServer:
    """A threaded HTTP/1.1 server with keep-alive on loopback addresses, used as a context manager.

    Args:
        site: a dict of paths to routes, a folder, or a function; see ``crawlpool.testing.routes.answerer``. A function
            runs in its connection's thread, several at once. When it raises, the answer is 500 and the error is kept
            in ``errors``.
        hosts: the loopback address or addresses to listen on, each with a socket of its own, all on the same port.
        port: the port; 0 for any free one.
        tls: a server's context; without one the server speaks plain HTTP.
        remember: whether to keep each request in ``requests``; turn it off for millions of them.

    Raises:
        ConfigError: for an address that isn't loopback: a test server must not be reached from elsewhere. And for a
            route that can't be one; the message names it.

    Example:
        >>> import requests
        >>> from crawlpool.testing import SiteServer
        >>> with SiteServer({"/x": b"hello"}) as server:
        ...     requests.get(server.url("/x")).text
        'hello'

    Thread-safe. When ``stop`` has returned, no thread and no socket of the server is left.
    """

    def __init__(
        self,
        site: Site,
        *,
        hosts: str | Sequence[str] = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        remember: bool = True,
    ) -> None:
        self.hosts: tuple[str, ...] = (hosts,) if isinstance(hosts, str) else tuple(hosts)
        if not self.hosts:
            raise ConfigError("hosts=(): a server needs at least one address")
        for host in self.hosts:
            if not _is_loopback_address(host):
                raise ConfigError(f"hosts={host!r}: only loopback addresses, such as 127.0.0.1 or ::1")
        self.port = port
        self.shutdown = Shutdown()
        self._answerer: Callable[[Request], Answer | Script] = answerer(site)
        self._released = threading.Event()  # guards itself
        self._tls = tls
        self._remember = remember
        self._listeners: list[socket.socket] = []
        self._acceptor: threading.Thread | None = None
        self._wake: tuple[socket.socket, socket.socket] | None = None
        # Guards _requests, _errors, _request_count, _bytes_sent, _opened, _peak, _live and _threads.
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._errors: list[BaseException] = []
        self._request_count = 0
        self._bytes_sent = 0
        self._opened = 0
        self._peak = 0
        self._live: dict[int, socket.socket] = {}
        self._threads: dict[int, threading.Thread] = {}

    @property
    def requests(self) -> list[Request]:
        """The requests so far, in the order in which they were read; a copy."""
        with self._lock:
            return list(self._requests)

    @property
    def request_count(self) -> int:
        """How many requests were read so far."""
        with self._lock:
            return self._request_count

    @property
    def bytes_sent(self) -> int:
        """How many bytes scripts have handed to the system so far, whether or not the client has read them."""
        with self._lock:
            return self._bytes_sent

    @property
    def connections(self) -> int:
        """How many connections were accepted so far."""
        with self._lock:
            return self._opened

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        with self._lock:
            return len(self._live)

    @property
    def peak_open(self) -> int:
        """How many connections were open at once, at most."""
        with self._lock:
            return self._peak

    @property
    def errors(self) -> list[BaseException]:
        """What functions of the site raised; a copy."""
        with self._lock:
            return list(self._errors)

    def hits(self, path: str) -> int:
        """Return how many of the remembered requests asked for ``path``, whatever the query."""
        return sum(request.path == path for request in self.requests)

    def arrivals(self, path: str | None = None) -> list[float]:
        """Return when the remembered requests for ``path``, or all, came: seconds of the monotonic clock, in order."""
        return sorted(request.arrived_s for request in self.requests if path is None or request.path == path)

    def release(self) -> None:
        """End every wait of a script, present and future, and let it go on with its next step. May be called again."""
        self._released.set()

    def url(self, path: str = "/", host: str | None = None) -> str:
        """Return the URL of ``path`` on ``host`` (default: the first address; any name that leads here will do)."""
        name = self.hosts[0] if host is None else host
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{f'[{name}]' if ':' in name else name}:{self.port}{path}"

    def start(self: _Self) -> _Self:
        """Listen and serve; return the server itself.

        Raises:
            OSError: when an address or the port can't be had.
            RuntimeError: when it was started before.
        """
        if self._acceptor is not None:
            raise RuntimeError("a SiteServer is started once")
        self._listeners = _listen(self.hosts, self.port)
        self.port = self._listeners[0].getsockname()[1]
        self._wake = socket.socketpair()
        self._acceptor = threading.Thread(target=self._accept, name=f"crawlpool-site-{self.port}", daemon=True)
        self._acceptor.start()
        return self

    def stop(self) -> None:
        """Close every connection, also those that wait in a keep-alive, and join every thread. May be called again.

        Raises:
            RuntimeError: when a function of the site doesn't return within 10 s; let it wait on ``server.shutdown``.
        """
        self.shutdown.set()
        if self._acceptor is None or self._wake is None:
            return
        with contextlib.suppress(OSError):
            self._wake[1].send(b"x")
        self._acceptor.join()
        for one in (*self._listeners, *self._wake):
            one.close()
        with self._lock:
            # Shutting down doesn't block. Under the lock, because an owner takes its socket out before it closes it:
            # the descriptor can't have become another file's meanwhile. An SSLSocket's own shutdown would pull its
            # state from under the thread that reads; the plain one only ends the stream.
            for live in self._live.values():
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(live, socket.SHUT_RDWR)
            threads = list(self._threads.values())
        until = time.monotonic() + STOP_TIMEOUT_S
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        stuck = [thread.name for thread in threads if thread.is_alive()]
        if stuck:
            raise RuntimeError(f"functions of the site don't return: {', '.join(stuck)}")

    def __enter__(self: _Self) -> _Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "new" if self._acceptor is None else "stopped" if self.shutdown.is_set else "serving"
        return f"<SiteServer {self.url()} {state}, {self.open_connections} open>"

    def _accept(self) -> None:
        assert self._wake is not None
        with selectors.DefaultSelector() as selector:
            for listener in (*self._listeners, self._wake[0]):
                selector.register(listener, selectors.EVENT_READ)
            while not self.shutdown.is_set:
                for key, _ in selector.select():
                    listener = cast(socket.socket, key.fileobj)
                    if listener is self._wake[0]:
                        return
                    # The client may have gone before we came.
                    with contextlib.suppress(OSError):
                        self._admit(*listener.accept(), listener.getsockname()[0])

    def _admit(self, connection: socket.socket, peer: tuple[str, int], host: str) -> None:
        connection.setblocking(True)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._opened += 1
            number = self._opened
            self._live[number] = connection
            self._peak = max(self._peak, len(self._live))
            for old in [n for n, thread in self._threads.items() if not thread.is_alive()]:
                del self._threads[old]
            thread = threading.Thread(
                target=self._serve,
                args=(number, connection, peer[:2], host),
                name=f"crawlpool-site-{self.port}-{number}",
                daemon=True,
            )
            self._threads[number] = thread
            # Started under the lock: a thread in the table that isn't alive is one that has ended.
            thread.start()

    def _serve(self, number: int, connection: socket.socket, peer: tuple[str, int], host: str) -> None:
        try:
            self._opening(number, connection)
            if self._tls is not None:
                connection = secured = self._secured(number, connection, self._tls)
                # ``stop`` may have looked through the open connections just before this one had its place there.
                if not self.shutdown.is_set:
                    secured.do_handshake()
            with connection.makefile("rb") as reader:
                while not self.shutdown.is_set and self._exchange(
                    number, connection, cast(BinaryIO, reader), peer, host
                ):
                    pass
            if isinstance(connection, ssl.SSLSocket):
                # Say that the end is meant; not blocking, so without waiting for the client to say it, too.
                connection.settimeout(0)
                connection.unwrap()
        except (OSError, ValueError):
            pass  # the client went away, failed its handshake, or the server stops
        finally:
            with self._lock:
                del self._live[number]
            connection.close()

    def _opening(self, number: int, connection: socket.socket) -> None:
        """Do what comes before the first request, and before TLS; raises ``OSError`` to end the connection."""

    def _wire(self, connection: socket.socket) -> Wire:
        return Wire(connection, self.shutdown, self._released, self._count)

    def _count(self, sent: int) -> None:
        with self._lock:
            self._bytes_sent += sent

    def _secured(self, number: int, plain: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
        secured = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._live[number] = secured  # the plain one has given up its descriptor
        return secured

    def _exchange(
        self, number: int, connection: socket.socket, reader: BinaryIO, peer: tuple[str, int], host: str
    ) -> bool:
        """Read one request and answer it; return whether the connection goes on."""
        try:
            request = read_request(
                reader,
                peer=peer,
                host=host,
                connection=number,
                go_on=lambda: connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n"),
            )
        except BadRequest as error:
            refusal = Answer(400, {"Content-Type": "text/plain"}, f"{error}\n".encode(), close=True)
            connection.sendall(b"".join(pieces_of(refusal, "GET")[0]))
            return False
        if request is None:
            return False
        with self._lock:
            self._request_count += 1
            if self._remember:
                self._requests.append(request)
        answer: Answer | Script
        try:
            answer = self._answerer(request)
            pieces, stays = (iter(()), False) if isinstance(answer, Script) else pieces_of(answer, request.method)
        except Exception as error:
            self._note(error)
            text = "".join(traceback.format_exception_only(type(error), error))
            answer = failure = Answer(500, {"Content-Type": "text/plain; charset=utf-8"}, text.encode())
            pieces, stays = pieces_of(failure, request.method)
        try:
            if isinstance(answer, Script):
                return answer.play(self._wire(connection)) and request.keeps_alive
            if answer.delay_s and self.shutdown.wait(answer.delay_s):
                return False
            for piece in pieces:
                connection.sendall(piece)
        except OSError:
            raise
        except Exception as error:  # out of the site's own iterable: what was sent can't be taken back
            self._note(error)
            return False
        return stays and request.keeps_alive

    def _note(self, error: BaseException) -> None:
        with self._lock:
            self._errors.append(error)


def _is_loopback_address(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """Return a listening socket for each host, all on one port.

    A port that is free on the first address may be taken on another, so with any port allowed there are some attempts.
    """
    for attempt in range(20, 0, -1):
        listeners: list[socket.socket] = []
        chosen = port
        try:
            for host in hosts:
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                listener = socket.create_server((host, chosen), family=family, backlog=1024)
                listeners.append(listener)
                listener.setblocking(False)
                chosen = listener.getsockname()[1]
        except OSError:
            for listener in listeners:
                listener.close()
            if port or attempt == 1:
                raise
        else:
            return listeners
    raise AssertionError("unreachable")
