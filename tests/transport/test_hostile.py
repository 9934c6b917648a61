"""Answers that break HTTP, or bend it: over each transport the same, or a difference that is listed in the docs.

The table of ``docs/reference/transports.rst`` says why each ``Differs`` here is one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import itertools
import socket
from collections.abc import Iterator

import pytest
import requests

from crawlpool import SessionPool
from crawlpool.errors import CutHeader, ErrorKind, TruncatedBody, kind_of
from tests.kit import RawServer, answering, read_head

pytestmark = pytest.mark.transports()

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 4\r\n"
END = LENGTH + b"\r\nbody"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ZIPPED = gzip.compress(b"page " * 1000)

PROTOCOL, TRUNCATED, CONNECT, URL = ErrorKind.PROTOCOL, ErrorKind.TRUNCATED, ErrorKind.CONNECT, ErrorKind.INVALID_URL


@dataclasses.dataclass(frozen=True)
class Differs:
    """What becomes of an answer where it isn't the same over both transports."""

    urllib3: bytes | ErrorKind
    curl: bytes | ErrorKind


#: An answer, and the body that is made of it or the kind of the error.
ANSWERS: dict[str, tuple[bytes, bytes | ErrorKind | Differs]] = {
    # The header's size.
    "100 headers": (OK + b"A: 1\r\n" * 99 + END, b"body"),
    "101 headers": (OK + b"A: 1\r\n" * 100 + END, PROTOCOL),
    "a line of 65 kB": (OK + b"A: " + b"x" * 65_000 + b"\r\n" + END, b"body"),
    "a line of 70 kB": (OK + b"A: " + b"x" * 70_000 + b"\r\n" + END, PROTOCOL),
    "240 kB of headers": (OK + (b"A: " + b"x" * 60_000 + b"\r\n") * 4 + END, b"body"),
    "700 kB of headers": (OK + (b"A: " + b"x" * 60_000 + b"\r\n") * 12 + END, Differs(b"body", PROTOCOL)),
    # Where the body ends.
    "length and coding": (OK + b"Content-Length: 3\r\n" + CHUNKED[17:] + b"4\r\nbody\r\n0\r\n\r\n", b"body"),
    "coding twice": (
        OK + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n4\r\nbody\r\n0\r\n\r\n", b"body"),
    "chunked, chunked": (
        OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        Differs(b"4\r\nbody\r\n0\r\n\r\n", b"body"),
    ),
    "another coding": (OK + b"Transfer-Encoding: gzip\r\n\r\nbody", Differs(b"body", PROTOCOL)),
    "the same length twice": (OK + LENGTH + END, b"body"),
    "two lengths": (OK + b"Content-Length: 5\r\n" + END, PROTOCOL),
    "a length below zero": (OK + b"Content-Length: -4\r\n\r\nbody", Differs(b"body", PROTOCOL)),
    "a length with a sign": (OK + b"Content-Length: +4\r\n\r\nbody", Differs(b"body", PROTOCOL)),
    "a length in words": (OK + b"Content-Length: four\r\n\r\nbody", Differs(b"body", PROTOCOL)),
    "a length beyond all": (OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nbody", b"body"),
    "more than its length": (OK + END + b"more", b"body"),
    "no length": (OK + b"\r\nbody", b"body"),
    "204 with a body": (b"HTTP/1.1 204 No\r\n" + END, b""),
    "304 with a length": (b"HTTP/1.1 304 No\r\n" + LENGTH + b"\r\n", b""),
    # Chunks.
    "an extension": (CHUNKED + b"4;x=y\r\nbody\r\n0\r\n\r\n", b"body"),
    "a long extension": (CHUNKED + b"4;" + b"x" * 100_000 + b"\r\nbody\r\n0\r\n\r\n", Differs(TRUNCATED, b"body")),
    "a trailer": (CHUNKED + b"4\r\nbody\r\n0\r\nX-T: 1\r\n\r\n", b"body"),
    "a trailer that is none": (CHUNKED + b"4\r\nbody\r\n0\r\nno trailer\r\n\r\n", Differs(b"body", TRUNCATED)),
    "no size": (CHUNKED + b"4\r\nbody\r\nzz\r\n", TRUNCATED),
    "a size beyond all": (CHUNKED + b"f" * 30 + b"\r\nbody\r\n0\r\n\r\n", TRUNCATED),
    "a size that isn't kept": (CHUNKED + b"7fffffffffffffff\r\nbody\r\n0\r\n\r\n", TRUNCATED),
    "no empty line at the end": (CHUNKED + b"4\r\nbody\r\n0\r\n", Differs(b"body", TRUNCATED)),
    # The lines of the header.
    "a space before the colon": (OK + b"X : 1\r\n" + END, b"body"),
    "a line without colon": (OK + b"nothing\r\n" + END, Differs(b"body", PROTOCOL)),
    "a folded line": (OK + b"A: 1\r\n 2\r\n" + END, b"body"),
    "a bare CR": (OK + b"A: 1\r2\r\n" + END, Differs(b"body", PROTOCOL)),
    "a NUL": (OK + b"A: 1\x002\r\n" + END, Differs(b"body", PROTOCOL)),
    "bare LF": ((OK + END).replace(b"\r\n", b"\n"), b"body"),
    "latin-1": (OK + b"A: \xe4\r\n" + END, b"body"),
    "a Location that is no text": (b"HTTP/1.1 302 F\r\nLocation: /\xe4\r\nContent-Length: 0\r\n\r\n", URL),
    # The status line, and what comes before it.
    "interim answers": (
        b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\n" + OK + END, b"body"),
    "interim answers, 50": (b"HTTP/1.1 103 E\r\n\r\n" * 50 + OK + END, Differs(PROTOCOL, b"body")),
    "no header": (b"just text", PROTOCOL),
    "no number": (b"HTTP/1.1 abc OK\r\n\r\n", PROTOCOL),
    "99": (b"HTTP/1.1 99 OK\r\n" + END, PROTOCOL),
    "1000": (b"HTTP/1.1 1000 OK\r\n" + END, PROTOCOL),
    "999": (b"HTTP/1.1 999 OK\r\n" + END, b"body"),
    "no reason": (b"HTTP/1.1 200\r\n" + END, b"body"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n" + END, b"body"),
    "HTTP/1.2": (b"HTTP/1.2 200 OK\r\n" + END, Differs(b"body", PROTOCOL)),
    "HTTP/3": (b"HTTP/3 200 OK\r\n" + END, PROTOCOL),
    "another protocol": (b"ICY 200 OK\r\n" + END, PROTOCOL),
    "an empty line first": (b"\r\n" + OK + END, PROTOCOL),
    # Cut.
    "nothing": (b"", CONNECT),
    "an interim answer only": (b"HTTP/1.1 103 E\r\nLink: x\r\n\r\n", CONNECT),
    "half a status line": (b"HTTP/1.1 20", Differs(PROTOCOL, CONNECT)),
    "a status line": (OK, PROTOCOL),
    "half a header": (OK + b"A: 1\r\nContent-Le", PROTOCOL),
    "half a body": (OK + LENGTH + b"\r\nbo", TRUNCATED),
    "no body": (OK + LENGTH + b"\r\n", TRUNCATED),
    "half a chunk": (CHUNKED + b"4\r\nbo", TRUNCATED),
    "half an archive": (OK + b"Content-Encoding: gzip\r\n\r\n" + ZIPPED[:-9], TRUNCATED),
    # Codings.
    "two archives": (OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"a") + gzip.compress(b"b"), b"ab"),
    "an empty archive": (OK + b"Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", b""),
    "an unknown coding": (OK + b"Content-Encoding: foo\r\n" + END, b"body"),
}  # fmt: skip


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    """Give a pool that doesn't retry."""
    with SessionPool(retry=False, trust_env=False, timeout=10, max_redirects=2) as pool:
        yield pool


@pytest.mark.parametrize("name", ANSWERS)
def test_what_becomes_of_an_answer(name: str, pool: SessionPool, transport: str) -> None:
    """A body, or an error of the right kind that is a ``RequestException``; never half of either."""
    answer, expected = ANSWERS[name]
    if isinstance(expected, Differs):
        expected = getattr(expected, transport)
    with RawServer(answering(answer, close=True)) as server:
        if isinstance(expected, bytes):
            assert pool.get(server.url()).content == expected
            return
        with pytest.raises(requests.RequestException) as caught:
            pool.get(server.url())
    assert kind_of(caught.value) is expected
    if "half a header" in name or name == "a status line":
        assert isinstance(caught.value, CutHeader)
    if expected is TRUNCATED:
        assert isinstance(caught.value, TruncatedBody)


@pytest.mark.parametrize(
    "name",
    ["length and coding", "more than its length", "204 with a body", "304 with a length", "a trailer", "two lengths"],
)
def test_what_is_left_of_one_answer_never_reaches_the_next(name: str, pool: SessionPool) -> None:
    """Where an answer's end can be told in two ways, the next request gets its own answer all the same."""
    asked = itertools.count()

    def script(connection: socket.socket, _: int) -> None:
        while read_head(connection):
            connection.sendall(ANSWERS[name][0] if next(asked) == 0 else OK + b"Content-Length: 6\r\n\r\nproper")

    with RawServer(script) as server:
        with contextlib.suppress(requests.RequestException):
            pool.get(server.url())
        for _ in range(3):
            assert pool.get(server.url()).content == b"proper"
