"""Answers from bytes: which headers are taken, what is made of them, and where the body ends."""

from __future__ import annotations

import email.parser
import http.client
import io
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crawlpool.transport.answer import Answer, HeaderCut, Unanswered, parse_header, read_header
from crawlpool.transport.fields import BrokenHeader

NAMES = st.one_of(
    st.sampled_from(["Content-Type", "Set-Cookie", "content-length", "Transfer-Encoding", "X", "From", "From x", ""]),
    st.text(st.characters(min_codepoint=0, max_codepoint=255, exclude_characters="\n"), max_size=12),
)
VALUES = st.one_of(
    st.sampled_from(
        ["text/html; charset=utf-8", "multipart/mixed; boundary=b", "chunked", "", " ", "a\r", "\x00", "x:y "]
    ),
    st.text(st.characters(min_codepoint=0, max_codepoint=255, exclude_characters="\n"), max_size=24),
)
LINES = st.builds(
    lambda name, sep, value, end: f"{name}{sep}{value}{end}".encode("latin-1"),
    NAMES,
    st.sampled_from([":", ": ", ":\t ", " : ", " ", ""]),
    VALUES,
    st.sampled_from(["\r\n", "\n"]),
)


class Socket:
    """What http.client asks of a socket: its bytes as a file."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def answer_to(data: bytes, method: str = "GET") -> Answer:
    answer = Answer(Socket(data), method=method)  # type: ignore[arg-type]
    answer.begin()
    return answer


@given(st.lists(LINES, max_size=6))
@example([b"A: 1\r\n", b" folded\r\n", b"B: 2\r\n"])
@example([b"A: 1\r\n", b"no colon\r\n", b"B: 2\r\n"])
@example([b"A: \r\r\n"])
def test_any_kept_header_is_what_the_parser_of_emails_makes_of_it(lines: list[bytes]) -> None:
    """Names, values, their order and what is no header at all: the same as ``http.client.parse_headers`` has."""
    text = b"".join([*lines, b"\r\n"]).decode("latin-1")
    theirs = email.parser.Parser(_class=http.client.HTTPMessage).parsestr(text)
    ours = parse_header(lines)
    assert ours.items() == theirs.items()
    if not theirs.is_multipart() and theirs.get_content_maintype() != "multipart":
        assert ours.get_payload() == theirs.get_payload()


@given(st.lists(LINES, max_size=6))
def test_a_header_that_is_taken_is_taken_as_emails_are(lines: list[bytes]) -> None:
    """What isn't refused has the names and values that http.client finds, but for lines that go on another."""
    data = b"".join([*lines, b"\r\n"])
    try:
        ours, length, coding = read_header(io.BytesIO(data))
    except http.client.HTTPException:
        return
    theirs = parse_header(lines).items()
    assert ours.items() == [(name, re.sub(r"\r?\n[ \t]+", " ", value).lstrip(" \t")) for name, value in theirs]
    for name, joined in (("content-length", length), ("transfer-encoding", coding)):
        assert joined == (", ".join(ours.get_all(name)) if name in ours else None)


@pytest.mark.parametrize("data", [b"", b"A: 1\r\n", b"A: 1", b"A: 1\r\nB"])
def test_a_header_that_is_cut_is_an_error(data: bytes) -> None:
    """The end of the stream is not the end of the header."""
    with pytest.raises(HeaderCut):
        read_header(io.BytesIO(data))


def test_a_header_has_bounds() -> None:
    """At most 100 lines, and 64 KiB of them; nothing beyond is read."""
    for size, line in ((65_536, b"A: " + b"x" * 65_531 + b"\r\n"), (65_537, b"A: " + b"x" * 65_532 + b"\r\n")):
        assert len(line) == size
        file = io.BytesIO(line + b"B: 1\r\n" * 10 + b"\r\n")
        with pytest.raises(BrokenHeader, match="64 KiB"):
            read_header(file)
        assert file.tell() <= size + 6
    assert len(read_header(io.BytesIO(b"A: " + b"x" * 65_531 + b"\r\n\r\n"))[0].items()) == 1
    with pytest.raises(BrokenHeader, match="100 headers"):
        read_header(io.BytesIO(b"A: 1\r\n" * 101 + b"\r\n"))
    assert len(read_header(io.BytesIO(b"A: 1\r\n" * 100 + b"\r\n"))[0].items()) == 100


@pytest.mark.parametrize(
    ("head", "method"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", "GET"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", "HEAD"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n", "GET"),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n", "GET"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n", "GET"),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n", "GET"),
        ("HTTP/1.1 204 No Content\r\n", "GET"),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n", "GET"),
        ("HTTP/1.1 101 Switching\r\n", "GET"),
    ],
)
def test_where_the_body_ends_is_found_as_http_client_finds_it(head: str, method: str) -> None:
    """Length, chunked, will_close, version and reason equal http.client's for every kind of sound answer."""
    data = head.encode() + b"\r\n"
    theirs = http.client.HTTPResponse(Socket(data), method=method)  # type: ignore[arg-type]
    theirs.begin()
    ours = answer_to(data, method)
    for name in ("status", "reason", "version", "length", "chunked", "will_close"):
        assert getattr(ours, name) == getattr(theirs, name), name


@pytest.mark.parametrize(
    ("head", "closes"),
    [
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n", True),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n", False),
        ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n", True),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n", True),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", False),
        ("HTTP/1.1 200 OK\r\n", True),
    ],
)
def test_where_the_end_is_in_doubt_the_connection_is_not_kept(head: str, closes: bool) -> None:
    """A 204 that announces a body, chunks by HTTP/1.0 (RFC 9112 6.1), and a body that nothing tells the end of."""
    assert answer_to(head.encode() + b"\r\n").will_close is closes


def test_interim_answers_are_read_past() -> None:
    """100, 102 and 103 come before the answer; 101 is one; more than 16 are an error (RFC 9110 15.2)."""
    interim = b"".join(b"HTTP/1.1 %d x\r\nLink: y\r\n\r\n" % status for status in (100, 102, 103))
    assert answer_to(interim + b"HTTP/1.1 200 OK\r\n\r\n").status == 200
    assert answer_to(b"HTTP/1.1 103 x\r\n\r\n" * 16 + b"HTTP/1.1 200 OK\r\n\r\n").status == 200
    with pytest.raises(BrokenHeader, match="without end"):
        answer_to(b"HTTP/1.1 103 x\r\n\r\n" * 17 + b"HTTP/1.1 200 OK\r\n\r\n")
    with pytest.raises(http.client.UnknownProtocol):
        answer_to(b"HTTP/2.0 200 OK\r\n\r\n")


def test_an_answer_that_never_began_is_told_from_one_that_did() -> None:
    """Only the first may have met a connection that the server was closing."""
    with pytest.raises(Unanswered):
        answer_to(b"")
    for begun in (b"HTTP", b"HTTP/1.1 103 x\r\n\r\n"):
        with pytest.raises(http.client.HTTPException) as caught:
            answer_to(begun)
        assert not isinstance(caught.value, Unanswered)
