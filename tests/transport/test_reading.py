"""A body is whole or it is an error; what is left on the wire never becomes another answer."""

from __future__ import annotations

import gzip
import socket
import threading
import zlib
from collections.abc import Iterator

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from crawlpool import SessionPool
from crawlpool.errors import BodyTooLarge, ErrorKind, TruncatedBody, UndecodableBody, kind_of
from crawlpool.testing import Answer, SiteServer
from crawlpool.transport.reading import read_body
from tests.kit import RawServer, answering, read_head

pytestmark = pytest.mark.transports()

OK = b"HTTP/1.1 200 OK\r\n"
ZIPPED = gzip.compress(b"page " * 1000)


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    """Give a pool that doesn't retry."""
    with SessionPool(retry=False, trust_env=False, timeout=10) as pool:
        yield pool


def with_length(body: bytes, length: int, *lines: bytes) -> bytes:
    """Return an answer whose Content-Length is ``length``."""
    return OK + b"".join(line + b"\r\n" for line in lines) + b"Content-Length: %d\r\n\r\n" % length + body


@pytest.mark.parametrize("cap", [None, 1_000_000])
@pytest.mark.parametrize(
    "answer",
    [
        with_length(b"half", 8),
        with_length(b"", 8),
        OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n8\r\nhalf",
        OK + b"Transfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-4\r\nhalf\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0x4\r\nhalf\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhalf\r\n0\r\n\r\n",
        with_length(ZIPPED[:-9], len(ZIPPED) - 9, b"Content-Encoding: gzip"),
        with_length(zlib.compress(b"x" * 999)[:-5], len(zlib.compress(b"x" * 999)) - 5, b"Content-Encoding: deflate"),
        OK + b"Content-Encoding: gzip\r\n\r\n" + ZIPPED[:-1],
    ],
    ids=range(12),
)
def test_a_body_that_is_cut_is_never_ok(answer: bytes, cap: int | None, pool: SessionPool, transport: str) -> None:
    """Shorter than its length, cut between or within chunks, framed wrongly, or a compressed stream without its end."""
    with RawServer(answering(answer, close=True)) as server:
        with pytest.raises(TruncatedBody) as caught:
            pool.get(server.url(), max_body_bytes=cap)
    assert kind_of(caught.value) is ErrorKind.TRUNCATED
    assert isinstance(caught.value, requests.exceptions.ChunkedEncodingError)
    if transport == "urllib3" or (b"-Encoding: gzip\r\nContent-L" not in answer and b": deflate" not in answer):
        # libcurl has read such a body to the end of its length, and that its coding lacks an end is found afterwards.
        assert pool.statistics().connections_open == 0


def test_chunk_lines_without_cr_are_refused_or_read_whole(pool: SessionPool, transport: str) -> None:
    """requests makes 64 bytes of such 145, without a word. Here http.client's way is an error; libcurl reads all."""
    with RawServer(answering(OK + b"Transfer-Encoding: chunked\r\n\r\n4\nhalf\n3\nend\n0\n\n", close=True)) as server:
        if transport == "curl":
            assert pool.get(server.url()).content == b"halfend"
        else:
            with pytest.raises(TruncatedBody):
                pool.get(server.url())


@pytest.mark.parametrize("head", [OK, OK + b"Content-Type: text/html\r\n", OK + b"Content-Type: text"])
def test_a_header_that_is_cut_is_never_ok(head: bytes, pool: SessionPool) -> None:
    """The connection ends before the empty line: a part of a header is no answer."""
    with RawServer(answering(head, close=True)) as server:
        with pytest.raises(requests.ConnectionError) as caught:
            pool.get(server.url())
    assert kind_of(caught.value) is ErrorKind.PROTOCOL


@pytest.mark.parametrize("cap", [None, 1_000_000])
def test_a_body_that_is_not_what_it_claims_is_an_error(cap: int | None, pool: SessionPool) -> None:
    """Text that says it is gzip can't be decoded, and a wrong checksum is a wrong body."""
    broken = ZIPPED[:-8] + bytes(8)
    for body in (b"plain text, no gzip at all", broken):
        with RawServer(answering(with_length(body, len(body), b"Content-Encoding: gzip"))) as server:
            with pytest.raises(UndecodableBody):
                pool.get(server.url(), max_body_bytes=cap)


@pytest.mark.parametrize("encoded", [False, True])
def test_a_body_beyond_the_cap_is_not_read(encoded: bool, pool: SessionPool, transport: str) -> None:
    """At the cap all is well; above it is an error, and a connection with the rest on it isn't used again."""
    body = b"x" * 100_000
    sent = gzip.compress(body) if encoded else body
    headers = {"Content-Encoding": "gzip"} if encoded else {}
    site = {"/length": Answer(200, headers, sent), "/chunks": Answer(200, headers, [sent], chunked=True)}
    with SiteServer(site) as server:
        for path in site:
            assert len(pool.get(server.url(path), max_body_bytes=100_000).content) == 100_000
        assert server.connections == 1
        for number, path in enumerate(site, 2):
            with pytest.raises(BodyTooLarge, match=r"99,?999"):
                pool.get(server.url(path), max_body_bytes=99_999)
            with pytest.raises(BodyTooLarge, match=r"50,?000"):
                pool.get(server.url(path), max_body_bytes=50_000)
            if encoded and transport == "curl":
                continue  # the few bytes that unfold to so many have all been read: nothing is left on the connection
            assert pool.statistics().connections_open == 0
            pool.get(server.url("/length"))
            assert server.connections == (number if transport == "curl" else 2 * number - 1)


def test_a_body_without_length_is_marked(pool: SessionPool) -> None:
    """It ends with its connection: nobody can tell whether it is whole, and the record says so."""
    with RawServer(answering(OK + b"\r\nall of it?", close=True)) as server:
        response = pool.get(server.url())
    assert response.content == b"all of it?"
    assert response.wire.length_unverified  # type: ignore[attr-defined]
    with SiteServer({"/": b"whole"}) as site:
        assert not pool.get(site.url()).wire.length_unverified  # type: ignore[attr-defined]


def test_wire_bytes_count_what_came_over_the_wire(pool: SessionPool) -> None:
    """Before decoding; the record's ``bytes`` counts after it."""
    with SiteServer({"/": Answer(200, {"Content-Encoding": "gzip"}, ZIPPED)}) as server:
        for cap in (None, 10**6):
            response = pool.get(server.url(), max_body_bytes=cap)
            assert len(response.content) == 5000
            assert response.wire.wire_bytes == len(ZIPPED)  # type: ignore[attr-defined]


def test_a_connection_is_used_again_after_each_kind_of_body(pool: SessionPool) -> None:
    """With a length, in chunks, empty, to HEAD, 204, 304, and after a redirect: one connection for all."""
    site = {
        "/length": b"x" * 70_000,
        "/chunks": Answer(200, {}, [b"a", b"b"], chunked=True),
        "/none": b"",
        "/204": Answer(204),
        "/304": Answer(304),
        "/redirect": Answer(302, {"Location": "/length"}, b"moved"),
    }
    with SiteServer(site) as server:
        for path in site:
            pool.get(server.url(path))
            pool.head(server.url(path))
            pool.get(server.url(path), max_body_bytes=100_000)
        assert server.connections == 1


def test_bytes_planted_on_an_idle_connection_never_become_an_answer(pool: SessionPool) -> None:
    """A server that sends a second answer unasked: the connection is dropped, the next request has a new one."""
    fetched, planted = threading.Event(), threading.Event()

    def script(connection: socket.socket, number: int) -> None:
        while read_head(connection):
            connection.sendall(with_length(b"good", 4))
            if number == 1:
                assert fetched.wait(10)
                connection.sendall(with_length(b"evil", 4))
                planted.set()

    with RawServer(script) as server:
        assert pool.get(server.url("/1")).text == "good"
        fetched.set()
        assert planted.wait(10)
        assert pool.get(server.url("/2")).text == "good"
        assert len(server.connections) == 2


def test_interim_answers_are_read_past(pool: SessionPool) -> None:
    """100, 102 and 103 before the answer are no answers (RFC 9110 15.2)."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    interim += b"HTTP/1.1 102 Processing\r\n\r\n"
    with RawServer(answering(interim + with_length(b"answer", 6))) as server:
        for _ in range(2):
            response = pool.get(server.url())
            assert (response.status_code, response.text) == (200, "answer")
            assert "link" not in response.headers
        assert len(server.connections) == 1


def test_a_redirect_that_is_not_followed_is_an_answer_like_any(pool: SessionPool) -> None:
    """Followed, nobody looks at its body; not followed, a cut one is an error."""
    answer = b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 9\r\n\r\nhalf"
    whole = with_length(b"arrived", 7)
    with RawServer(answering(answer, whole, close=True)) as server:
        assert pool.get(server.url()).text == "arrived"
    with RawServer(answering(answer, close=True)) as server:
        with pytest.raises(TruncatedBody):
            pool.get(server.url(), allow_redirects=False)


def test_a_body_that_was_read_already_is_left_as_it_is() -> None:
    """A hook may have read it, or a mock made it."""
    response = requests.Response()
    response._content, response._content_consumed = b"there", True
    assert read_body(response, 1) == b"there"


@settings(max_examples=30)
@given(
    body=st.binary(max_size=5000),
    sizes=st.lists(st.integers(1, 999), max_size=12),
    zipped=st.booleans(),
    cap=st.none() | st.just(10_000),
)
def test_any_body_in_any_chunks_arrives_whole(body: bytes, sizes: list[int], zipped: bool, cap: int | None) -> None:
    """However it is cut into chunks, with or without gzip, capped or not, the bytes are those that were sent."""
    sent = gzip.compress(body) if zipped else body
    pieces, at = [], 0
    for size in sizes:
        pieces.append(sent[at : at + size])
        at += size
    answer = Answer(200, {"Content-Encoding": "gzip"} if zipped else {}, [*pieces, sent[at:]], chunked=True)
    with SiteServer({"/": answer}) as server, SessionPool(retry=False, trust_env=False) as pool:
        assert pool.get(server.url(), max_body_bytes=cap).content == body
