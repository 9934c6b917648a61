"""The urllib3 transport: a requests HTTPAdapter for one session, without the cost of requests' own per request."""

from __future__ import annotations

import contextlib
import http.client
import operator
import weakref
from typing import TYPE_CHECKING, Any

import requests
import requests.adapters
from requests.adapters import HTTPAdapter
from requests.cookies import extract_cookies_to_jar
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers, prepend_scheme_if_needed, select_proxy
from urllib3.exceptions import (
    HTTPError,
    LocationValueError,
)
from urllib3.util import parse_url
from urllib3.util.connection import is_connection_dropped

from crawlpool.config import split_timeout
from crawlpool.errors import BlockedAddress, LeaseLost, causes
from crawlpool.retry import IDEMPOTENT_METHODS
from crawlpool.transport.answer import check_switch
from crawlpool.transport.blame import UNANSWERED, as_requests_error, is_at_hand, no_http, short_of
from crawlpool.transport.connections import KnownHeaders, TrackedHTTPConnection, TrackedHTTPSConnection, track
from crawlpool.transport.reach import Reach, permits_here
from crawlpool.transport.reading import StreamedBody
from crawlpool.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlpool.transport.lifeline import Lifeline
    from crawlpool.transport.resolver import Resolver
    from crawlpool.transport.tls import TLSContexts

_REQUESTS_SEND = HTTPAdapter.send
# What PySocks, which may not be installed, raises where the proxy is at fault and not the host behind it.
_SOCKS_AT_FAULT = {("socks", "ProxyConnectionError"), ("socks", "SOCKS5AuthError")}
_DEFAULT_PORTS = {"http": 80, "https": 443}


class _Origin:
    """The idle connections to one scheme, host, port and TLS setting; it plays urllib3's pool to its responses."""

    __slots__ = ("_adapter", "host", "idle", "key", "port", "scheme", "tls")

    def __init__(self, adapter: Urllib3Adapter, key: Any, scheme: str, host: str, port: int, tls: Any) -> None:
        # Weak, so that a session that its user drops unclosed goes at once, its sockets with it, as in requests.
        self._adapter = weakref.ref(adapter)
        self.key, self.scheme, self.host, self.port, self.tls = key, scheme, host, port, tls
        self.idle: list[Any] = []

    def __del__(self) -> None:
        self.close()

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    def take(self, adapter: Urllib3Adapter) -> Any:
        """Return a connection: the last used of the idle ones that is open and has nothing to say, or a new one."""
        while self.idle:
            connection = self.idle.pop()
            adapter.idle_count -= 1
            if not is_connection_dropped(connection):
                return connection
            connection.close()
        return self.make(adapter)

    def make(self, adapter: Urllib3Adapter) -> Any:
        """Return a new connection, not yet connected; an idle one goes where the bound is reached."""
        adapter.evict(adapter.idle_connections - 1)
        connection: Any
        if self.scheme == "https":
            connection = TrackedHTTPSConnection(self.host, self.port, ssl_context=self.tls)
        else:
            connection = TrackedHTTPConnection(self.host, self.port)
        connection.lifeline, connection.resolve, connection.reach = adapter.lifeline, adapter.resolve, adapter.reach
        connection.resolver = adapter.resolver
        return connection

    def close(self) -> None:
        """Close the idle connections; urllib3's container calls this when the origin is evicted."""
        idle, self.idle = self.idle, []
        adapter = self._adapter()
        if adapter is not None:
            adapter.idle_count -= len(idle)
        for connection in idle:
            connection.close()

    def _put_conn(self, connection: Any) -> None:
        """Take a connection back; urllib3's response calls this when its body is read."""
        adapter = self._adapter()
        if connection.sock is None or connection.answer.has_surplus or adapter is None or adapter.lifeline.is_closed:
            connection.close()  # it was the server's last answer on it; the guard of its socket goes now
            return
        self.idle.append(connection)
        adapter.gave_back(self)


class Urllib3Adapter(HTTPAdapter):
    """Moves the bytes of one session, in its thread.

    Args:
        lifeline: the session's; each socket is known to it.
        tls: the pool's TLS contexts.
        idle_connections: open connections kept at most, over all origins; the least recently used go first.
        resolve: addresses to connect to instead of asking DNS, by (host, port).
        resolver: the pool's, which looks names up; without one the calling thread does, and nothing interrupts it.
        reach: the pool's rules of addresses; the default ones unless given.

    Not thread-safe, like the session that it belongs to. It never retries: that is the pool's business.
    """

    def __init__(
        self,
        lifeline: Lifeline,
        tls: TLSContexts,
        *,
        idle_connections: int = 32,
        resolve: Mapping[tuple[str, int], str] | None = None,
        resolver: Resolver | None = None,
        reach: Reach | None = None,
    ) -> None:
        self.lifeline = lifeline
        self.tls = tls
        self.idle_connections = idle_connections
        self.idle_count = 0
        self._known_headers = KnownHeaders()
        self.resolve = resolve or {}
        self.resolver = resolver
        self.reach = reach or Reach()
        super().__init__(pool_connections=idle_connections, pool_maxsize=idle_connections)

    # What a requests adapter has ---------------------------------------------------------------------------------

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        """Make the manager that requests' own way would use; it serves proxies here."""
        super().init_poolmanager(connections, maxsize, block, **kwargs)
        # The origins stand in the manager's own container, least recently used first, where those who look expect them.
        self._origins: Any = self.poolmanager.pools
        self._origins.dispose_func = operator.methodcaller("close")  # by itself it leaves closing to the collector
        track(self.poolmanager, self.lifeline, self.resolve, self.resolver, self.reach)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the manager for a proxy; its sockets are known to the lifeline."""
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if is_new:
            track(manager, self.lifeline, self.resolve, self.resolver)
        return manager

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        """Return what tells connections apart: the origin, and the frozen context of the TLS setting."""
        host, _ = super().build_connection_pool_key_attributes(request, verify, None)
        return host, ({"ssl_context": self.tls.get(verify, cert)} if host["scheme"] == "https" else {})

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Do nothing: the context of the connection settles it."""

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("an adapter of crawlpool belongs to one session and can't be pickled; mount a factory instead")

    def close(self) -> None:
        """Close every idle connection."""
        super().close()  # clears the manager, which closes each origin

    # The way of a request ----------------------------------------------------------------------------------------

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send a request once and return its response, whose body is not read yet.

        Takes and raises what ``requests.adapters.HTTPAdapter.send`` does.
        """
        if HTTPAdapter.send is not _REQUESTS_SEND:  # patched: by ``responses``, for one
            return HTTPAdapter.send(self, request, stream, timeout, verify, cert, proxies)
        url: Any = request.url
        if proxies and select_proxy(url, proxies):
            return self._send_by_proxy(request, stream, timeout, verify, cert, proxies)
        try:
            origin = self._origin_of(url, verify, cert)
            connect_s, read_s = split_timeout(timeout)
        except LocationValueError as error:
            raise requests.exceptions.InvalidURL(error, request=request) from error
        except OSError as error:  # a CA bundle that can't be opened
            raise short_of(error, request) or error from None
        path = request.path_url
        connection = origin.take(self)
        may_repeat = connection.sock is not None and request.method in IDEMPOTENT_METHODS and is_at_hand(request.body)
        while True:
            try:
                response = self._exchange(connection, origin, request, path, connect_s, read_s)
                break
            except BaseException as error:
                connection.close()
                if may_repeat and isinstance(error, UNANSWERED):
                    # The server closed the idle connection while the request was on its way (RFC 9110 9.2.2, RFC 9112
                    # 9.3.1). No failure of the request's: once, over a connection that nobody has grown tired of.
                    may_repeat, connection = False, origin.make(self)
                    continue
                if isinstance(error, (BlockedAddress, LeaseLost)):
                    error.request = request
                    raise
                if isinstance(error, (HTTPError, OSError, http.client.HTTPException)):
                    raise as_requests_error(error, origin, path, read_s, request) from error
                raise
        try:
            check_switch(response.status, request)
        except requests.ConnectionError:
            connection.close()
            raise
        if stream:
            response.__class__ = StreamedBody
            response.chunked = response._original_response.chunked
        return self.build_response(request, response)

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Build the ``requests.Response``; a mock's raw answer will do as well."""
        if not isinstance(getattr(resp, "_pool", None), _Origin):
            return super().build_response(req, resp)
        response = requests.Response()
        response.status_code = resp.status
        headers: Any = CaseInsensitiveDict()
        store = headers._store
        for name, value in resp.headers.iteritems():
            lower = name.lower()
            # As requests: repeated headers are joined. iteritems gives each, in order.
            store[lower] = (name, value) if lower not in store else (store[lower][0], f"{store[lower][1]}, {value}")
        response.headers = headers
        response.encoding = get_encoding_from_headers(headers) if "content-type" in store else None
        response.raw = resp
        response.reason = resp.reason
        response.url = req.url  # type: ignore[assignment]
        if "set-cookie" in store:
            extract_cookies_to_jar(response.cookies, req, resp)
        response.request = req
        response.connection = self
        response.wire = resp.wire  # type: ignore[attr-defined]
        if resp._original_response.kept is not None:
            response.kept = resp._original_response.kept  # type: ignore[attr-defined]
        return response

    def gave_back(self, origin: _Origin) -> None:
        """Note that ``origin`` has one idle connection more, and close the least recently used beyond the bound."""
        self.idle_count += 1
        if self._origins.get(origin.key) is not origin:
            self._origins[origin.key] = origin  # it was evicted while its connection was out
        self.evict(self.idle_connections)

    def evict(self, most: int) -> None:
        """Close idle connections, the least recently used origin's first, until at most ``most`` are left."""
        while self.idle_count > most:
            with self._origins.lock:
                in_order = list(self._origins._container.values())
            oldest = next(one for one in in_order if isinstance(one, _Origin) and one.idle)
            self.idle_count -= 1
            oldest.idle.pop(0).close()

    def _origin_of(self, url: str, verify: Any, cert: Any) -> _Origin:
        # A URL that was prepared has a lower-case scheme; "scheme://authority" is all that tells origins apart.
        end = url.find("/", 8)
        key = (url if end < 0 else url[:end], verify, tuple(cert) if isinstance(cert, list) else cert)
        origin: _Origin | None = self._origins.get(key)
        if origin is None:
            parts = parse_url(url)
            scheme, host = parts.scheme or "http", parts.host
            if not host:
                raise LocationValueError(f"No host specified in {key[0]!r}")
            tls = self.tls.get(verify, cert) if scheme == "https" else None
            origin = _Origin(
                self, key, scheme, host.strip("[]"), _DEFAULT_PORTS[scheme] if parts.port is None else parts.port, tls
            )
            self._origins[key] = origin
        return origin

    def _exchange(
        self,
        connection: Any,
        origin: _Origin,
        request: requests.PreparedRequest,
        path: str,
        connect_s: float | None,
        read_s: float | None,
    ) -> Any:
        headers: Any = request.headers
        connection.timeout = connect_s
        if connection.sock is None:
            connection.connect()
        connection.timeout = read_s
        body = request.body
        if (
            body is None
            and request.method in ("GET", "HEAD")
            and "user-agent" in headers._store
            and "accept-encoding" in headers._store
        ):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request_without_body(request.method, path, headers, self._known_headers)
            return self._answer(connection, origin)
        # A server may answer and close before it has read all: its answer can still be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(
                request.method,
                path,
                body=body,
                headers=headers,
                chunked=not (body is None or "Content-Length" in headers),
                preload_content=False,
                decode_content=False,
                enforce_content_length=True,
            )
        return self._answer(connection, origin)

    def _answer(self, connection: Any, origin: _Origin) -> Any:
        response = connection.getresponse()
        response._connection = connection
        response._pool = origin
        connection.answer = response._original_response
        response.retries = self.max_retries
        response.wire = Wire(
            connection.peer,
            None,
            "1.1" if response.version == 11 else "1.0",
            None,
            False,
            (),
        )
        return response

    def _send_by_proxy(
        self, request: Any, stream: bool, timeout: Any, verify: Any, cert: Any, proxies: Any
    ) -> requests.Response:
        connect_s, read_s = split_timeout(timeout)
        # Where the proxy connects to nobody here can know; what the URL itself says can be judged.
        with contextlib.suppress(LocationValueError):  # what is no URL requests says below
            need = self.reach.need_of(parse_url(request.url).host or "")
            if need is not None:
                self.reach.admit(need, permits_here(), request)
        try:
            response = _REQUESTS_SEND(self, request, stream, (connect_s, read_s), verify, cert, proxies)
        except (requests.ConnectionError, OSError) as error:
            short = short_of(error, request)
            if short is not None:
                raise short from None
            breach = None if isinstance(error, requests.exceptions.ProxyError) else no_http(error, request)
            if breach is not None:
                raise breach from error
            if any((type(one).__module__, type(one).__name__) in _SOCKS_AT_FAULT for one in causes(error)):
                raise requests.exceptions.ProxyError(*error.args, request=request) from error
            raise
        try:
            check_switch(response.status_code, request)
        except requests.ConnectionError:
            response.close()
            raise
        chosen: Any = select_proxy(request.url, proxies)
        proxy = prepend_scheme_if_needed(chosen, "http")  # as it was used
        response.raw.wire = response.wire = Wire(None, proxy, None, None, False, ())  # type: ignore[attr-defined]
        kept = getattr(response.raw._original_response, "kept", None)
        if kept is not None:
            response.kept = kept  # type: ignore[attr-defined]
        return response
