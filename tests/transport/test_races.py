"""The keep-alive race: a server closes an idle connection as a request goes out over it."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from crawlpool import RetryPolicy, SessionPool
from crawlpool.errors import ErrorKind, kind_of
from crawlpool.testing.certificates import Certificates
from tests.kit import RawServer, read_head

pytestmark = pytest.mark.transports()

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close at once, by RST
IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")


class Fickle:
    """A script that answers ``/``, and of whatever else is asked over ``fails`` connections, ends these.

    Args:
        fails: the numbers of the connections that it ends.
        ends_by: ``close``, ``reset``, or bytes that it says before it closes.
    """

    def __init__(self, fails: tuple[int, ...], ends_by: str | bytes = "close") -> None:
        self.fails, self.ends_by = fails, ends_by
        self.asked: list[tuple[int, str]] = []
        self.lock = threading.Lock()  # guards asked

    def __call__(self, connection: socket.socket, number: int) -> None:
        while head := read_head(connection):
            asked = head.split(b" HTTP/")[0].decode()
            with self.lock:
                self.asked.append((number, asked))
            if not asked.endswith(" /") and number in self.fails:
                if isinstance(self.ends_by, bytes):
                    connection.sendall(self.ends_by)
                elif self.ends_by == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                return
            connection.sendall(GOOD)


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    """Give a pool that doesn't retry."""
    with SessionPool(retry=False, trust_env=False, timeout=10) as pool:
        yield pool


@pytest.mark.parametrize("ends_by", ["close", "reset"])
@pytest.mark.parametrize("method", IDEMPOTENT)
def test_a_request_that_met_a_closing_connection_is_sent_again(method: str, ends_by: str, pool: SessionPool) -> None:
    """Once, over a new connection, though the policy retries nothing (RFC 9110 9.2.2, RFC 9112 9.3.1)."""
    site = Fickle((1,), ends_by)
    with RawServer(site) as server:
        assert pool.get(server.url()).text == "good"
        assert pool.request(method, server.url("/x")).ok
        assert site.asked == [(1, "GET /"), (1, f"{method} /x"), (2, f"{method} /x")]


def test_so_is_one_over_tls(pool: SessionPool, certificates: Certificates) -> None:
    """The end of the stream comes as an error of TLS there, or as none."""
    site = Fickle((1,))
    with RawServer(site, tls=certificates.server_context()) as server:
        for path in ("/", "/x"):
            assert pool.get(server.url(path), verify=certificates.authority).text == "good"
        assert site.asked == [(1, "GET /"), (1, "GET /x"), (2, "GET /x")]


def test_a_body_goes_along_again(pool: SessionPool) -> None:
    """What PUT sends is sent whole the second time, too."""
    seen = []

    def script(connection: socket.socket, number: int) -> None:
        while head := read_head(connection):
            length = int(dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2]).get(b"Content-Length", b"0"))
            seen.append((number, b"".join(connection.recv(1) for _ in range(length))))
            if number == 1 and length:
                return
            connection.sendall(GOOD)

    with RawServer(script) as server:
        pool.get(server.url())
        assert pool.put(server.url("/x"), data=b"data").text == "good"
    assert seen[-1] == (2, b"data")
    assert seen[:-1] in ([(1, b""), (1, b"data")], [(1, b"")])


@pytest.mark.parametrize("ask", ["get", "map", "crawl"])
def test_it_is_no_retry(ask: str, transport: str) -> None:
    """The record says one attempt, the budget has all its tokens, and nothing is logged as a retry."""
    site = Fickle((1,))
    policy = RetryPolicy(attempts=4, budget=0.0, budget_reserve=0)
    with RawServer(site) as server, SessionPool(threads=1, retry=policy, trust_env=False, timeout=10) as pool:
        found: list[Any] = []
        for path in ("/", "/x"):
            if ask == "get":
                found.append(pool.get(server.url(path)).text)
            elif ask == "map":
                found += [(one.outcome.value, one.attempts) for one in pool.map([server.url(path)])]
            else:
                settled: list[Any] = []
                pool.crawl([server.url(path)], robots=False, on_result=settled.append)
                found += [(one.outcome.value, one.attempts) for one in settled]
        assert found == (["good", "good"] if ask == "get" else [("ok", 1), ("ok", 1)])
        assert [asked for _, asked in site.asked] == ["GET /", "GET /x", "GET /x"]


@pytest.mark.parametrize("ends_by", ["close", "reset"])
def test_once_and_no_more(ends_by: str, pool: SessionPool) -> None:
    """A server that closes the new connection, too, is at fault: from there on the policy decides."""
    site = Fickle((1, 2, 3), ends_by)
    with RawServer(site) as server:
        pool.get(server.url())
        with pytest.raises(requests.ConnectionError) as caught:
            pool.get(server.url("/x"))
        assert kind_of(caught.value) is ErrorKind.CONNECT
        assert site.asked == [(1, "GET /"), (1, "GET /x"), (2, "GET /x")]


def test_a_first_use_is_not_repeated(pool: SessionPool) -> None:
    """A connection that was made for the request wasn't idle: that it breaks is a failure."""
    site = Fickle((1, 2))
    with RawServer(site) as server:
        with pytest.raises(requests.ConnectionError):
            pool.get(server.url("/x"))
        assert site.asked == [(1, "GET /x")]


@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngo"])
def test_an_answer_that_has_begun_is_not_repeated(said: bytes, pool: SessionPool) -> None:
    """Once a byte of it has come the server was there, and the answer is a broken one."""
    site = Fickle((1,), said)
    with RawServer(site) as server:
        pool.get(server.url())
        with pytest.raises(requests.RequestException) as caught:
            pool.get(server.url("/x"))
        assert kind_of(caught.value) in (ErrorKind.PROTOCOL, ErrorKind.TRUNCATED)
        assert site.asked == [(1, "GET /"), (1, "GET /x")]


@pytest.mark.parametrize("ends_by", ["close", "reset"])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("retry", [False, None], ids=["never", "default"])
def test_what_is_not_idempotent_is_never_sent_again(
    method: str, ends_by: str, retry: bool | None, pool: SessionPool
) -> None:
    """A server that has read a POST sees it once, whatever became of the connection and whatever our own policy."""
    site = Fickle((1, 2, 3), ends_by)
    with RawServer(site) as server:
        pool.get(server.url())
        with pytest.raises(requests.ConnectionError) as caught:
            pool.request(method, server.url("/x"), data=b"", retry=retry)
        assert kind_of(caught.value) is ErrorKind.CONNECT
        assert [asked for _, asked in site.asked] == ["GET /", f"{method} /x"]


def test_a_body_that_is_read_piece_by_piece_is_not_sent_again(pool: SessionPool) -> None:
    """A generator gave its pieces away with the first send."""
    site = Fickle((1,))
    with RawServer(site) as server:
        pool.get(server.url())
        with pytest.raises(requests.ConnectionError):
            pool.put(server.url("/x"), data=iter([b"a", b"b"]))
        assert [asked for _, asked in site.asked] == ["GET /", "PUT /x"]


def test_a_closing_pool_is_no_race(pool: SessionPool) -> None:
    """A request whose connection its own pool has shut isn't sent again."""
    reached = threading.Event()

    def script(connection: socket.socket, number: int) -> None:
        while head := read_head(connection):
            if b"GET /x" in head:
                reached.set()
                connection.recv(1)
                return
            connection.sendall(GOOD)

    def close() -> None:
        reached.wait(10)
        pool.close(cancel=True)

    closing: Callable[[], None] = close
    with RawServer(script) as server:
        pool.get(server.url())
        thread = threading.Thread(target=closing)
        thread.start()
        with pytest.raises(Exception) as caught:
            pool.get(server.url("/x"))
        thread.join()
        assert kind_of(caught.value) is ErrorKind.CANCELLED
        assert len(server.connections) == 1
