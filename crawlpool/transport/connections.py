"""urllib3's connections, made ours: the session's lifeline knows each socket, and answers are read with less trust."""

from __future__ import annotations

import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from urllib3._base_connection import _ResponseOptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
)

from crawlpool.transport.answer import Answer, KeepingAnswer
from crawlpool.transport.keeping import keeps_here
from crawlpool.transport.tls import telling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlpool.transport.lifeline import Lifeline

_MAX_ADDRESSES = 8


class KnownHeaders:
    """The header lines that an adapter sent last, ready for the wire, and the headers that they are of."""

    __slots__ = ("lines", "store")

    def __init__(self) -> None:
        self.store: Any = None
        self.lines: list[bytes] = []


class _Tracked:
    """What plain, TLS and SOCKS connections have in common; mixed in before the urllib3 class."""

    lifeline: Lifeline | None = None
    resolve: Mapping[tuple[str, int], str] = {}
    response_class: Any = Answer
    peer: str | None = None
    answer: Any = None  # the last one
    _key: int | None = None
    _guard: Any = None
    _sent: bytes | None = None  # the request's header, where the exchange keeps the wire
    _response_options: Any

    def _new_conn(self: Any) -> socket.socket:
        if self.lifeline is None:
            return super()._new_conn()  # type: ignore[misc,no-any-return]
        sock: socket.socket = self._tracked_socket()
        sys.audit("http.client.connect", self, self.host, self.port)
        return sock

    def _tracked_socket(self: Any) -> socket.socket:
        host, port = self._dns_host, self.port
        host = self.resolve.get((host.lower(), port), host).strip("[]")
        try:
            host.encode("idna")
        except UnicodeError:
            raise LocationParseError(f"'{host}', label empty or too long") from None
        timeout = self.timeout
        # One budget for all addresses of the name: eight dead ones must not take eight times as long.
        until = None if timeout is None else time.monotonic() + timeout
        try:
            found = socket.getaddrinfo(host, port, socket.AF_UNSPEC, socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        last: OSError | None = None
        for family, kind, proto, _, address in found[:_MAX_ADDRESSES]:
            try:
                return self._connect_to(family, kind, proto, address, until)  # type: ignore[no-any-return]
            except TimeoutError as error:
                last = error
                break
            except OSError as error:
                last = error
        if isinstance(last, TimeoutError):
            raise ConnectTimeoutError(
                self, f"Connection to {self.host} timed out. (connect timeout={timeout})"
            ) from last
        raise NewConnectionError(self, f"Failed to establish a new connection: {last}") from last

    def _connect_to(self: Any, family: int, kind: int, proto: int, address: Any, until: float | None) -> socket.socket:
        sock = socket.socket(family, kind, proto)
        try:
            for option in self.socket_options or ():
                sock.setsockopt(*option)
            self._key = self.lifeline.opened(sock)
            if until is not None:
                sock.settimeout(max(until - time.monotonic(), 0.001))
            if self.source_address:
                sock.bind(self.source_address)
            sock.connect(address)
            sock.settimeout(self.timeout)
        except BaseException:
            self._forget()
            sock.close()
            raise
        self.peer = address[0]
        return sock

    def connect(self: Any) -> None:
        self._let_go()
        if self.lifeline is None:
            return super().connect()  # type: ignore[misc,no-any-return]
        with telling(self._take_over):
            super().connect()  # type: ignore[misc]
        if self._key is None and self.sock is not None:  # a socket that somebody else made: SOCKS
            self._key = self.lifeline.opened(self.sock)
        return None

    def _take_over(self: Any, sock: socket.socket) -> None:
        self._key = self.lifeline.opened(sock, replaces=self._key)

    def request(self: Any, *args: Any, **kwargs: Any) -> None:
        if self._key is not None:
            self.lifeline.use(self._key)
        super().request(*args, **kwargs)  # type: ignore[misc]

    def request_without_body(self: Any, method: str, path: str, headers: Any, known: KnownHeaders) -> None:
        """Send a request that has no body and names its user agent; as ``request`` would, header lines from ``known``.

        ``request`` encodes and checks each header again each time, and the next request has the same ones.
        """
        if self._key is not None:
            self.lifeline.use(self._key)
        self.sock.settimeout(self.timeout)
        self._response_options = _ResponseOptions(method, path, False, False, True)
        self.putrequest(method, path, skip_accept_encoding=True, skip_host="host" in headers)
        store = headers._store
        if known.store != store:
            before = len(self._buffer)
            for name, value in headers.items():
                self.putheader(name, value)
            known.store, known.lines = dict(store), self._buffer[before:]
        else:
            self._buffer.extend(known.lines)
        self.endheaders()

    def _send_output(self: Any, *args: Any, **kwargs: Any) -> None:
        self._sent = b"\r\n".join([*self._buffer, b"", b""]) if keeps_here() else None
        super()._send_output(*args, **kwargs)  # type: ignore[misc]

    def getresponse(self: Any) -> Any:
        sock, key = self.sock, self._key
        sent, self._sent = self._sent, None
        if sent is not None:
            self.response_class = KeepingAnswer
        try:
            response = super().getresponse()  # type: ignore[misc]
        finally:
            if sent is not None:
                del self.response_class
        if sent is not None:
            response._original_response.kept.request_head = sent
        if self.sock is None and key is not None and sock.fileno() >= 0:
            # The server closes after this answer, and http.client has let go of the socket; the body is still to come
            # over it. The guard keeps the descriptor ours until nobody else can reach it any more.
            try:
                self._key = self.lifeline.opened(sock, replaces=key)
            except BaseException:
                response.close()
                raise
            self._guard = sock.makefile("rb", buffering=0)
        return response

    def close(self: Any) -> None:
        self._let_go()
        super().close()  # type: ignore[misc]

    def _let_go(self: Any) -> None:
        self._forget()
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.close()

    def _forget(self: Any) -> None:
        key, self._key = self._key, None
        if key is not None and self.lifeline is not None:
            self.lifeline.closing(key)


class TrackedHTTPConnection(_Tracked, HTTPConnection):
    """A plain connection whose socket the session's lifeline knows."""


class TrackedHTTPSConnection(_Tracked, HTTPSConnection):
    """A TLS connection whose socket the session's lifeline knows, in its handshake too."""


def _with_lifeline(pool_class: Any, connection_class: Any) -> Any:
    class Pool(pool_class):  # type: ignore[misc]
        ConnectionCls = connection_class

        def __init__(self, *args: Any, tracking: tuple[Lifeline, Mapping[Any, str]], **kwargs: Any) -> None:
            self._tracking = tracking
            super().__init__(*args, **kwargs)

        def _new_conn(self) -> Any:
            connection = super()._new_conn()
            connection.lifeline, connection.resolve = self._tracking
            return connection

        def _put_conn(self, conn: Any) -> None:
            if conn is not None and conn.sock is None:
                conn.close()  # nothing is open but the guard of its last answer's socket
            super()._put_conn(conn)

    Pool.__name__ = Pool.__qualname__ = pool_class.__name__
    return Pool


_HTTPPool = _with_lifeline(HTTPConnectionPool, TrackedHTTPConnection)
_HTTPSPool = _with_lifeline(HTTPSConnectionPool, TrackedHTTPSConnection)
_socks_pools: list[Any] = []


def track(manager: Any, lifeline: Lifeline, resolve: Mapping[tuple[str, int], str]) -> None:
    """Make each connection that a urllib3 PoolManager opens from now on known to ``lifeline``.

    Managers of pool classes that aren't urllib3's own are left alone: what a user built stays as it is.
    """
    from functools import partial

    classes = manager.pool_classes_by_scheme
    if classes.get("http") is HTTPConnectionPool and classes.get("https") is HTTPSConnectionPool:
        http, https = _HTTPPool, _HTTPSPool
    elif type(manager).__name__ == "SOCKSProxyManager":
        if not _socks_pools:
            from urllib3.contrib import socks

            plain = type("TrackedSOCKSConnection", (_SocksTracked, socks.SOCKSConnection), {})
            tls = type("TrackedSOCKSHTTPSConnection", (_SocksTracked, socks.SOCKSHTTPSConnection), {})
            _socks_pools[:] = [
                _with_lifeline(socks.SOCKSHTTPConnectionPool, plain),
                _with_lifeline(socks.SOCKSHTTPSConnectionPool, tls),
            ]
        http, https = _socks_pools
    else:
        return
    tracking = (lifeline, resolve)
    manager.pool_classes_by_scheme = {
        "http": partial(http, tracking=tracking),
        "https": partial(https, tracking=tracking),
    }


class _SocksTracked(_Tracked):
    """A connection through a SOCKS proxy: PySocks makes the socket, the lifeline learns of it when it is connected."""

    def _new_conn(self: Any) -> socket.socket:
        sock: socket.socket = super(_Tracked, self)._new_conn()  # type: ignore[misc]
        if self.lifeline is not None:
            self._key = self.lifeline.opened(sock)
        return sock
