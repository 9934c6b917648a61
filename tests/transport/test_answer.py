"""Header blocks: the short way makes of them what http.client's parser of e-mails makes of them."""

from __future__ import annotations

import email.parser
import http.client
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crawlpool.transport.answer import Answer, HeaderCut, parse_header, read_header

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
def test_any_header_is_what_the_parser_of_emails_makes_of_it(lines: list[bytes]) -> None:
    """Names, values, their order and what is no header at all: the same as ``http.client.parse_headers`` has."""
    text = b"".join([*lines, b"\r\n"]).decode("latin-1")
    theirs = email.parser.Parser(_class=http.client.HTTPMessage).parsestr(text)
    ours = parse_header(lines)
    assert ours.items() == theirs.items()
    if not theirs.is_multipart() and theirs.get_content_maintype() != "multipart":
        assert ours.get_payload() == theirs.get_payload()


@pytest.mark.parametrize("data", [b"", b"A: 1\r\n", b"A: 1", b"A: 1\r\nB"])
def test_a_header_that_is_cut_is_an_error(data: bytes) -> None:
    """The end of the stream is not the end of the header."""
    with pytest.raises(HeaderCut):
        read_header(io.BytesIO(data))


def test_a_header_has_bounds() -> None:
    """At most 100 lines of at most 64 KiB each."""
    with pytest.raises(http.client.LineTooLong):
        read_header(io.BytesIO(b"A: " + b"x" * 70_000 + b"\r\n\r\n"))
    with pytest.raises(http.client.HTTPException, match="100 headers"):
        read_header(io.BytesIO(b"A: 1\r\n" * 101 + b"\r\n"))
    assert len(read_header(io.BytesIO(b"A: 1\r\n" * 100 + b"\r\n")).items()) == 100


@pytest.mark.parametrize(
    ("head", "method"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", "GET"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", "HEAD"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n", "GET"),
        ("HTTP/1.1 200 OK\r\nContent-Length: five\r\n", "GET"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 5\r\n", "GET"),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n", "GET"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n", "GET"),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n", "GET"),
        ("HTTP/1.9 200 Fine  \r\n", "GET"),
        ("HTTP/1.1 204 No Content\r\n", "GET"),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n", "GET"),
        ("HTTP/1.1 101 Switching\r\n", "GET"),
    ],
)
def test_where_the_body_ends_is_found_as_http_client_finds_it(head: str, method: str) -> None:
    """Length, chunked, will_close, version and reason equal http.client's for every kind of answer."""
    data = head.encode() + b"\r\n"
    theirs = http.client.HTTPResponse(Socket(data), method=method)  # type: ignore[arg-type]
    theirs.begin()
    ours = answer_to(data, method)
    for name in ("status", "reason", "version", "length", "chunked", "will_close"):
        assert getattr(ours, name) == getattr(theirs, name), name


def test_interim_answers_are_read_past() -> None:
    """100, 102 and 103 come before the answer; 101 is one; without end they are an error (RFC 9110 15.2)."""
    interim = b"".join(b"HTTP/1.1 %d x\r\nLink: y\r\n\r\n" % status for status in (100, 102, 103))
    assert answer_to(interim + b"HTTP/1.1 200 OK\r\n\r\n").status == 200
    with pytest.raises(http.client.BadStatusLine):
        answer_to(b"HTTP/1.1 103 x\r\n\r\n" * 50)
    with pytest.raises(http.client.UnknownProtocol):
        answer_to(b"HTTP/2.0 200 OK\r\n\r\n")
