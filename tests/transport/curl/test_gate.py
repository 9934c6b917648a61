"""The gate before each send: no bytes that came unasked become an answer, and no request is sent twice."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
import requests

from crawlpool import SessionPool
from crawlpool.errors import ErrorKind, kind_of
from crawlpool.testing import SiteServer
from crawlpool.testing.certificates import Certificates
from crawlpool.transport.curl import library
from crawlpool.transport.curl.gate import ABORT, Connections, Gate
from tests.gates import PATIENCE_S
from tests.kit import RawServer, read_head

pytestmark = pytest.mark.skipif(not library.is_installed(), reason="needs pycurl")

LINUX_ONLY = pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no other system tells what was received")


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def pool(certificates: Certificates) -> Iterator[SessionPool]:
    with SessionPool(
        transport="curl", retry=False, trust_env=False, timeout=10, verify=str(certificates.authority)
    ) as pool:
        yield pool


def planting(extra: bytes, arrived: threading.Event, may_plant: threading.Event | None = None) -> Callable[..., None]:
    """Return a script whose first connection sends ``extra`` behind its first answer, at once or when it may."""

    def script(connection: socket.socket, number: int) -> None:
        while read_head(connection):
            if number > 1 or arrived.is_set():
                connection.sendall(answer(b"good"))
                continue
            connection.sendall(answer(b"good"))
            if may_plant is not None:
                assert may_plant.wait(PATIENCE_S)
            connection.sendall(extra)
            arrived.set()

    return script


@pytest.mark.parametrize("later", [False, True], ids=["at once", "when it is idle"])
@pytest.mark.parametrize("tls", [False, pytest.param(True, marks=LINUX_ONLY)], ids=["http", "https"])
@pytest.mark.parametrize(
    "extra",
    [answer(b"evil"), answer(b"evil" * 9999), b"HTTP/1.1 200 OK\r\nContent-Length: 9", b"x"],
    ids=["whole", "large", "half", "a byte"],
)
def test_planted_bytes_never_become_an_answer(
    pool: SessionPool, certificates: Certificates, extra: bytes, tls: bool, later: bool
) -> None:
    """The next request has a connection of its own, succeeds at once, and the bad one isn't used again."""
    arrived, may_plant = threading.Event(), threading.Event() if later else None
    context = certificates.server_context() if tls else None
    with RawServer(planting(extra, arrived, may_plant), tls=context) as server:
        url = server.url(host="localhost")
        assert pool.get(url).text == "good"
        if may_plant is not None:
            may_plant.set()
        assert arrived.wait(PATIENCE_S)
        for _ in range(3):
            assert pool.get(url).text == "good"
        assert len(server.connections) == 2
        assert pool.statistics().retries == 0


def test_a_planted_answer_is_not_streamed(pool: SessionPool) -> None:
    """What is read as it comes is looked at before its header is shown to anybody."""
    arrived = threading.Event()
    with RawServer(planting(answer(b"evil"), arrived)) as server:
        assert pool.get(server.url()).text == "good"
        assert arrived.wait(PATIENCE_S)
        with pool.get(server.url(), stream=True) as response:
            assert response.content == b"good"


def test_a_connection_that_the_server_closed_is_not_used(pool: SessionPool) -> None:
    """Its end is seen before anything is sent on it: a request is not spent on it."""
    heads: list[bytes] = []
    gone = threading.Event()

    def script(connection: socket.socket, number: int) -> None:
        heads.append(read_head(connection))
        connection.sendall(answer(b"x"))
        connection.shutdown(socket.SHUT_RDWR)
        gone.set()

    with RawServer(script) as server:
        for number in (1, 2, 3):
            gone.clear()
            assert pool.get(server.url()).text == "x"
            assert gone.wait(PATIENCE_S)
            assert len(server.connections) == len(heads) == number


def breaking(heads: list[bytes], *, resets: bool) -> Callable[[socket.socket, int], None]:
    """Return a script that answers each connection's first request, reads the second, and breaks the connection."""

    def script(connection: socket.socket, number: int) -> None:
        first = True
        while head := read_head(connection):
            heads.append(head)
            if not first:
                if resets:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            connection.sendall(answer(b"x"))
            first = False

    return script


@pytest.mark.parametrize("resets", [True, False], ids=["reset", "closed"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_a_request_that_was_read_on_a_used_connection_is_not_sent_again(
    pool: SessionPool, method: str, resets: bool
) -> None:
    """libcurl would send it once more by itself; whether to try again is the retry policy's to say, and counted."""
    heads: list[bytes] = []
    with RawServer(breaking(heads, resets=resets)) as server:
        assert pool.get(server.url()).text == "x"
        with pytest.raises(requests.ConnectionError) as caught:
            pool.request(method, server.url())
        assert kind_of(caught.value) is ErrorKind.CONNECT
        assert [head.split(b" ")[0].decode() for head in heads] == ["GET", method]


@pytest.mark.parametrize("resets", [True, False], ids=["reset", "closed"])
def test_a_post_is_seen_once(pool: SessionPool, resets: bool) -> None:
    """A server that reads a POST and breaks the connection never gets it a second time, used connection or new."""
    heads: list[bytes] = []
    with RawServer(breaking(heads, resets=resets)) as server:
        assert pool.get(server.url()).text == "x"
        assert pool.post(server.url(), data=b"once").text == "x"  # over a connection of its own
        assert [head.split(b" ")[0] for head in heads] == [b"GET", b"POST"]
    with RawServer(lambda connection, _: heads.append(read_head(connection))) as server:
        with pytest.raises(requests.ConnectionError):
            pool.post(server.url(), data=b"once")
        assert len(heads) == 3


def test_a_gate_that_answers_for_nobody_is_shut() -> None:
    """A call that comes after the end of its transfer sends nothing."""
    gate = Gate(Connections(lambda fd: None), is_multiplexed=False)
    assert gate.before_send("127.0.0.1", "127.0.0.1", 80, 1) == ABORT


def test_a_number_that_is_somebody_elses_by_now_is_not_ours() -> None:
    """Connections are known by number and inode: libcurl closes without a word, and the number is given anew."""

    class Address:
        family, socktype, protocol = socket.AF_INET, socket.SOCK_STREAM, 0

    forgotten: list[int] = []
    connections = Connections(forgotten.append)
    fd = connections.open(Address)
    assert (connections.opened, connections.open_now()) == (1, 1)
    os.close(fd)
    assert connections.open_now() == 0
    with socket.socket() as other:
        if other.fileno() == fd:
            assert not connections.is_open(fd)
        assert connections.descriptors() == []
    assert forgotten == [fd]


def test_both_addresses_of_a_name_are_tried(certificates: Certificates) -> None:
    """One that can't be reached, or for which there is no socket, doesn't spoil the other."""
    with SiteServer({"/": b"x"}) as server, SessionPool(transport="curl", retry=False, trust_env=False) as pool:
        assert pool.get(server.url(host="localhost")).text == "x"  # ::1 comes first where there is IPv6
