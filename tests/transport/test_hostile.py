"""Answers that break HTTP, or bend it: over each transport the same, or a difference that is listed in the docs.

The table of ``docs/reference/transports.rst`` says why each ``Differs`` here is one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from crawlpool import SessionPool
from crawlpool.errors import CutHeader, ErrorKind, ProtocolError, TruncatedBody, kind_of
from tests.kit import RawServer, answering, read_head

pytestmark = pytest.mark.transports()

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 4\r\n"
END = LENGTH + b"\r\nbody"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BODY_CHUNKS = b"4\r\nbody\r\n0\r\n\r\n"
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
    "64 KiB of headers": (OK + b"A: " + b"x" * (65_536 - 5 - len(LENGTH)) + b"\r\n" + END, b"body"),
    "a byte more of headers": (OK + b"A: " + b"x" * (65_536 - 4 - len(LENGTH)) + b"\r\n" + END, PROTOCOL),
    "a line of 70 kB": (OK + b"A: " + b"x" * 70_000 + b"\r\n" + END, PROTOCOL),
    "80 kB in 90 lines": (OK + (b"A: " + b"x" * 900 + b"\r\n") * 90 + END, PROTOCOL),
    "700 kB of headers": (OK + (b"A: " + b"x" * 60_000 + b"\r\n") * 12 + END, PROTOCOL),
    # Where the body ends.
    "length and coding": (OK + b"Content-Length: 3\r\n" + CHUNKED[17:] + BODY_CHUNKS, PROTOCOL),
    "coding and length": (CHUNKED[:-2] + LENGTH + b"\r\n" + BODY_CHUNKS, PROTOCOL),
    "coding twice": (OK + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n" + BODY_CHUNKS, PROTOCOL),
    "chunked, chunked": (OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + BODY_CHUNKS, PROTOCOL),
    "chunked, folded": (OK + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + BODY_CHUNKS, b"body"),
    "Chunked": (OK + b"transfer-encoding:Chunked\r\n\r\n" + BODY_CHUNKS, b"body"),
    "another coding": (OK + b"Transfer-Encoding: gzip\r\n\r\nbody", PROTOCOL),
    "another coding first": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + BODY_CHUNKS, PROTOCOL),
    "another coding last": (OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + BODY_CHUNKS, PROTOCOL),
    "identity": (OK + b"Transfer-Encoding: identity\r\n" + END, PROTOCOL),
    "chunked by HTTP/1.0": (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY_CHUNKS, b"body"),
    "the same length twice": (OK + LENGTH + END, b"body"),
    "a list of lengths": (OK + b"Content-Length: 4, 4\r\n\r\nbody", b"body"),
    "a list of lengths that differ": (OK + b"Content-Length: 4, 5\r\n\r\nbody", PROTOCOL),
    "two lengths": (OK + b"Content-Length: 5\r\n" + END, PROTOCOL),
    "a length with zeros": (OK + b"Content-Length: 004\r\n\r\nbody", b"body"),
    "a length with a space after it": (OK + b"Content-Length: 4 \r\n\r\nbody", b"body"),
    "a length below zero": (OK + b"Content-Length: -4\r\n\r\nbody", PROTOCOL),
    "a length with a sign": (OK + b"Content-Length: +4\r\n\r\nbody", PROTOCOL),
    "a length in hexadecimal": (OK + b"Content-Length: 0x4\r\n\r\nbody", PROTOCOL),
    "a length in words": (OK + b"Content-Length: four\r\n\r\nbody", PROTOCOL),
    "an empty length": (OK + b"Content-Length:\r\n\r\nbody", PROTOCOL),
    "a length beyond all": (OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nbody", PROTOCOL),
    "a length just beyond": (OK + b"Content-Length: 9223372036854775808\r\n\r\nbody", PROTOCOL),
    "a length that isn't kept": (OK + b"Content-Length: 9223372036854775807\r\n\r\nbody", TRUNCATED),
    "more than its length": (OK + END + b"more", b"body"),
    "no length": (OK + b"\r\nbody", b"body"),
    "204 with a body": (b"HTTP/1.1 204 No\r\n" + END, b""),
    "204 with chunks": (b"HTTP/1.1 204 No\r\n" + CHUNKED[17:] + BODY_CHUNKS, b""),
    "304 with a length": (b"HTTP/1.1 304 No\r\n" + LENGTH + b"\r\n", b""),
    # Chunks.
    "an extension": (CHUNKED + b"4;x=y\r\nbody\r\n0\r\n\r\n", b"body"),
    "a long extension": (CHUNKED + b"4;" + b"x" * 100_000 + b"\r\nbody\r\n0\r\n\r\n", Differs(TRUNCATED, b"body")),
    "a trailer": (CHUNKED + b"4\r\nbody\r\n0\r\nX-T: 1\r\n\r\n", b"body"),
    "a trailer that is none": (CHUNKED + b"4\r\nbody\r\n0\r\nno trailer\r\n\r\n", TRUNCATED),
    "a trailer without end": (CHUNKED + b"4\r\nbody\r\n0\r\n" + b"X: 1\r\n" * 100_000, TRUNCATED),
    "no size": (CHUNKED + b"4\r\nbody\r\nzz\r\n", TRUNCATED),
    "a size beyond all": (CHUNKED + b"f" * 30 + b"\r\nbody\r\n0\r\n\r\n", TRUNCATED),
    "a size that isn't kept": (CHUNKED + b"7fffffffffffffff\r\nbody\r\n0\r\n\r\n", TRUNCATED),
    "no empty line at the end": (CHUNKED + b"4\r\nbody\r\n0\r\n", TRUNCATED),
    # The lines of the header.
    "a space before the colon": (OK + b"X : 1\r\n" + END, PROTOCOL),
    "a length with a space before the colon": (OK + b"Content-Length : 2\r\n\r\nbody", PROTOCOL),
    "a tab before the colon": (OK + b"X\t: 1\r\n" + END, PROTOCOL),
    "a line without colon": (OK + b"nothing\r\n" + END, PROTOCOL),
    "a line without a name": (OK + b": nothing\r\n" + END, b"body"),
    "a name that is no ASCII": (OK + b"\xe4: 1\r\n" + END, PROTOCOL),
    "a folded line": (OK + b"A: 1\r\n 2\r\n" + END, b"body"),
    "a folded line first": (OK + b" 2\r\n" + END, PROTOCOL),
    "a bare CR": (OK + b"A: 1\r2\r\n" + END, PROTOCOL),
    "a CR too many": (OK + b"A: 1\r\r\n" + END, PROTOCOL),
    "a NUL": (OK + b"A: 1\x002\r\n" + END, PROTOCOL),
    "bare LF": ((OK + END).replace(b"\r\n", b"\n"), b"body"),
    "latin-1": (OK + b"A: \xe4\r\n" + END, b"body"),
    "a Location that is no text": (b"HTTP/1.1 302 F\r\nLocation: /\xe4\r\nContent-Length: 0\r\n\r\n", URL),
    "a Location that is no URL": (b"HTTP/1.1 302 F\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n", URL),
    # The status line, and what comes before it.
    "interim answers": (
        b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\n" + OK + END, b"body"),
    "interim answers, 16": (b"HTTP/1.1 103 E\r\n\r\n" * 16 + OK + END, b"body"),
    "interim answers, 17": (b"HTTP/1.1 103 E\r\n\r\n" * 17 + OK + END, PROTOCOL),
    "an interim answer that is broken": (b"HTTP/1.1 103 E\r\nX : 1\r\n\r\n" + OK + END, PROTOCOL),
    "another protocol unasked": (b"HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\nbody", PROTOCOL),
    "no header": (b"just text", PROTOCOL),
    "no number": (b"HTTP/1.1 abc OK\r\n\r\n", PROTOCOL),
    "99": (b"HTTP/1.1 99 OK\r\n" + END, PROTOCOL),
    "099": (b"HTTP/1.1 099 OK\r\n" + END, PROTOCOL),
    "1000": (b"HTTP/1.1 1000 OK\r\n" + END, PROTOCOL),
    "999": (b"HTTP/1.1 999 OK\r\n" + END, b"body"),
    "no reason": (b"HTTP/1.1 200\r\n" + END, b"body"),
    "two spaces before the status": (b"HTTP/1.1  200 OK\r\n" + END, PROTOCOL),
    "a status and no space": (b"HTTP/1.1 200OK\r\n" + END, PROTOCOL),
    "a NUL in the reason": (b"HTTP/1.1 200 O\0K\r\n" + END, PROTOCOL),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n" + END, b"body"),
    "HTTP/1.2": (b"HTTP/1.2 200 OK\r\n" + END, PROTOCOL),
    "HTTP/0.9": (b"HTTP/0.9 200 OK\r\n" + END, PROTOCOL),
    "HTTP/2.0": (b"HTTP/2.0 200 OK\r\n" + END, PROTOCOL),
    "HTTP/2": (b"HTTP/2 200 OK\r\n" + END, PROTOCOL),
    "HTTP/3": (b"HTTP/3 200 OK\r\n" + END, PROTOCOL),
    "HTTP/3.7": (b"HTTP/3.7 200 OK\r\n" + END, PROTOCOL),
    "HTTP/11": (b"HTTP/11 200 OK\r\n" + END, PROTOCOL),
    "http/1.1": (b"http/1.1 200 OK\r\n" + END, PROTOCOL),
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


#: What a Location may not be, or leads nowhere from; none of it names a host.
JUNK = (
    b"/\xe4", b"\xff\xfe", b"http://", b"http://[", b"http://[::1", b"//", b"javascript:alert(1)", b"file:///etc/passwd",
    b"ftp://127.0.0.1/", b"http://127.0.0.1:99999/", b"http://127.0.0.1:x/", b"\x1b[2J", b"", b"#", b"http:", b"\x7f",
)  # fmt: skip


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


#: Where an answer's end can be told in two ways, or more follows it. ``True``: its connection isn't used again.
AMBIGUOUS = {
    "length and coding": True,
    "coding twice": True,
    "chunked, chunked": True,
    "two lengths": True,
    "a length with a space before the colon": True,
    "101 headers": True,
    "80 kB in 90 lines": True,
    "interim answers, 17": True,
    "chunked by HTTP/1.0": True,
    "another protocol unasked": True,
    "204 with a body": True,
    "204 with chunks": True,
    "more than its length": True,
    "304 with a length": False,
    "a trailer": False,
    "a folded line": False,
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_is_left_of_one_answer_never_reaches_the_next(name: str, pool: SessionPool) -> None:
    """Where an answer's end can be told in two ways the connection is closed, and the next has its own answer."""
    asked: list[int] = []

    def script(connection: socket.socket, number: int) -> None:
        while read_head(connection):
            asked.append(number)
            connection.sendall(ANSWERS[name][0] if len(asked) == 1 else OK + b"Content-Length: 6\r\n\r\nproper")

    with RawServer(script) as server:
        with contextlib.suppress(requests.RequestException):
            pool.get(server.url(), timeout=1)
        for _ in range(3):
            assert pool.get(server.url()).content == b"proper"
    assert asked == ([1, 2, 2, 2] if AMBIGUOUS[name] else [1, 1, 1, 1])


def test_what_follows_an_answer_to_head_reaches_nobody(pool: SessionPool) -> None:
    """A server that sends the body all the same: its bytes are on a connection that isn't used again."""
    asked: list[bytes] = []

    def script(connection: socket.socket, _: int) -> None:
        while head := read_head(connection):
            asked.append(head)
            connection.sendall(OK + END)

    with RawServer(script) as server:
        assert pool.head(server.url()).content == b""
        assert pool.get(server.url()).content == b"body"
        assert len(server.connections) == 2


def test_a_broken_header_is_told_from_a_broken_body(pool: SessionPool) -> None:
    """What the header says of itself counts first: with a body cut or too large it is of kind ``protocol`` still."""
    for rest in (b"4\r\nbo", b"4\r\nbody\r\nzz\r\n"):
        with RawServer(
            answering(ANSWERS["length and coding"][0].split(b"\r\n\r\n")[0] + b"\r\n\r\n" + rest, close=True)
        ) as server:
            with pytest.raises(ProtocolError):
                pool.get(server.url())


def test_an_upgrade_that_was_asked_for_is_an_answer(pool: SessionPool) -> None:
    """Who sends ``Upgrade`` gets the 101 (RFC 9110 15.2.2)."""
    with RawServer(answering(b"HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\nhi", close=True)) as server:
        assert pool.get(server.url(), headers={"Upgrade": "x", "Connection": "upgrade"}).status_code == 101


@pytest.mark.parametrize("ask", ["map", "crawl"])
def test_a_redirect_to_what_is_no_url_ends_its_target_alone(ask: str, pool: SessionPool) -> None:
    """Whatever stands in ``Location``: a typed error or the answer itself, and the workers go on."""
    answers = [b"HTTP/1.1 302 F\r\nLocation: " + place + b"\r\nContent-Length: 0\r\n\r\n" for place in JUNK]

    def script(connection: socket.socket, _: int) -> None:
        while head := read_head(connection):
            number = head.split(b" ", 2)[1].strip(b"/")
            connection.sendall(answers[int(number)] if number.isdigit() and int(number) < len(answers) else OK + END)

    found: list[Any] = []
    with RawServer(script) as server:
        urls = [server.url(f"/{number}") for number in range(len(answers) + 3)]
        if ask == "map":
            found += pool.map(urls)
        else:
            pool.crawl(urls, robots=False, on_result=found.append)
        kinds = {int(one.target.url.rpartition("/")[2]): one.error_kind for one in found}
    assert len(found) == len(urls)
    assert {kinds[number] for number in range(len(answers), len(urls))} == {None}
    assert {kinds[number] for number in range(len(answers))} <= {URL, ErrorKind.REDIRECT, None}
    assert kinds[0] is URL
