"""The gate before each send: no planted answer is taken, and nothing is sent twice that a server may have read."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from crawlpool import SessionPool
from crawlpool.clock import Deadline
from crawlpool.errors import ErrorKind, kind_of
from crawlpool.testing.certificates import Certificates
from crawlpool.transport.base import Exchange
from crawlpool.transport.curl import library
from crawlpool.transport.curl.adapter import CurlAdapter
from crawlpool.transport.curl.gate import ABORT, OK, Connections, Ear, Gate
from tests.gates import PATIENCE_S, until
from tests.kit import RawServer, answering, read_head

pytestmark = pytest.mark.skipif(not library.is_installed(), reason="needs pycurl")

HONEST = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhonest"
PLANTED = {
    "whole": b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nplanted",
    "last on its connection": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 7\r\n\r\nplanted",
    "half": b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nplan",
    "a few bytes": b"HTT",
    "a blank line": b"\r\n",
}
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close at once, by RST
ASK: dict[str, Callable[[SessionPool, str], str]] = {
    "get": lambda pool, url: pool.get(url).text,
    "stream": lambda pool, url: pool.get(url, stream=True).text,
    "submit": lambda pool, url: pool.submit("GET", url).result().text,
}


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    """Give a pool over libcurl that doesn't retry."""
    with SessionPool(transport="curl", retry=False, trust_env=False, timeout=10) as pool:
        yield pool


@pytest.fixture
def adapter() -> Iterator[CurlAdapter]:
    """Give an adapter with an engine of its own."""
    adapter = CurlAdapter()
    yield adapter
    adapter.close()


class Site:
    """A script that answers all it is asked, and keeps (connection, method and path); after the first it may plant."""

    def __init__(self, planted: bytes = b"") -> None:
        self.planted = planted
        self.may_plant = threading.Event()
        self.asked: list[tuple[int, str]] = []

    def __call__(self, connection: socket.socket, number: int) -> None:
        while head := read_head(connection):
            self.asked.append((number, head.split(b" HTTP/")[0].decode()))
            connection.sendall(HONEST)
            if self.planted and len(self.asked) == 1:
                assert self.may_plant.wait(PATIENCE_S)
                connection.sendall(self.planted)


class Fragile:
    """A script that answers each GET of ``/``, and ends the connection when it has read anything else."""

    def __init__(self, ends_by: str) -> None:
        self.ends_by = ends_by
        self.asked: list[tuple[int, str]] = []

    def __call__(self, connection: socket.socket, number: int) -> None:
        while head := read_head(connection):
            asked = head.split(b" HTTP/")[0].decode()
            self.asked.append((number, asked))
            if asked != "GET /":
                if self.ends_by == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                return
            connection.sendall(HONEST)


def sockets_of(pool: SessionPool) -> list[int]:
    """Return the numbers of the pool's open connections."""
    engine: Any = pool._shared.engine
    found: list[int] = engine._loop.connections.descriptors()
    return found


def transfer_of(adapter: CurlAdapter, url: str, verify: Any = True) -> Any:
    """Return the transfer of a request, not yet begun."""
    settings: dict[str, Any] = {"stream": False, "timeout": 10, "verify": verify, "cert": None, "proxies": {}}
    request = requests.Request("GET", url).prepare()
    return adapter.transfer_for(Exchange(request, settings, Deadline(None)))


def transferred(adapter: CurlAdapter, url: str, verify: Any = True) -> Any:
    """Send a request by the adapter's engine and return the transfer, ended."""
    transfer = transfer_of(adapter, url, verify)
    adapter.engine.submit([transfer])
    transfer.wait()
    return transfer


@pytest.mark.parametrize("how", ASK)
@pytest.mark.parametrize("planted", PLANTED)
def test_bytes_on_an_idle_connection_reach_no_answer(planted: str, how: str, pool: SessionPool) -> None:
    """What a server says unasked isn't the next answer: that comes over a new connection, the old one is closed."""
    site = Site(PLANTED[planted])
    with RawServer(site) as server:
        assert ASK[how](pool, server.url("/1")) == "honest"
        [before] = sockets_of(pool)
        site.may_plant.set()
        until(Ear(before).has_unread)
        assert [ASK[how](pool, server.url(path)) for path in ("/2", "/3")] == ["honest", "honest"]
        assert site.asked == [(1, "GET /1"), (2, "GET /2"), (2, "GET /3")]
        assert pool.statistics().connections_open == 1


def test_a_connection_that_the_server_closed_is_not_written_to(pool: SessionPool) -> None:
    """The end of the stream was there before the request: the request goes out once, over a new connection."""
    asked: list[int] = []

    def script(connection: socket.socket, number: int) -> None:
        read_head(connection)
        asked.append(number)
        connection.sendall(HONEST)

    with RawServer(script) as server:
        assert pool.get(server.url()).text == "honest"
        until(lambda: not sockets_of(pool) or Ear(sockets_of(pool)[0]).has_unread())
        assert pool.get(server.url()).text == "honest"
        assert asked == [1, 2]


@pytest.mark.parametrize("ends_by", ["reset", "close"])
@pytest.mark.parametrize(
    ("method", "sends"), [("POST", 1), ("PATCH", 1), ("PUT", 2), ("DELETE", 2), ("GET", 2), ("HEAD", 2)]
)
def test_a_request_that_was_read_is_sent_again_by_us_alone(
    method: str, sends: int, ends_by: str, pool: SessionPool
) -> None:
    """libcurl would repeat it over and over; what is idempotent we repeat once, after an idle connection broke.

    What isn't idempotent doesn't even go over a connection that was used before (RFC 9110 9.2.2).
    """
    site = Fragile(ends_by)
    with RawServer(site) as server:
        assert pool.get(server.url()).text == "honest"
        with pytest.raises(requests.ConnectionError) as caught:
            pool.request(method, server.url("/once"), data=b"x" if method in ("POST", "PATCH") else None)
        assert kind_of(caught.value) is ErrorKind.CONNECT
        assert [asked for _, asked in site.asked] == ["GET /"] + [f"{method} /once"] * sends
        assert [number for number, asked in site.asked if asked != "GET /"][-1] > 1
        assert pool.get(server.url()).text == "honest"


def test_the_second_send_is_refused(adapter: CurlAdapter) -> None:
    """libcurl's own repeat goes through the gate once, over a new connection; the next one doesn't."""
    site = Fragile("reset")
    with RawServer(site) as server:
        assert transferred(adapter, server.url()).sends == 1
        broken = transferred(adapter, server.url("/once"))
        assert (broken.sends, broken.is_first, broken.is_fresh) == (2, True, True)
        assert [asked for _, asked in site.asked] == ["GET /", "GET /once", "GET /once"]


def test_a_reused_connection_of_tls_works(adapter: CurlAdapter, certificates: Certificates) -> None:
    """The session tickets that a server sends by itself are no planted bytes: one connection, one send for each."""
    context = certificates.server_context()
    assert context.num_tickets == 2
    with RawServer(answering(HONEST), tls=context) as server:
        transfers = [transferred(adapter, server.url(), verify=certificates.authority) for _ in range(50)]
        assert {one.code for one in transfers} == {0}
        assert [one.is_first for one in transfers] == [True] + [False] * 49
        assert {one.sends for one in transfers} == {1}
        assert (len(server.connections), adapter.engine.counts()) == (1, (1, 1))


@pytest.mark.parametrize("threads", [1, 16])
def test_a_quick_answer_over_tls_is_no_planted_one(threads: int, certificates: Certificates) -> None:
    """However soon an answer comes, each request goes out once, and no connection is given up for it."""
    counted = threading.Semaphore(0)

    def script(connection: socket.socket, _: int) -> None:
        while read_head(connection):
            counted.release()
            connection.sendall(HONEST)

    options: dict[str, Any] = {"retry": False, "trust_env": False, "verify": certificates.authority}
    with RawServer(script, tls=certificates.server_context()) as server:
        with SessionPool(threads=threads, in_flight=threads, transport="curl", **options) as pool:
            assert all(result.is_ok for result in pool.map([server.url()] * 200))
            assert pool.statistics().connections_opened <= threads
    assert counted._value == 200


@pytest.mark.skipif(sys.platform != "linux", reason="what TLS has read ahead is told by Linux alone")
@pytest.mark.parametrize("how", ASK)
@pytest.mark.parametrize("planted", ["whole", "last on its connection", "half"])
def test_what_tls_has_read_ahead_reaches_no_answer(planted: str, how: str, certificates: Certificates) -> None:
    """An answer that came along with the one before, and lies in OpenSSL's buffer, is seen by no poll; nor is it taken.

    The server keeps its own answer back on that connection: the two can't be told apart once both have come.
    """
    context, asked = certificates.server_context(), []

    def script(connection: socket.socket, number: int) -> None:
        tls = Records(context, connection)
        for nth in range(1, 4):
            head = tls.read_head()
            if not head:
                return
            asked.append((number, head.split(b" HTTP/")[0].decode()))
            if (number, nth) == (1, 2):
                connection.recv(1)  # its end
                return
            tls.write(HONEST, *([PLANTED[planted]] if (number, nth) == (1, 1) else []))

    options: dict[str, Any] = {"retry": False, "trust_env": False, "verify": certificates.authority, "timeout": 10}
    with RawServer(script) as server, SessionPool(transport="curl", **options) as pool:
        url = f"https://127.0.0.1:{server.port}"
        assert [ASK[how](pool, url + path) for path in ("/1", "/2")] == ["honest", "honest"]
        # Each connection has a thread of its own in the server: they note what they read in either order, or late.
        until(lambda: len(asked) >= 3)
        assert sorted(asked) == [(1, "GET /1"), (1, "GET /2"), (2, "GET /2")]


class Records:
    """A server's TLS whose records are sent as the test wants: several in one segment."""

    def __init__(self, context: ssl.SSLContext, connection: socket.socket) -> None:
        self._connection = connection
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._whole(self._tls.do_handshake)
        connection.sendall(self._out.read())

    def read_head(self) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece: bytes = self._whole(lambda: self._tls.read(65536))
            if not piece:
                return b""
            head += piece
        return head

    def write(self, *records: bytes) -> None:
        for record in records:
            self._tls.write(record)
        self._connection.sendall(self._out.read())

    def _whole(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._connection.sendall(self._out.read())
                came = self._connection.recv(65536)
                if not came:
                    return b""
                self._in.write(came)


def test_sockets_are_counted(pool: SessionPool) -> None:
    """Opened so far, and open now: one for two requests, another for a POST, none once the pool is closed."""
    with RawServer(answering(HONEST)) as server:
        for method, opened in (("GET", 1), ("GET", 1), ("POST", 2)):
            assert pool.request(method, server.url()).ok
            assert pool.statistics().connections_opened == opened == len(server.connections)
        assert pool.statistics().connections_open == 2
        pool.close()
        assert (pool.statistics().connections_opened, pool.statistics().connections_open) == (2, 0)


# Connections, with real sockets --------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Listen."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


ADDRESS = types.SimpleNamespace(family=socket.AF_INET, socktype=socket.SOCK_STREAM, protocol=socket.IPPROTO_TCP)


def connected(connections: Connections, listener: socket.socket) -> socket.socket:
    """Open a socket by ``connections`` and connect it, as libcurl does."""
    sock = socket.socket(fileno=connections.open(ADDRESS))
    sock.connect(listener.getsockname())
    return sock


def test_a_connection_is_known_by_its_local_address(listener: socket.socket) -> None:
    """It is learnt when it is sent on first, among all that were opened for it, closed ones too; then it is known."""
    forgotten: list[int] = []
    connections = Connections(forgotten.append)
    with connected(connections, listener) as one, connected(connections, listener) as other:
        gone = connections.open(ADDRESS)
        os.close(gone)
        local = one.getsockname()
        assert connections.known(local) is None
        assert not connections.learn(local, [gone, other.fileno()])
        assert connections.known(local) is None
        assert connections.learn(local, [gone, other.fileno(), one.fileno()])
        known = connections.known(local)
        assert known is not None
        assert (known.fd, connections.known(other.getsockname())) == (one.fileno(), None)
        assert forgotten == [one.fileno(), other.fileno(), gone]
        assert (connections.opened, connections.open_now()) == (3, 2)


def test_a_number_that_is_used_again_is_another_connection(listener: socket.socket) -> None:
    """The one that had it is forgotten: its address leads nowhere, and the poller is told."""
    forgotten: list[int] = []
    connections = Connections(forgotten.append)
    with connected(connections, listener) as first:
        number, local = first.fileno(), first.getsockname()
        assert connections.learn(local, [number])
    with connected(connections, listener) as second:
        assert second.fileno() == number
        assert forgotten == [number, number]
        assert connections.known(local) is None
        assert connections.learn(second.getsockname(), [number])
        known = connections.known(second.getsockname())
        assert known is not None
        assert known.fd == number
        assert (connections.opened, connections.open_now()) == (2, 1)


def test_a_number_that_somebody_else_has_is_not_ours(listener: socket.socket) -> None:
    """A descriptor that libcurl closed and the user's program opened again is left alone by a fork and uncounted."""
    connections = Connections(lambda _: None)
    with connected(connections, listener) as sock:
        number = sock.fileno()
        assert connections.descriptors() == [number]
    with open(os.devnull) as file:
        assert file.fileno() == number
        assert (connections.descriptors(), connections.open_now()) == ([], 0)


def test_a_socket_that_cannot_be_made_is_told(adapter: CurlAdapter) -> None:
    """libcurl gets no exception but its own sign of it, may try another address, and the error is kept."""
    transfer = transfer_of(adapter, "http://127.0.0.1/")
    gate = Gate(Connections(lambda _: None), is_multiplexed=False)
    gate.begin(transfer)
    address = types.SimpleNamespace(family=9999, socktype=1, protocol=6, addr=("127.0.0.1", 80))
    assert gate.open_socket(0, address) == -1
    assert isinstance(transfer.no_socket, OSError)


def test_nothing_is_sent_for_nobody(adapter: CurlAdapter) -> None:
    """A handle without a transfer doesn't pass the gate; one with a transfer does so once."""
    gate = Gate(Connections(lambda _: None), is_multiplexed=False)
    where = ("127.0.0.1", "127.0.0.1", 80, 50_000)
    assert gate.before_send(*where) == ABORT
    gate.begin(transfer_of(adapter, "http://127.0.0.1/"))
    assert [gate.before_send(*where) for _ in range(3)] == [OK, ABORT, ABORT]


@pytest.mark.parametrize("has_poll", [True, False])
def test_an_ear_hears_bytes_an_end_and_nothing(has_poll: bool) -> None:
    """Something to read, the end of the stream and a descriptor that is none are news; silence isn't."""
    here, there = socket.socketpair()
    with here, there:
        ear = Ear(here.fileno())
        if not has_poll:
            ear._poll = None  # as on systems that have select alone
        assert not ear.has_unread()
        there.send(b"x")
        assert ear.has_unread()
        here.recv(1)
        assert not ear.has_unread()
        there.close()
        assert ear.has_unread()
        here.close()
        assert ear.has_unread()
