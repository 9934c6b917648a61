"""urllib3's connections, made ours: the session's lifeline knows each socket, and answers are read with less trust."""

from __future__ import annotations

import socket
import sys
import time
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from urllib3._base_connection import _ResponseOptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
)

from crawlpool.errors import PoolClosed
from crawlpool.shortage import shortage_in
from crawlpool.transport.answer import Answer, KeepingAnswer
from crawlpool.transport.connecting import Place, places_of, until_for
from crawlpool.transport.keeping import keeps_here
from crawlpool.transport.reach import permits_here
from crawlpool.transport.tls import telling

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crawlpool.transport.lifeline import Lifeline
    from crawlpool.transport.reach import Need, Reach
    from crawlpool.transport.resolver import Resolver


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
    resolver: Resolver | None = None
    reach: Reach | None = None
    response_class: Any = Answer
    peer: str | None = None
    _grant: Need | None = None  # what its host had to be permitted for, to be connected to
    answer: Any = None  # the last one
    _key: int | None = None
    _guard: Any = None
    _sent: bytes | None = None  # the request's header, where the exchange keeps the wire
    _response_options: Any

    def _new_conn(self: Any) -> socket.socket:
        if self.lifeline is None:
            return super()._new_conn()  # type: ignore[misc,no-any-return]
        sock: socket.socket = self._socket_to(
            self._dns_host, self.port, self._until(), self._connect_to, self._judged()
        )
        sys.audit("http.client.connect", self, self.host, self.port)
        return sock

    def _judged(self: Any) -> Callable[[list[Place]], list[Place]] | None:
        """Return what leaves those places out that must not be reached; ``None`` where all may be.

        Raises:
            BlockedAddress: when the host must not be, by what it is called.
        """
        reach: Reach | None = self.reach
        if reach is None or self.proxy is not None:  # of a proxy's address, the user's own, nothing is asked
            return None
        need, grant = reach.way_to(self._dns_host, self.resolve.get((self._dns_host.lower(), self.port)))
        self._grant = None if need is None else reach.admit(need, permits_here())

        def fitting(places: list[Place]) -> list[Place]:
            left = reach.fit(self.host, tuple(one[3][0] for one in places), grant or self._grant)
            return [one for one in places if one[3][0] in left]

        return fitting

    def _until(self: Any) -> float | None:
        """Return when the connect timeout is over: one for the lookup and all addresses, however many are mute."""
        return None if self.timeout is None else time.monotonic() + self.timeout

    def _socket_to(
        self: Any,
        host: str,
        port: int,
        until: float | None,
        connect: Callable[..., socket.socket],
        fitting: Callable[[list[Place]], list[Place]] | None = None,
    ) -> socket.socket:
        """Return what ``connect`` returns for the first address of a host that can, and may, be reached."""
        self.lifeline.fence.check()
        host = self.resolve.get((host.lower(), port), host).strip("[]")
        try:
            host.encode("idna")
        except UnicodeError:
            raise LocationParseError(f"'{host}', label empty or too long") from None
        last: OSError | None = None
        places = self._places_of(host, port, until)
        if fitting is not None:
            places = fitting(places)
        for others, (family, kind, proto, address) in zip(range(len(places) - 1, -1, -1), places, strict=True):
            now = time.monotonic()
            if until is not None and now >= until and last is not None:
                break
            try:
                return connect(family, kind, proto, address, until_for(until, others, now))
            except OSError as error:
                last = error
                if shortage_in(error) is not None:
                    break
        raise self._unconnected(last) from last

    def _places_of(self: Any, host: str, port: int, until: float | None) -> list[Place]:
        try:
            return places_of(host, port, self.resolver, until)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except PoolClosed:
            raise
        except (OSError, RuntimeError) as error:  # too late; or no descriptor, or no thread, to look it up with
            raise self._unconnected(error) from error

    def _unconnected(self: Any, error: BaseException | None) -> HTTPError:
        error = getattr(error, "socket_err", None) or error  # PySocks wraps it
        if isinstance(error, TimeoutError):
            return ConnectTimeoutError(self, f"Connection to {self.host} timed out. (connect timeout={self.timeout})")
        return NewConnectionError(self, f"Failed to establish a new connection: {error}")

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
            self.lifeline.fence.bind(sock)
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

    def _admit_again(self: Any) -> None:
        """Refuse to be used by a request that wouldn't have been connected: its URL is a redirect's, for one."""
        if self._grant is not None:
            self.reach.admit(self._grant, permits_here())

    def request(self: Any, *args: Any, **kwargs: Any) -> None:
        self._admit_again()
        if self._key is not None:
            self.lifeline.use(self._key)
        super().request(*args, **kwargs)  # type: ignore[misc]

    def request_without_body(self: Any, method: str, path: str, headers: Any, known: KnownHeaders) -> None:
        """Send a request that has no body and names its user agent; as ``request`` would, header lines from ``known``.

        ``request`` encodes and checks each header again each time, and the next request has the same ones.
        """
        self._admit_again()
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
        if self.lifeline is not None:
            self.lifeline.fence.check()  # last of all: what comes after this is the sending
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

        def __init__(self, *args: Any, tracking: tuple[Any, ...], **kwargs: Any) -> None:
            self._tracking = tracking
            super().__init__(*args, **kwargs)

        def _new_conn(self) -> Any:
            connection = super()._new_conn()
            connection.lifeline, connection.resolve, connection.resolver, connection.reach = self._tracking
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
_SOCKS4 = 1  # as PySocks numbers it


def track(
    manager: Any,
    lifeline: Lifeline,
    resolve: Mapping[tuple[str, int], str],
    resolver: Resolver | None = None,
    reach: Reach | None = None,
) -> None:
    """Make each connection that a urllib3 PoolManager opens known to ``lifeline``, and held to ``reach``.

    ``resolver`` looks names up for it.

    Managers of pool classes that aren't urllib3's own are left alone: what a user built stays as it is.
    """
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
    tracking = (lifeline, resolve, resolver, reach)
    manager.pool_classes_by_scheme = {
        "http": partial(http, tracking=tracking),
        "https": partial(https, tracking=tracking),
    }


class _SocksTracked(_Tracked):
    """A connection through a SOCKS proxy: PySocks talks to the proxy, over a socket that the lifeline knows.

    Left to itself PySocks looks names up in the calling thread, and makes a socket that nobody else could shut.
    """

    def _new_conn(self: Any) -> socket.socket:
        if self.lifeline is None:
            return super(_Tracked, self)._new_conn()  # type: ignore[misc,no-any-return]
        options = self._socks_options
        until = self._until()
        goal: str = self.host.strip("[]")
        if not options["rdns"]:  # socks5:// and socks4://: the proxy is told an address
            places = self._places_of(self.resolve.get((goal.lower(), self.port), goal), self.port, until)
            if options["socks_version"] == _SOCKS4:  # which knows no other
                places = [one for one in places if one[0] == socket.AF_INET] or places
            goal = places[0][3][0]
        connect = partial(self._connect_by, goal)
        sock: socket.socket = self._socket_to(options["proxy_host"], int(options["proxy_port"]), until, connect)
        return sock

    def _connect_by(
        self: Any, goal: str, family: int, kind: int, proto: int, address: Any, until: float | None
    ) -> socket.socket:
        options = self._socks_options
        sock = _socks_socket()(family, kind, proto)
        try:
            for option in self.socket_options or ():
                sock.setsockopt(*option)
            login = options["username"], options["password"]
            sock.set_proxy(options["socks_version"], address[0], address[1], options["rdns"], *login)
            self._key = self.lifeline.opened(sock)
            sock.parting = self._forget  # on a failure PySocks closes it by itself
            if until is not None:
                sock.settimeout(max(until - time.monotonic(), 0.001))
            if self.source_address:
                sock.bind(self.source_address)
            sock.connect((goal, self.port))
            self.lifeline.fence.bind(sock)
            sock.parting = None
            sock.settimeout(self.timeout)
        except BaseException:
            self._forget()
            sock.close()
            raise
        return sock  # type: ignore[no-any-return]


@cache
def _socks_socket() -> Any:
    import socks  # here: PySocks is an extra

    class Socket(socks.socksocket):  # type: ignore[misc]
        parting: Callable[[], None] | None = None

        def close(self) -> None:
            parting, self.parting = self.parting, None
            if parting is not None:
                parting()
            super().close()

    return Socket
