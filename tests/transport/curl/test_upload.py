"""What a request carries: bytes, files and generators arrive as they do over urllib3, and none holds up another."""

from __future__ import annotations

import contextlib
import io
import itertools
import pathlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from crawlpool import SessionPool, Target
from crawlpool.testing import Answer, Request, SiteServer
from crawlpool.transport.curl import library
from tests.gates import PATIENCE_S, Threads, until
from tests.kit import RawServer, read_head
from tests.transport.curl.patience import no_patience, running

pytestmark = pytest.mark.skipif(not library.is_installed(), reason="needs pycurl")

BIG = bytes(range(256)) * 8192  # 2 MiB
_FRAMING = ("content-length", "transfer-encoding", "content-type", "expect")


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    """Give a pool over libcurl that doesn't retry."""
    with SessionPool(transport="curl", retry=False, trust_env=False, timeout=10) as pool:
        yield pool


@pytest.fixture
def echo() -> Iterator[SiteServer]:
    """Run a server that sends back what it is sent."""
    with SiteServer(lambda request: Answer(200, {}, request.body)) as server:
        yield server


class Boom(Exception):
    """What a user's body raises."""


class Unsized:
    """A file that doesn't seek and has no length: a pipe, say."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._file

    def tell(self) -> int:
        raise OSError("a pipe doesn't tell")


#: Bodies as a user gives them, made anew for each request, and the bytes that shall arrive.
BODIES: dict[str, tuple[Callable[[], Any], bytes]] = {
    "none": (lambda: None, b""),
    "empty": (lambda: b"", b""),
    "bytes": (lambda: b"a\0b", b"a\0b"),
    "text": (lambda: "ä€", "ä€".encode()),
    "form": (lambda: {"a": "ü", "b": ["1", "2"]}, b"a=%C3%BC&b=1&b=2"),
    "bytearray": (lambda: bytearray(b"abc"), b"abc"),
    "large": (lambda: BIG, BIG),
    "file": (lambda: io.BytesIO(BIG), BIG),
    "text file": (lambda: io.StringIO("plain"), b"plain"),
    "empty file": (lambda: io.BytesIO(b""), b""),
    "pipe": (lambda: Unsized(BIG), BIG),
    "generator": (lambda: (BIG[at : at + 70_000] for at in range(0, len(BIG), 70_000)), BIG),
    "small pieces": (lambda: iter([b"a", b"", b"bc", b"d" * 5]), b"abcddddd"),
    "text pieces": (lambda: iter(["a", "b"]), b"ab"),
    "no piece": (lambda: iter([]), b""),
}


@pytest.mark.parametrize("kind", BODIES)
def test_each_body_arrives_as_over_urllib3(pool: SessionPool, echo: SiteServer, kind: str) -> None:
    """The same bytes in the same framing, twice over one connection, so that nothing of a body is left on it."""
    make, arrives = BODIES[kind]
    if kind in ("bytearray", "text pieces"):  # http.client takes the one in another way, and the other not at all
        assert pool.post(echo.url(), data=make()).content == arrives
        return
    with SessionPool(transport="urllib3", retry=False, trust_env=False, timeout=10) as plain:
        for one in (plain, pool, pool):
            assert one.put(echo.url(), data=make()).content == arrives
    theirs, *ours = echo.requests
    for request in ours:
        assert framing(request) == framing(theirs)
    assert echo.connections == 2


def framing(request: Request) -> list[tuple[str, str]]:
    return sorted((name.lower(), value) for name, value in request.fields if name.lower() in _FRAMING)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS", "LOOK"])
@pytest.mark.parametrize("kind", ["none", "bytes", "file", "generator"])
def test_each_method_carries_each_body(pool: SessionPool, echo: SiteServer, method: str, kind: str) -> None:
    """The method stays what it is, and the length is told exactly once, or the body comes in chunks."""
    make, arrives = BODIES[kind]
    for _ in range(2):
        assert pool.request(method, echo.url(), data=make()).content == arrives
    for request in echo.requests:
        assert (request.method, request.body) == (method, arrives)
        names = [name.lower() for name, _ in request.fields]
        needs_length = kind in ("bytes", "file") or (kind == "none" and method not in ("GET",))
        assert names.count("transfer-encoding") == (kind == "generator")
        assert names.count("content-length") == needs_length
        assert "expect" not in names
    assert echo.connections == (1 if method in ("GET", "OPTIONS", "PUT", "DELETE") else 2)


def test_a_body_never_reaches_the_next_request(pool: SessionPool, echo: SiteServer) -> None:
    """Handles are used again: what one request set is gone with it."""
    pool.put(echo.url(), data=io.BytesIO(BIG), headers={"X-A": "b"})
    pool.post(echo.url(), data=b"x")
    pool.get(echo.url())
    last = echo.requests[-1]
    assert (last.method, last.body, framing(last), last.headers.get("x-a")) == ("GET", b"", [], None)


def test_a_real_file_is_sent_from_where_it_stands(pool: SessionPool, echo: SiteServer, tmp_path: pathlib.Path) -> None:
    """Its length is what is left of it, and nothing before that goes out."""
    path = tmp_path / "body"
    path.write_bytes(b"skipped" + BIG)
    with path.open("rb") as file:
        file.seek(7)
        assert pool.put(echo.url(), data=file).content == BIG
    assert echo.requests[0].headers["content-length"] == str(len(BIG))


def test_files_go_out_as_a_form(pool: SessionPool, echo: SiteServer) -> None:
    """``files=`` with fields beside it: multipart, as requests builds it."""
    response = pool.post(echo.url(), data={"a": "1"}, files={"up": ("n.bin", io.BytesIO(b"\0\1"), "image/png")})
    kind, _, boundary = echo.requests[0].headers["content-type"].partition("; boundary=")
    assert kind == "multipart/form-data"
    parts = response.content.split(b"--" + boundary.encode())
    assert (len(parts), parts[-1].strip()) == (4, b"--")
    assert parts[2].endswith(b'filename="n.bin"\r\nContent-Type: image/png\r\n\r\n\0\1\r\n')


@pytest.mark.parametrize("after", [0, 1, 50])
def test_what_a_body_raises_comes_out(pool: SessionPool, echo: SiteServer, after: int) -> None:
    """The very exception, before the first piece or in the middle; the server never sees a whole request."""
    error = Boom("mine")

    def body() -> Iterator[bytes]:
        yield from itertools.repeat(b"x" * 10_000, after)
        raise error

    with pytest.raises(Boom) as caught:
        pool.post(echo.url(), data=body())
    assert caught.value is error
    until(lambda: pool.statistics().connections_open == 0)
    assert pool.post(echo.url(), data=iter([b"after"])).text == "after"
    assert [request.body for request in echo.requests] == [b"after"]


class Sized(Unsized):
    """A file of which the length is known, rightly or not."""

    def __init__(self, content: bytes, length: int) -> None:
        super().__init__(content)
        self.len = length  # where requests looks for it

    def tell(self) -> int:
        return self._file.tell()


def test_a_body_that_is_shorter_than_it_said_fails(pool: SessionPool, echo: SiteServer) -> None:
    """A file that shrank: no half request is left waiting, and none is taken for whole."""
    with pytest.raises(requests.ConnectionError):
        pool.post(echo.url(), data=Sized(b"12345", 10))
    assert pool.get(echo.url()).ok
    assert [request.method for request in echo.requests] == ["GET"]


def test_of_a_body_that_is_longer_than_it_said_no_more_is_sent(pool: SessionPool, echo: SiteServer) -> None:
    """A file that grew: what is behind its length would be taken for another request."""
    for _ in range(2):
        assert pool.put(echo.url(), data=Sized(b"12345GET / HTTP/1.1\r\n\r\n", 5)).content == b"12345"
    assert (len(echo.requests), echo.connections) == (2, 1)


def test_a_length_is_never_told_beside_chunks(pool: SessionPool, echo: SiteServer) -> None:
    """A header of the user's that can't be true is left out: RFC 9112 6.2 forbids both, which smuggles requests."""
    assert pool.post(echo.url(), data=iter([b"12345"]), headers={"Content-Length": "3"}).content == b"12345"
    assert framing(echo.requests[0]) == [("transfer-encoding", "chunked")]


def refusing(connection: socket.socket, _: int) -> None:
    """Answer with the header alone read, then read the rest away."""
    read_head(connection)
    connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(1 << 20):
        pass


@pytest.mark.parametrize("kind", ["bytes", "file", "endless"])
def test_a_server_that_answers_before_it_read_all_is_heard(pool: SessionPool, kind: str) -> None:
    """Its answer counts, and no more of the body is read; not of one that would never end."""
    bodies: dict[str, Any] = {
        "bytes": b"x" * 5_000_000,
        "file": io.BytesIO(b"x" * 5_000_000),
        "endless": itertools.repeat(b"x" * 10_000),
    }
    with RawServer(refusing) as server:
        response = pool.post(server.url(), data=bodies[kind])
        assert (response.status_code, response.text) == (413, "no")


def test_a_server_that_closes_without_an_answer(pool: SessionPool) -> None:
    """In the middle of the body: a failed connection, and the body's thread waits for nothing."""

    def script(connection: socket.socket, _: int) -> None:
        connection.recv(1000)

    with RawServer(script) as server, pytest.raises(requests.ConnectionError):
        pool.post(server.url(), data=itertools.repeat(b"x" * 10_000))


def test_a_body_that_blocks_holds_up_nobody(pool: SessionPool, echo: SiteServer) -> None:
    """It is read in its caller's thread: others' requests go through, and the read timeout doesn't run for it."""
    reached, let = threading.Event(), threading.Event()
    readers: set[int] = set()

    def body() -> Iterator[bytes]:
        readers.add(threading.get_ident())
        yield b"one"
        reached.set()
        assert let.wait(PATIENCE_S)
        yield b"two"

    got: list[str] = []
    with Threads() as threads:
        threads.start(lambda: got.append(pool.post(echo.url(), data=body()).text))
        assert reached.wait(PATIENCE_S)
        until(lambda: running(pool))
        [upload] = running(pool)
        assert pool.get(echo.url()).ok
        assert pool.put(echo.url(), data=iter([b"beside"])).text == "beside"
        until(lambda: upload.upload.is_waiting)
        with no_patience(upload):
            assert not got
        let.set()
    assert got == ["onetwo"]
    assert len(readers) == 1
    assert "crawlpool-io" not in {thread.name for thread in threading.enumerate() if thread.ident in readers}


def test_submit_and_map_read_bodies_in_their_workers(echo: SiteServer) -> None:
    """Of several that block only their own workers wait; all arrive, bytes beside files."""
    let, reached = threading.Event(), threading.Semaphore(0)

    def held(number: int) -> Iterator[bytes]:
        yield b"%d" % number
        reached.release()
        assert let.wait(PATIENCE_S)
        yield b"!"

    slow = []
    with SessionPool(transport="curl", retry=False, trust_env=False, threads=4, in_flight=16) as pool:
        for number in range(2):
            slow.append(pool.submit("POST", echo.url(), data=held(number)))
            assert reached.acquire(timeout=PATIENCE_S)
        quick = [Target(echo.url(), "PUT", data=b"%d" % number) for number in range(20)]
        assert sorted(int(one.response.content) for one in pool.map(quick) if one.response) == list(range(20))
        files = [Target(echo.url(), "POST", data=io.BytesIO(b"%d" % number)) for number in range(5)]
        assert sorted(int(one.response.content) for one in pool.map(files) if one.response) == list(range(5))
        assert not any(future.done() for future in slow)
        let.set()
        assert [future.result(PATIENCE_S).content for future in slow] == [b"0!", b"1!"]


def test_what_a_submitted_body_raises_is_the_futures(echo: SiteServer) -> None:
    """The worker survives it and does the next."""
    with SessionPool(transport="curl", retry=False, trust_env=False, threads=1) as pool:

        def body() -> Iterator[bytes]:
            yield b"x"
            raise Boom("mine")

        assert isinstance(pool.submit("POST", echo.url(), data=body()).exception(PATIENCE_S), Boom)
        assert pool.submit("POST", echo.url(), data=b"y").result(PATIENCE_S).text == "y"


def test_a_redirect_that_keeps_the_method_sends_the_body_again(pool: SessionPool) -> None:
    """307: a file is read from where it stood; a pipe can't be, and requests' error says so."""

    def site(request: Request) -> Answer:
        return Answer(307, {"Location": "/b"}) if request.path == "/a" else Answer(200, {}, request.body)

    with SiteServer(site) as server:
        assert pool.post(server.url("/a"), data=io.BytesIO(BIG)).content == BIG
        assert [len(request.body) for request in server.requests] == [len(BIG), len(BIG)]
        with pytest.raises(requests.exceptions.UnrewindableBodyError):
            pool.post(server.url("/a"), data=Unsized(b"x"))


def test_a_streamed_answer_to_an_upload(pool: SessionPool, echo: SiteServer) -> None:
    """Both ways at once: the body goes out, and the answer is read as it comes."""
    with contextlib.closing(pool.post(echo.url(), data=io.BytesIO(BIG), stream=True)) as response:
        assert b"".join(response.iter_content(5000)) == BIG


def test_two_threads_upload_at_once(pool: SessionPool, echo: SiteServer) -> None:
    """Eight of them, each with a generator: nobody's bytes come to another's answer."""
    got: dict[int, bytes] = {}

    def send(number: int) -> None:
        piece = bytes([number]) * 50_000
        got[number] = pool.post(echo.url(), data=iter([piece] * 10)).content

    with Threads() as threads:
        for number in range(8):
            threads.start(lambda number=number: send(number))  # type: ignore[misc]
    assert got == {number: bytes([number]) * 500_000 for number in range(8)}
