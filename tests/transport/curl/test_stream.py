"""A body that is read as it comes: how much of it waits, when it goes on, and how it ends."""

from __future__ import annotations

import gc
import gzip
import random
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from crawlpool import SessionPool
from crawlpool.errors import BodyStalled, DeadlineExceeded, PoolClosed, TruncatedBody
from crawlpool.testing import Answer, SiteServer
from crawlpool.transport.curl import library
from crawlpool.transport.curl.stream import HIGH_BYTES, BodyStream
from tests.gates import PATIENCE_S, until
from tests.kit import RawServer, answering, read_head
from tests.transport.curl.patience import in_a_hurry, no_patience

pytestmark = pytest.mark.skipif(not library.is_installed(), reason="needs pycurl")

BIG = random.Random(3).randbytes(4 * 2**20)
_BUFFER_BYTES = 64 * 1024  # what libcurl hands over at once


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    """Give a pool over libcurl that doesn't retry."""
    with SessionPool(transport="curl", retry=False, trust_env=False, timeout=10) as pool:
        yield pool


class Steps:
    """A body that goes on step by step, as the test lets it."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self._let = threading.Semaphore(0)

    def let(self, count: int = 1) -> None:
        self._let.release(count)

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            assert self._let.acquire(timeout=PATIENCE_S)
            yield piece


def pipe_of(response: requests.Response) -> BodyStream:
    """Return the pipe that a streamed response reads from."""
    pipe: BodyStream = response.raw._fp._stream
    return pipe


def transfer_of(response: requests.Response) -> Any:
    """Return the transfer behind a streamed response."""
    return response.raw._fp.transfer


def open_now(pool: SessionPool) -> int:
    return pool.statistics().connections_open


def test_a_body_larger_than_the_pipe_waits_for_its_reader(pool: SessionPool) -> None:
    """The transfer is paused while nobody reads, so that little is held; in the end every byte has come, once."""
    with SiteServer({"/": BIG}) as server:
        response = pool.get(server.url(), stream=True)
        pipe = pipe_of(response)
        until(lambda: pipe.is_paused)
        assert HIGH_BYTES <= pipe.received < HIGH_BYTES + _BUFFER_BYTES
        assert not transfer_of(response).is_ended
        assert b"".join(response.iter_content(10_000)) == BIG
        assert not pipe.is_paused
        assert pool.get(server.url()).content == BIG
        assert server.connections == 1, "the connection was given back"


def test_a_paused_stream_holds_up_nobody(pool: SessionPool) -> None:
    """While one body waits for its reader, others come and go."""
    with SiteServer({"/": BIG, "/small": b"small"}) as server:
        response = pool.get(server.url(), stream=True)
        until(lambda: pipe_of(response).is_paused)
        assert [one.response.text for one in pool.map([server.url("/small")] * 20) if one.response] == ["small"] * 20
        assert response.content == BIG


def test_each_line_comes_as_it_is_sent(pool: SessionPool) -> None:
    """``iter_lines`` of a slow chunked answer doesn't wait for the next line to hand out this one."""
    steps = Steps(*(b"line %d\n" % number for number in range(5)))
    with SiteServer({"/": Answer(200, {}, steps, chunked=True)}) as server:
        lines = pool.get(server.url(), stream=True).iter_lines()
        for number in range(5):
            steps.let()
            assert next(lines) == b"line %d" % number
        assert list(lines) == []


def test_the_header_is_there_before_the_body(pool: SessionPool) -> None:
    """``stream=True`` returns with the header, when no byte of the body was sent yet."""
    steps = Steps(b"late")
    with SiteServer({"/": Answer(203, {"X-A": "b"}, steps, chunked=True)}) as server:
        response = pool.get(server.url(), stream=True)
        assert (response.status_code, response.headers["x-a"]) == (203, "b")
        steps.let()
        assert response.text == "late"


def test_a_stream_that_is_dropped_unread_ends(pool: SessionPool) -> None:
    """No close, no collector: with the last reference its transfer ends and its connection goes."""
    gc.collect()
    gc.disable()
    try:
        with SiteServer({"/": BIG, "/next": b"x"}) as server:
            response = pool.get(server.url(), stream=True)
            transfer, pipe = transfer_of(response), pipe_of(response)
            until(lambda: pipe.is_paused)
            assert open_now(pool) == 1
            del response
            until(lambda: transfer.is_ended)
            assert open_now(pool) == 0
            assert pool.get(server.url("/next")).ok
    finally:
        gc.enable()


def test_closing_midway_ends_the_transfer(pool: SessionPool) -> None:
    """What was read is read, nothing more comes, and the connection with the rest of it is never used again."""
    with SiteServer({"/": BIG, "/next": b"x"}) as server:
        with pool.get(server.url(), stream=True) as response:
            assert next(response.iter_content(1000)) == BIG[:1000]
            transfer = transfer_of(response)
        until(lambda: transfer.is_ended)
        response.close()
        assert open_now(pool) == 0
        assert pool.get(server.url("/next")).text == "x"
        assert server.connections == 2


def test_a_stream_that_was_read_keeps_its_connection(pool: SessionPool) -> None:
    """Leaving the block after the last byte is no reason to connect anew."""
    with SiteServer({"/": b"x" * 1000}) as server:
        for _ in range(3):
            with pool.get(server.url(), stream=True) as response:
                assert b"".join(response.iter_content(300)) == b"x" * 1000
        assert server.connections == 1


def test_reading_after_the_pool_closed_says_so(pool: SessionPool) -> None:
    """A body that was cut by ``close`` never looks whole: after what had come, ``PoolClosed``."""
    with SiteServer({"/": BIG}) as server:
        response = pool.get(server.url(), stream=True)
        until(lambda: pipe_of(response).is_paused)
        pool.close()
        pieces: list[bytes] = []
        with pytest.raises(PoolClosed):
            pieces.extend(response.iter_content(1000))
        assert BIG.startswith(b"".join(pieces))


def test_a_deadline_holds_for_the_header(pool: SessionPool) -> None:
    """A header that doesn't come in time ends the call, streamed or not."""
    with SiteServer({"/": Answer(delay_s=30)}) as server:
        with pytest.raises(DeadlineExceeded):
            pool.get(server.url(), stream=True, deadline=0.2)
        assert open_now(pool) == 0


def test_a_deadline_is_not_for_the_readers_time(pool: SessionPool) -> None:
    """Once the header is there the deadline is met: how long the reader takes is its own business."""
    steps = Steps(b"one", b"two")
    with SiteServer({"/": Answer(200, {}, steps, chunked=True)}) as server:
        begun = time.monotonic()
        response = pool.get(server.url(), stream=True, deadline=1)
        until(lambda: time.monotonic() > begun + 1.6)  # past the deadline, and past the look at it
        steps.let(2)
        assert response.content == b"onetwo"


def test_the_read_timeout_runs_while_somebody_reads(pool: SessionPool) -> None:
    """A server that sends nothing while the reader waits is late; one that waits for a slow reader isn't."""
    steps = Steps(b"late")
    with SiteServer({"/": BIG, "/stalls": Answer(200, {}, steps, chunked=True)}) as server:
        response = pool.get(server.url(), stream=True)
        pipe = pipe_of(response)
        until(lambda: pipe.is_paused)
        with no_patience(transfer_of(response)):
            assert pipe.is_paused
        assert response.content == BIG
        stalled = pool.get(server.url("/stalls"), stream=True)
        in_a_hurry(transfer_of(stalled), 0.2)
        with pytest.raises(BodyStalled):
            stalled.raw.read()
        steps.let()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_compressed_stream_is_unfolded(pool: SessionPool, chunked: bool) -> None:
    """``iter_content`` gives the plain bytes, ``raw`` those of the wire."""
    text = b"".join(b"line %d\n" % number for number in range(50_000))
    packed = gzip.compress(text)
    body: Any = [packed[at : at + 5000] for at in range(0, len(packed), 5000)] if chunked else packed
    with SiteServer({"/": Answer(200, {"Content-Encoding": "gzip"}, body, chunked=chunked)}) as server:
        assert b"".join(pool.get(server.url(), stream=True).iter_content(1000)) == text
        assert list(pool.get(server.url(), stream=True).iter_lines()) == text.splitlines()
        assert pool.get(server.url(), stream=True).raw.read(decode_content=False) == packed
        assert pool.get(server.url(), stream=True).raw.read(decode_content=True) == text
        assert server.connections == 1


CUT = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfirst",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n64\r\n",
    "last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
}


@pytest.mark.parametrize("how", CUT)
def test_a_cut_body_never_looks_whole(pool: SessionPool, how: str) -> None:
    """What came before the cut is handed out; then the reading fails, by each way to read."""
    with RawServer(answering(CUT[how], close=True)) as server:
        with pytest.raises(TruncatedBody):
            _ = pool.get(server.url(), stream=True).content
        pieces = []
        with pytest.raises(TruncatedBody):
            for piece in pool.get(server.url(), stream=True).iter_content(1):
                pieces.append(piece)
        assert b"".join(pieces) == b"first"
        with pytest.raises(TruncatedBody):
            pool.get(server.url(), stream=True).raw.read()


def test_raw_reads_as_urllib3s_does(pool: SessionPool) -> None:
    """``read`` with and without a size, ``read1``, ``stream``, ``readinto`` and the end of each."""
    with SiteServer({"/": b"0123456789" * 10}) as server:
        whole = b"0123456789" * 10
        raw = pool.get(server.url(), stream=True).raw
        assert (raw.read(15), raw.read(0), raw.read()) == (whole[:15], b"", whole[15:])
        assert (raw.read(), raw.read(5)) == (b"", b"")
        raw = pool.get(server.url(), stream=True).raw
        first = raw.read1(7)
        assert 0 < len(first) <= 7
        assert first + raw.read() == whole
        assert b"".join(pool.get(server.url(), stream=True).raw.stream(9)) == whole
        raw, buffer = pool.get(server.url(), stream=True).raw, bytearray(40)
        assert (raw.readinto(buffer), bytes(buffer)) == (40, whole[:40])
        assert raw.read() == whole[40:]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_an_answer_without_a_body_is_read_at_once(pool: SessionPool, method: str) -> None:
    """HEAD, whatever length it tells, and 204: empty, and the connection is used again."""
    status = 200 if method == "HEAD" else 204
    head = b"HTTP/1.1 %d Fine\r\n%sX-A: b\r\n\r\n" % (status, b"Content-Length: 50\r\n" if status == 200 else b"")
    with RawServer(answering(head)) as server:
        for _ in range(2):
            response = pool.request(method, server.url(), stream=True)
            assert (response.content, response.headers["x-a"]) == (b"", "b")
        assert len(server.connections) == 1


def test_a_body_that_ends_with_its_connection(pool: SessionPool) -> None:
    """No length, no chunks: it is whole when the server closes."""
    with SiteServer({"/": Answer(200, {}, [b"a" * 1000, b"b" * 1000], close=True)}) as server:
        assert pool.get(server.url(), stream=True).content == b"a" * 1000 + b"b" * 1000


def test_an_interim_answer_is_not_taken_for_the_header(pool: SessionPool) -> None:
    """103 comes first; what is returned is the answer after it."""
    early, last = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
    with RawServer(answering(early + last)) as server:
        response = pool.get(server.url(), stream=True)
        assert (response.status_code, "link" in response.headers, response.content) == (200, False, b"x")


def test_a_redirect_of_a_stream_is_followed(pool: SessionPool) -> None:
    """The last answer is the one that streams; those before it give their connection back."""
    with SiteServer({"/a": Answer(302, {"Location": "/b"}, b"moved"), "/b": BIG}) as server:
        response = pool.get(server.url("/a"), stream=True)
        assert [one.status_code for one in response.history] == [302]
        assert response.content == BIG
        assert server.connections == 1


def test_a_stream_may_be_read_in_another_thread(pool: SessionPool) -> None:
    """Nothing of it belongs to the thread that asked."""
    with SiteServer({"/": BIG}) as server:
        response = pool.get(server.url(), stream=True)
        got: list[bytes] = []
        thread = threading.Thread(target=lambda: got.append(response.content))
        thread.start()
        thread.join(PATIENCE_S)
        assert got == [BIG]


def test_many_streams_at_once_are_each_whole(pool: SessionPool) -> None:
    """Read in turns, a little of each: no byte of one comes to another."""
    bodies = {f"/{number}": bytes([number]) * 700_000 for number in range(8)}
    with SiteServer(dict(bodies)) as server:
        responses = {path: pool.get(server.url(path), stream=True) for path in bodies}
        turns = [(bodies[path], [], one.iter_content(50_000)) for path, one in responses.items()]
        for _ in range(14):
            for _, got, pieces in turns:
                got.append(next(pieces))
        assert all(b"".join(got) + b"".join(pieces) == body for body, got, pieces in turns)


def test_a_connection_with_a_rest_is_not_reused(pool: SessionPool) -> None:
    """More than the length said: what is behind the body is never taken for the next answer."""
    gone = threading.Event()

    def script(connection: socket.socket, number: int) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%dHTTP/1.1 500 Planted\r\n\r\n" % number)
        gone.set()
        connection.recv(1)

    with RawServer(script) as server:
        for number in (1, 2):
            response = pool.get(server.url(), stream=True)
            assert gone.wait(PATIENCE_S)
            assert (response.status_code, response.content) == (200, b"%d" % number)
